"""A bash text as words and the signs between them: `;`, `&&`, `(`, `>`, ends of lines.

Owns blanks, comments and here-documents, which it drops. Words are `bash_words.py`, their grouping
`bash_statements.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qad_core.config.bash_parts import Word
from qad_core.config.bash_words import BashSyntaxError, WordReader


@dataclass(frozen=True)
class Operator:
    """A sign between words, or a line's end."""

    text: str
    line: int
    """1-based."""


Token = Word | Operator

_BLANKS = re.compile(r"(?:[ \t]|\\\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|&>>|&>|<<<|<<-|<<|<>|<&|>>|>&|>\||\|&|[;&|()<>\n]")
_HERE_DOCUMENTS = ("<<", "<<-")


def read_tokens(text: str) -> Iterator[Token]:
    """The words and operators of a bash text; raises BashSyntaxError where it ends inside of something."""
    reader = WordReader(text)
    opener: Operator | None = None
    awaited: list[tuple[Operator, str]] = []
    while _goes_on(reader):
        line = reader.line
        sign = reader.skip(_OPERATOR)
        if sign is None:
            word = reader.read_word()
            if opener is not None:
                awaited.append((opener, word.bare_text))
                opener = None
            yield word
            continue
        operator = Operator(sign, line)
        opener = operator if sign in _HERE_DOCUMENTS else None
        if sign == "\n":
            _skip_here_documents(reader, awaited)
            awaited = []
        yield operator
    _skip_here_documents(reader, awaited)


def _goes_on(reader: WordReader) -> bool:
    reader.skip(_BLANKS)
    reader.skip(_COMMENT)
    return reader.at < len(reader.text)


def _skip_here_documents(reader: WordReader, awaited: list[tuple[Operator, str]]) -> None:
    for opener, end in awaited:
        tabs = "\t*" if opener.text == "<<-" else ""
        found = re.compile(rf"^{tabs}{re.escape(end)}(?:\n|\Z)", re.MULTILINE).search(reader.text, reader.at)
        if found is None:
            raise BashSyntaxError("a here-document (<<) is not closed", opener.line)
        reader.at = found.end()
