"""What a bash word is made of: text, parameters, and what cannot be known without running something.

Owns the types and the merging of neighbouring texts. Cutting text into words is `bash_words.py`,
looking parameters up is `bash_expansion.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=", re.ASCII)


@dataclass(frozen=True)
class Literal:
    """Text that means itself."""

    text: str
    quoted: bool
    """Whether quotes or a backslash keep it from being a keyword or a pattern."""


@dataclass(frozen=True)
class Parameter:
    """`$A`, `${A}` or `${A:-default}`."""

    name: str
    operator: str
    """Empty, or `-`, `=`, `+`, `?`, each with or without a `:` before it."""
    default: tuple[Part, ...]
    """What follows the operator."""
    quoted: bool


@dataclass(frozen=True)
class Unread:
    """Something whose text only running or asking the system could tell."""

    what: str
    """In words that follow "it takes in"."""


Part = Literal | Parameter | Unread


@dataclass(frozen=True)
class Assignment:
    """`A=value` or `A+=value`."""

    name: str
    appends: bool
    value: tuple[Part, ...]
    line: int


@dataclass(frozen=True)
class Word:
    """One word as written, and the 1-based line that it starts in."""

    parts: tuple[Part, ...]
    line: int

    @property
    def keyword(self) -> str | None:
        """The text of a word without quotes or expansions, which may be a keyword or the name of a command."""
        only = self.parts[0] if len(self.parts) == 1 else None
        return only.text if isinstance(only, Literal) and not only.quoted else None

    @property
    def bare_text(self) -> str:
        """The word's text without its quotes, expansions left out."""
        return "".join(part.text for part in self.parts if isinstance(part, Literal))

    @property
    def assignment(self) -> Assignment | None:
        """The assignment that this word is, by an unquoted `NAME=` at its start."""
        first = self.parts[0] if self.parts else None
        return self._assignment(first) if isinstance(first, Literal) and not first.quoted else None

    @property
    def quoted_assignment(self) -> Assignment | None:
        """As `assignment`, for a word that is quoted whole: `export "A=x"`."""
        first = self.parts[0] if self.parts else None
        whole = all(not isinstance(part, Unread) and part.quoted for part in self.parts)
        return self._assignment(first) if isinstance(first, Literal) and whole else None

    def _assignment(self, first: Literal) -> Assignment | None:
        found = ASSIGNMENT.match(first.text)
        if found is None:
            return None
        rest = first.text[found.end() :]
        head = (Literal(rest, first.quoted),) if rest else ()
        return Assignment(found[1], bool(found[2]), (*head, *self.parts[1:]), self.line)


class PartList:
    """Parts in the making; neighbouring texts of one kind become one part, in linear time."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._texts: list[str] = []
        self._quoted = False

    def add_text(self, text: str, *, quoted: bool) -> None:
        """Add text that means itself."""
        if self._texts and quoted != self._quoted:
            self._flush()
        self._quoted = quoted
        self._texts.append(text)

    def add(self, part: Part) -> None:
        """Add one part."""
        if isinstance(part, Literal):
            self.add_text(part.text, quoted=part.quoted)
        else:
            self._flush()
            self._parts.append(part)

    def extend(self, parts: Iterable[Part]) -> None:
        """Add parts in their order."""
        for part in parts:
            self.add(part)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self._texts and not self._parts

    @property
    def ends_in_colon(self) -> bool:
        """Whether an unquoted `:` was added last."""
        return bool(self._texts) and not self._quoted and self._texts[-1].endswith(":")

    @property
    def is_assignment_head(self) -> bool:
        """Whether all so far is `NAME=`."""
        return (
            not self._parts
            and not self._quoted
            and len(self._texts) == 1
            and ASSIGNMENT.fullmatch(self._texts[0]) is not None
        )

    def finish(self) -> tuple[Part, ...]:
        """All parts so far."""
        self._flush()
        return tuple(self._parts)

    def _flush(self) -> None:
        if self._texts:
            self._parts.append(Literal("".join(self._texts), self._quoted))
            self._texts = []
