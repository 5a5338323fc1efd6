"""Text to token ids as an array, by tiktoken where it gives the very tokens of the model's own tokenizer.

Owns the choice between the two. The tokenizers library is the reference; tiktoken is several times
quicker and knows one form: byte-level BPE whose words are cut out by one regular expression (Qwen,
Llama 3). Whether both agree is not assumed: before its first use every assigned character is put to both
in the places where a regular expression may class it, and a text with a character that they take
differently goes to the reference.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np

from qad_core.models.tokenizer import Tokenizer, TransformersTokenizer

CHARACTERS_PER_PROBE = 256
FIRST_IDEOGRAPH = 0x3400
UNASSIGNED = ("Cn", "Co", "Cs")
"""Categories of characters that are not put to the test: a later Unicode than ours may class them."""


class Encoder(Protocol):
    """Text to token ids."""

    def encode(self, text: str) -> np.ndarray:
        """Token ids, integers [tokens]."""
        ...


class ReferenceEncoder:
    """The tokenizer itself."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int64 [tokens]."""
        return np.asarray(self._tokenizer.encode(text), dtype=np.int64)


class FastEncoder:
    """tiktoken, and the tokenizer itself for texts with characters that tiktoken takes differently."""

    def __init__(self, tokenizer: Tokenizer, encoding: Any, unsafe: Iterable[int]) -> None:
        """`unsafe` are code points."""
        self._reference = ReferenceEncoder(tokenizer)
        self._encoding = encoding
        self._unsafe = re.compile(f"[{_ranges(sorted(unsafe))}]")

    def encode(self, text: str) -> np.ndarray:
        """Token ids, integers [tokens], those of the tokenizer."""
        if not text.isascii() and (not unicodedata.is_normalized("NFC", text) or self._unsafe.search(text)):
            return self._reference.encode(text)
        try:
            return self._encoding.encode_to_numpy(text, allowed_special="all")
        except ValueError:  # its regular expressions give up on long runs of line ends
            return self._reference.encode(text)


def choose_encoder(tokenizer: Tokenizer) -> Encoder:
    """The quickest way to the tokenizer's own tokens; takes some seconds, to find out that they are."""
    definition = tokenizer.definition if isinstance(tokenizer, TransformersTokenizer) else None
    pattern = None if definition is None else find_pattern(definition)
    if definition is None or pattern is None:
        return ReferenceEncoder(tokenizer)
    encoding = _build_encoding(definition, pattern)
    unsafe = find_differences(tokenizer, encoding)
    # What is not right for plain English is not the same tokenizer.
    return ReferenceEncoder(tokenizer) if min(unsafe) < 128 else FastEncoder(tokenizer, encoding, unsafe)


def find_pattern(definition: Mapping[str, Any]) -> str | None:
    """The regular expression that cuts words out, where a tokenizer.json is of tiktoken's form; else None."""
    model, pre = definition["model"], definition["pre_tokenizer"] or {}
    steps = pre.get("pretokenizers", [])
    is_form = (
        model["type"] == "BPE"
        and not any(model.get(key) for key in ("dropout", "byte_fallback", "continuing_subword_prefix"))
        and (definition["normalizer"] or {"type": "NFC"})["type"] == "NFC"
        and [step["type"] for step in steps] == ["Split", "ByteLevel"]
        and (steps[0]["behavior"], steps[0]["invert"]) == ("Isolated", False)
        and (steps[1]["add_prefix_space"], steps[1]["use_regex"]) == (False, False)
        and not any(token[key] for token in definition["added_tokens"] for key in ("single_word", "lstrip", "rstrip"))
        and _merges_are_in_order(model)
    )
    return steps[0]["pattern"].get("Regex") if is_form else None


def find_differences(tokenizer: Tokenizer, encoding: Any) -> set[int]:
    """Code points that the two take differently, and those that are not assigned yet."""
    unsafe = {point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point)) in UNASSIGNED}
    assigned = [point for point in range(sys.maxunicode + 1) if point not in unsafe]
    for start in range(0, len(assigned), CHARACTERS_PER_PROBE):
        points = assigned[start : start + CHARACTERS_PER_PROBE]
        if not _agree(tokenizer, encoding, points):
            unsafe |= {point for point in points if not _agree(tokenizer, encoding, [point])}
    return unsafe


def _agree(tokenizer: Tokenizer, encoding: Any, points: Sequence[int]) -> bool:
    """Whether both make the same of characters alone, in words, beside digits, marks, spaces and line ends."""
    text = unicodedata.normalize("NFC", "".join(map(_probe, points)))
    return tokenizer.encode(text) == encoding.encode(text, allowed_special="all")


def _probe(point: int) -> str:
    c = chr(point)
    # Four of five assigned characters are Han or Hangul, which nothing tells apart: a word and its end is enough.
    is_ideograph = point >= FIRST_IDEOGRAPH and unicodedata.category(c) == "Lo"
    return f"{c}1" if is_ideograph else f"{c}a{c}b '{c} {c}1.{c}{c}\n{c}\n"


def _build_encoding(definition: Mapping[str, Any], pattern: str) -> Any:
    import tiktoken

    letters = _letters_of_bytes()
    vocabulary = cast("dict[str, int]", definition["model"]["vocab"])
    return tiktoken.Encoding(
        "tokenizer.json",
        pat_str=pattern,
        mergeable_ranks={bytes(letters[letter] for letter in token): rank for token, rank in vocabulary.items()},
        special_tokens={token["content"]: token["id"] for token in definition["added_tokens"]},
    )


def _merges_are_in_order(model: Mapping[str, Any]) -> bool:
    """Whether a merge's rank is that of the token that it makes, as tiktoken takes it."""
    made = [model["vocab"].get("".join(merge)) for merge in model["merges"] if isinstance(merge, list)]
    return len(made) == len(model["merges"]) > 0 and None not in made and made == sorted(made)


def _letters_of_bytes() -> dict[str, int]:
    """Letter of byte-level BPE -> byte (GPT-2's table): printable bytes are themselves, the others follow U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _ranges(points: Sequence[int]) -> str:
    """A character class of sorted code points."""
    ranges: list[list[int]] = []
    for point in points:
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
