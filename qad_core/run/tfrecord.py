"""Bytes of a TensorBoard event file -> scalars: TFRecord frames around Event messages, without TensorFlow.

Owns the wire format. A record is its length (8 bytes), the length's checksum (4), the message, the message's checksum
(4); all little-endian. The length's checksum is tested on each record, which is what tells a broken file from one that
is still being written; the message's is not, as it costs ten times as much as all else.
Sources: tensorflow/core/lib/io/record_writer.h, and event.proto, summary.proto, tensor.proto of tensorflow/core.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

Scalar = tuple[int, float, str, float]
"""Step, Unix time, tag, value."""
HEADER_BYTES, FOOTER_BYTES = 12, 4
_LOW_BYTES, _HIGH_BYTES = 3, b"\0" * 5
"""Of the length of a record below 16 MiB."""
_FIELD_TIME, _FIELD_STEP, _FIELD_SUMMARY = 1, 2, 5
_FIELD_VALUE, _FIELD_TAG, _FIELD_SIMPLE_VALUE, _FIELD_TENSOR = 1, 1, 2, 8
_FIELD_CONTENT, _FIELD_FLOATS, _FIELD_DOUBLES = 4, 5, 6
_FIELD_DTYPE, _DTYPE_LAYOUTS = 1, {1: "<f", 2: "<d"}
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class BrokenRecordError(Exception):
    """The bytes at `offset` are no record."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"no record at byte {offset}")
        self.offset = offset


@dataclass
class ScalarParser:
    """Takes the scalars out of records; keeps what it has learnt of their layout, which repeats."""

    _good_headers: set[bytes] = field(default_factory=set[bytes])
    _simple: dict[bytes, str] = field(default_factory=dict[bytes, str])
    """What stands between the step and the value of a message with one simple value -> its tag."""

    def parse(self, data: bytes, scalars: list[Scalar]) -> int:
        """Append the scalars of the whole records in `data`; return the bytes these take.

        Raises BrokenRecordError, with what came before in `scalars`.
        """
        start = 0
        while start + HEADER_BYTES <= len(data):
            header = data[start : start + HEADER_BYTES]
            if header not in self._good_headers:
                self._check(header, start)
            length = int.from_bytes(header[:8], "little")
            first = start + HEADER_BYTES
            if first + length + FOOTER_BYTES > len(data):
                break
            self._parse_message(data[first : first + length], scalars, start)
            start = first + length + FOOTER_BYTES
        return start

    def _check(self, header: bytes, start: int) -> None:
        if masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
            raise BrokenRecordError(start)
        self._good_headers.add(header)

    def _parse_message(self, message: bytes, scalars: list[Scalar], start: int) -> None:
        if message[:1] == b"\x09" and message[9:10] == b"\x10":
            step, end = read_varint(message, 10)
            tag = self._simple.get(message[end:-4])
            if tag is not None:
                (time,) = struct.unpack_from("<d", message, 1)
                (value,) = struct.unpack_from("<f", message, len(message) - 4)
                scalars.append((step, time, tag, value))
                return
            self._learn(message[end:])
        try:
            scalars += parse_event(message)
        except (ValueError, IndexError, struct.error) as error:
            raise BrokenRecordError(start) from error

    def _learn(self, summary: bytes) -> None:
        """Remember a summary of one value of two fields, tag and simple value, by all but its last four bytes."""
        if summary[:1] != b"\x2a" or summary[-5:-4] != b"\x15":
            return
        length, first = read_varint(summary, 1)
        value_length, value_first = read_varint(summary, first + 1)
        tag_length, tag_first = read_varint(summary, value_first + 1)
        ends = (first + length, value_first + value_length, tag_first + tag_length + 5)
        if set(ends) == {len(summary)} and summary[first] == 0x0A and summary[value_first] == 0x0A:
            self._simple[summary[:-4]] = summary[tag_first : tag_first + tag_length].decode(errors="replace")


def find_record(data: bytes) -> int | None:
    """Where the first record begins in bytes from the middle of a file; None where none does."""
    zeros = data.find(_HIGH_BYTES, _LOW_BYTES)
    while zeros >= 0:
        header = data[zeros - _LOW_BYTES : zeros - _LOW_BYTES + HEADER_BYTES]
        if len(header) == HEADER_BYTES and masked_crc32c(header[:8]) == int.from_bytes(header[8:], "little"):
            return zeros - _LOW_BYTES
        zeros = data.find(_HIGH_BYTES, zeros + 1)
    return None


def parse_event(message: bytes) -> list[Scalar]:
    """The scalars of one Event message: simple values, and tensors of one float or double.

    Raises ValueError, IndexError or struct.error for bytes that are no message.
    """
    time, step = 0.0, 0
    summaries: list[bytes] = []
    for number, value in read_fields(message):
        if number == _FIELD_TIME and isinstance(value, bytes):
            (time,) = struct.unpack("<d", value)
        elif number == _FIELD_STEP and isinstance(value, int):
            step = value
        elif number == _FIELD_SUMMARY and isinstance(value, bytes):
            summaries.append(value)
    values = [value for summary in summaries for number, value in read_fields(summary) if number == _FIELD_VALUE]
    found = [_parse_value(value) for value in values if isinstance(value, bytes)]
    return [(step, time, *each) for each in found if each is not None]


def _parse_value(message: bytes) -> tuple[str, float] | None:
    tag, scalar = "", None
    for number, value in read_fields(message):
        if not isinstance(value, bytes):
            continue
        if number == _FIELD_TAG:
            tag = value.decode(errors="replace")
        elif number == _FIELD_SIMPLE_VALUE:
            (scalar,) = struct.unpack("<f", value)
        elif number == _FIELD_TENSOR:
            scalar = _parse_tensor(value)
    return None if scalar is None else (tag, scalar)


def _parse_tensor(message: bytes) -> float | None:
    layout, content = "", b""
    for number, value in read_fields(message):
        if number == _FIELD_DTYPE and isinstance(value, int):
            layout = _DTYPE_LAYOUTS.get(value, "")
        elif number in (_FIELD_CONTENT, _FIELD_FLOATS, _FIELD_DOUBLES) and isinstance(value, bytes):
            content += value
    if not layout or len(content) != struct.calcsize(layout):
        return None
    (scalar,) = struct.unpack(layout, content)
    return float(scalar)


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field of a protobuf message; raises ValueError where it is none."""
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = read_varint(message, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, position = read_varint(message, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no such kind of field: {kind}")
        if position + length > len(message):
            raise ValueError("a field ends behind its message")
        yield key >> 3, message[position : position + length]
        position += length


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position and the position behind it; signed 64 bits. Raises IndexError at the end of the data."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= 2**64 - 1
            return (value - 2**64 if value >= 2**63 else value), position
        shift += 7


def _crc32c_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return tuple(table)


_CRC32C = _crc32c_table()


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of the bytes, masked as TFRecord files store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
