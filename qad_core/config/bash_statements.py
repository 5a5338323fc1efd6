"""Bash words and operators grouped into statements: up to a `;`, a line's end, or the end of an `if`, loop or function.

Owns how far each statement reaches. What it means is `bash_assignments.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qad_core.config.bash_parts import Word
from qad_core.config.bash_tokens import Operator, Token, read_tokens
from qad_core.config.bash_words import BashSyntaxError

BLOCKS = {
    "if": "fi", "while": "done", "until": "done", "for": "done", "select": "done", "case": "esac", "{": "}",
}  # fmt: skip
"""Keyword -> the keyword that ends what it begins."""
_BEFORE_COMMANDS = frozenset({"if", "while", "until", "{", "then", "else", "elif", "do", "!", "time"})
_JOINING = frozenset({"&&", "||", "|", "|&"})
_CASE_ENDS = frozenset({";;", ";&", ";;&"})


@dataclass(frozen=True)
class Statement:
    """Tokens of one statement, without the sign that ends it."""

    tokens: tuple[Token, ...]
    in_background: bool
    """Whether it ends in `&`, so that it runs in another process."""

    @property
    def line(self) -> int:
        """Line that it begins in."""
        return self.tokens[0].line

    @property
    def last_line(self) -> int:
        """Line of its last word."""
        return self.tokens[-1].line

    @property
    def words(self) -> tuple[Word, ...]:
        """All words of it."""
        return tuple(token for token in self.tokens if isinstance(token, Word))

    @property
    def is_simple(self) -> bool:
        """Whether it is one command with nothing but words, run in this process."""
        return len(self.words) == len(self.tokens) and not self.in_background


@dataclass
class _Block:
    opener: str
    closer: str
    line: int
    holds_words: bool = False
    """Whether words inside are data: elements of an array, patterns of a `case`."""


def read_statements(text: str) -> Iterator[Statement]:
    """The statements of a bash text; raises BashSyntaxError where a quote, a block or a parenthesis is not closed."""
    nesting = _Nesting()
    tokens: list[Token] = []
    for token in read_tokens(text):
        is_sign = isinstance(token, Operator)
        if is_sign and not nesting.blocks and token.text in (";", "\n", "&"):
            if token.text != "\n" and not tokens:
                raise BashSyntaxError(f"`{token.text}` has nothing before it", token.line)
            if tokens and not (token.text == "\n" and _is_joined(tokens)):
                yield Statement(tuple(tokens), token.text == "&")
                tokens = []
        else:
            tokens.append(token)
        nesting.follow(token)
    if nesting.blocks:
        block = nesting.blocks[0]
        raise BashSyntaxError(f"`{block.opener}` is not closed by `{block.closer}`", block.line)
    if tokens:
        yield Statement(tuple(tokens), in_background=False)


def _is_joined(tokens: list[Token]) -> bool:
    return bool(tokens) and isinstance(tokens[-1], Operator) and tokens[-1].text in _JOINING


class _Nesting:
    """The blocks that are open after the tokens so far."""

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self._command_may_follow = True
        self._is_function_name = False
        self._is_array_name = False

    def follow(self, token: Token) -> None:
        """Take the next token."""
        if isinstance(token, Operator):
            self._follow_sign(token)
            self._is_array_name = False
        else:
            self._follow_word(token)
            assignment = token.assignment
            self._is_array_name = assignment is not None and not assignment.value

    def _follow_sign(self, token: Operator) -> None:
        inner = self.blocks[-1] if self.blocks else None
        in_case = inner is not None and inner.closer == "esac"
        if token.text == "(":
            if inner is None or not inner.holds_words:
                self.blocks.append(_Block("(", ")", token.line, holds_words=self._is_array_name))
        elif token.text == ")":
            if inner is not None and inner.closer == ")":
                self.blocks.pop()
            elif inner is not None and in_case:
                inner.holds_words = False
        elif inner is not None and in_case and token.text in _CASE_ENDS:
            inner.holds_words = True
        self._command_may_follow = self._command_may_follow or token.text[0] not in "<>"

    def _follow_word(self, word: Word) -> None:
        inner = self.blocks[-1] if self.blocks else None
        keyword = word.keyword
        if inner is not None and inner.holds_words:
            if keyword == "esac" == inner.closer:
                self.blocks.pop()
                self._command_may_follow = False
        elif self._is_function_name:
            self._is_function_name = False
        elif self._command_may_follow:
            self._follow_command(word, keyword, inner)

    def _follow_command(self, word: Word, keyword: str | None, inner: _Block | None) -> None:
        if keyword in BLOCKS:
            self.blocks.append(_Block(keyword, BLOCKS[keyword], word.line, holds_words=keyword == "case"))
        elif inner is not None and keyword == inner.closer:
            self.blocks.pop()
        self._is_function_name = keyword == "function"
        self._command_may_follow = keyword in _BEFORE_COMMANDS or self._is_function_name
