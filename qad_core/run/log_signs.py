"""Which lines of a log speak of an error or a warning.

Owns the sign of a line, for a person who scrolls and for the jump to the first error. Unlike the failure card
(`failure_search.py`), whose words it uses, it judges each line alone and asks for no cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from qad_core.run.failure_words import TRIGGERS, kind_of_line
from qad_core.run.log_lines import LineBlock, decode_log_line, shown_line
from qad_core.run.log_scan import LogLine

Sign = Literal["", "error", "warning"]

_LOUD = re.compile(
    r"Traceback \(most recent call last\)|^error: |^(?:\[rank\d+\]: ?)?(?:\w+\.)*\w*(?:Error|Exception)\b(?::|$)"
    r"|\b(?:ERROR|CRITICAL|FATAL)\b|^\[?[EF]\d{4} \d\d:"
)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|\b\w*Warning: |^\[?W\d{4} \d\d:")
_WORDS = (*(word for word in TRIGGERS if not any(b"0" <= word[at : at + 1] <= b"9" for at in range(len(word)))),
          b"traceback", b"exception", b"critical", b"too many requests")  # fmt: skip
"""One of these, in lower case, is in every line with an error's sign; none holds a digit."""
_TEXT_WORDS = (*(word.decode() for word in _WORDS), "warn")
_ANY_WORD = re.compile("|".join(re.escape(word.decode()) for word in _WORDS))
_WARNS = re.compile(r"warn|\bw\d{4} ")
_GLOG_WARNING = re.compile(r"w\d{4} \d\d:")
_NUMBER_CHARACTERS = b"0123456789.,+-:"
_MOST_SHAPES = 20_000


def sign_of_line(text: str) -> Sign:
    """Whether a line says that something failed or may be wrong; a record that calls itself less is no error."""
    lower = text.lower()
    if _ANY_WORD.search(lower):
        line = LogLine(text, None, None)
        if not line.is_quiet and (_LOUD.search(text) or kind_of_line(text) is not None):
            return "error"
    return "warning" if _WARNS.search(lower) and _WARNING.search(text) else ""


def signs_of_lines(texts: Sequence[str]) -> list[Sign]:
    """The signs of lines that stand together, in less time than one by one: most have none of the words."""
    lowered = "\n".join(texts).lower()
    words = [word for word in _TEXT_WORDS if word in lowered]
    words += ["w"] if _GLOG_WARNING.search(lowered) else []
    if not words:
        return [""] * len(texts)
    return [sign_of_line(text) if _has_one(text.lower(), words) else "" for text in texts]


def _has_one(lower: str, words: Sequence[str]) -> bool:
    for word in words:
        if word in lower:
            return True
    return False


class ErrorLines:
    """Finds the lines with an error's sign; the lines of a log repeat, so that most need not be looked at.

    Lines that differ in their numbers only have one shape. A shape that holds none of the words is remembered.
    """

    def __init__(self) -> None:
        self._harmless: set[bytes] = set()

    def offsets_in(self, block: LineBlock) -> Iterator[int]:
        """Offsets of the lines of a block that say that something failed."""
        lines = block.lines
        shapes = block.data.lower().translate(None, _NUMBER_CHARACTERS).split(b"\n")
        unknown = set(shapes) - self._harmless
        suspicious = _with_a_word(unknown)
        self._remember(unknown - suspicious)
        if suspicious:
            yield from _judged(block, lines, shapes, suspicious)

    def _remember(self, shapes: set[bytes]) -> None:
        if len(self._harmless) + len(shapes) > _MOST_SHAPES:
            self._harmless.clear()
        self._harmless |= {shape for shape in shapes if len(shape) < 1000}


def _with_a_word(shapes: set[bytes]) -> set[bytes]:
    joined = b"\n".join(shapes)
    present = [word for word in _WORDS if word in joined]
    return {shape for shape in shapes if any(word in shape for word in present)} if present else set()


def _judged(block: LineBlock, lines: list[bytes], shapes: list[bytes], suspicious: set[bytes]) -> Iterator[int]:
    offset = block.offset
    for raw, shape in zip(lines, shapes, strict=True):
        if shape in suspicious:
            text = decode_log_line(raw, block.dropped) if block.dropped else shown_line(raw)
            if sign_of_line(text) == "error":
                yield offset
        offset += len(raw) + 1
