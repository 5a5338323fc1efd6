"""One bash word after the other, with what it would expand to left open.

Owns quoting and the shape of `$...`. It looks up no variable and runs nothing: what could only be known by
running is an `Unread` part with its reason. What stands between words is `bash_tokens.py`.
Source of the rules: the bash reference manual, "Shell Syntax" and "Shell Parameter Expansion".
"""

from __future__ import annotations

import bisect
import re
from enum import Enum

from qad_core.config.bash_parts import Literal, Parameter, Part, PartList, Unread, Word
from qad_core.errors import ConfigError

DEEPEST_NESTING = 100
"""`${A:-${B:-...}}` and the like beyond this depth are refused; people write two or three."""


class BashSyntaxError(ConfigError):
    """Text that cannot be read on, such as a quote without an end; `line` is where that starts."""

    def __init__(self, message: str, line: int, hint: str = "Close it, or take it out.") -> None:
        super().__init__(message, hint)
        self.line = line


class _Mode(Enum):
    """Where a part of a word stands, as the characters that mean themselves there."""

    BARE = re.compile(r"""[^ \t\n;&|()<>"'\\$`~]+""")
    QUOTED = re.compile(r"""[^"\\$`]+""")
    BRACED = re.compile(r"""[^}"'\\$`~]+""")
    """The default in `${A:-default}`."""
    QUOTED_BRACED = re.compile(r"""[^}"\\$`]+""")
    """The default in `"${A:-default}"`, where `'` means itself."""

    @property
    def is_quoted(self) -> bool:
        return self in (_Mode.QUOTED, _Mode.QUOTED_BRACED)


_COMMENT = re.compile(r"#[^\n]*")
_CONTINUED = re.compile(r"(?:\\\n)*")
_NAME = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_]|\\\n)*", re.ASCII)
_BRACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:?[-=+?]|(?=\}))", re.ASCII)
_SPECIAL = re.compile(r"[0-9?$#@*!-]", re.ASCII)
_ANSI_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_BACKQUOTED = re.compile(r"`(?:[^`\\]|\\.)*`", re.DOTALL)
_OLD_ARITHMETIC = re.compile(r"\[[^]]*\]")
_BEFORE_COMMAND_SIGN = re.compile(r"""[^()'"\\$`#]+""")
_HOME_ENDS = re.compile(r"[/: \t\n;&|()<>]|\Z")
_HOME_ENDS_IN_DEFAULT = re.compile(r"[/:}]")
_HOME_NAME = re.compile(r"[A-Za-z0-9_.+-]", re.ASCII)


class WordReader:
    """A place in a text, from which words can be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._depth = 0
        self._line_ends = [found.start() for found in re.finditer("\n", text)]

    @property
    def line(self) -> int:
        """The 1-based line of this place."""
        return self.line_of(self.at)

    def line_of(self, at: int) -> int:
        """The 1-based line of an offset."""
        return bisect.bisect_left(self._line_ends, at) + 1

    def skip(self, pattern: re.Pattern[str]) -> str | None:
        """Pass over what a pattern matches here; None where it does not."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def read_word(self) -> Word:
        """The word that starts here; raises BashSyntaxError where something in it has no end."""
        line = self.line
        return Word(self._parts(_Mode.BARE), line)

    def _skip_or_fail(self, pattern: re.Pattern[str], what: str) -> None:
        if self.skip(pattern) is None:
            raise BashSyntaxError(f"{what} is not closed", self.line)

    def _next_is(self, character: str) -> bool:
        return self.text.startswith(character, self.at)

    def _parts(self, mode: _Mode) -> tuple[Part, ...]:
        """Parts up to what ends them in this mode, which is left unread."""
        start = self.at
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise BashSyntaxError("a value is nested too deeply to be read", self.line_of(start))
        parts = PartList()
        while self.at < len(self.text):
            plain = self.skip(mode.value)
            if plain is not None:
                parts.add_text(plain, quoted=mode.is_quoted)
            elif not self._add_sign(parts, mode):
                break
        self._depth -= 1
        return parts.finish()

    def _add_sign(self, parts: PartList, mode: _Mode) -> bool:
        """Read one character that means more than itself; False where it ends the parts."""
        sign = self.text[self.at]
        if sign == "\\":
            self._add_escape(parts, mode)
        elif sign == "$":
            self._add_dollar(parts, mode)
        elif sign == "`":
            self._skip_or_fail(_BACKQUOTED, "a backquote")
            parts.add(Unread("what a command in backquotes prints"))
        elif sign == "'" and not mode.is_quoted:
            parts.add_text(self._single_quoted(), quoted=True)
        elif sign == '"' and mode is not _Mode.QUOTED:
            parts.extend(self._double_quoted())
        elif sign == "~" and not mode.is_quoted:
            self._add_tilde(parts, mode)
        else:
            return False
        return True

    def _add_escape(self, parts: PartList, mode: _Mode) -> None:
        escaped = self.text[self.at + 1 : self.at + 2]
        self.at += 1 + len(escaped)
        if escaped == "\n":
            return
        if not escaped:  # bash keeps it or drops it, by what is before it
            parts.add(Unread("a backslash at the end of the file"))
            return
        kept = mode.is_quoted and escaped not in ('$`"\\}' if mode is _Mode.QUOTED_BRACED else '$`"\\')
        parts.add_text("\\" + escaped if kept else escaped, quoted=True)

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise BashSyntaxError("a single quote is not closed", self.line)
        inside = self.text[self.at + 1 : end]
        self.at = end + 1
        return inside

    def _double_quoted(self) -> tuple[Part, ...]:
        start = self.at
        self.at += 1
        inside = self._parts(_Mode.QUOTED)
        if not self._next_is('"'):
            raise BashSyntaxError("a double quote is not closed", self.line_of(start))
        self.at += 1
        return inside or (Literal("", quoted=True),)

    def _add_tilde(self, parts: PartList, mode: _Mode) -> None:
        """A `~` is the home folder at the start of a value or a default, and after each `:` of a value."""
        in_default = mode is _Mode.BRACED
        starts = parts.is_empty if in_default else parts.is_assignment_head or parts.ends_in_colon
        ends = _HOME_ENDS_IN_DEFAULT if in_default else _HOME_ENDS
        before = self.at
        self.at += 1
        self.skip(_CONTINUED)
        if in_default and parts.ends_in_colon:
            parts.add(Unread("a `~` after the `:` of a default"))
        elif starts and ends.match(self.text, self.at):
            parts.add(Parameter("HOME", "", (), quoted=True))
        elif starts and _HOME_NAME.match(self.text, self.at):
            self.skip(mode.value)
            parts.add(Unread(f"the home folder {self.text[before : self.at]}"))
        else:
            parts.add_text("~", quoted=False)

    def _add_dollar(self, parts: PartList, mode: _Mode) -> None:
        start = self.at
        self.at += 1
        self.skip(_CONTINUED)
        name = self.skip(_NAME)
        if name is not None:
            parts.add(Parameter(name.replace("\\\n", ""), "", (), quoted=mode.is_quoted))
        elif self._next_is("("):
            self._skip_command(start)
            parts.add(Unread("what a command in $(...) prints"))
        elif self._next_is("{"):
            parts.add(self._braced(start, mode))
        elif self._next_is("["):
            self._skip_or_fail(_OLD_ARITHMETIC, "$[")
            parts.add(Unread("arithmetic"))
        elif self._next_is("'") and mode is not _Mode.QUOTED:
            self._skip_or_fail(_ANSI_TEXT, "a single quote")
            parts.add(Unread("text in the quoting $'...'"))
        elif (special := self.skip(_SPECIAL)) is not None:
            parts.add(Unread(f"${special}"))
        elif not (self._next_is('"') and mode is not _Mode.QUOTED):  # $"..." is "..." but for translations
            parts.add_text("$", quoted=True)

    def _braced(self, start: int, mode: _Mode) -> Part:
        found = _BRACE.match(self.text, self.at)
        if found is None:
            self.at += 1
            self._parts(_Mode.BRACED)
            self._close_brace(start)
            return Unread("an expansion of another kind than ${A}, ${A:-x}, ${A:=x}, ${A:+x} and ${A:?x}")
        self.at = found.end()
        default = self._parts(_Mode.QUOTED_BRACED if mode.is_quoted else _Mode.BRACED) if found[2] else ()
        self._close_brace(start)
        if mode.is_quoted and _is_ambiguous(found[2], self.text[found.end() : self.at]):
            return Unread("quotes inside of quotes")
        return Parameter(found[1], found[2], default, quoted=mode.is_quoted)

    def _close_brace(self, start: int) -> None:
        if not self._next_is("}"):
            raise BashSyntaxError("${ is not closed", self.line_of(start))
        self.at += 1

    def _skip_command(self, start: int) -> None:
        """Pass over `(...)`, its quotes and nested commands; `case` with a lone `)` inside ends it too early."""
        self._depth += 1
        self.at += 1
        open_parentheses = 1
        while open_parentheses:
            self.skip(_BEFORE_COMMAND_SIGN)
            if self.at == len(self.text) or self._depth > DEEPEST_NESTING:
                raise BashSyntaxError("$( is not closed", self.line_of(start))
            sign = self.text[self.at]
            if sign in "()":
                open_parentheses += 1 if sign == "(" else -1
                self.at += 1
            elif sign == "#" and self.text[self.at - 1] in " \t\n;(":
                self.skip(_COMMENT)
            elif not self._add_sign(PartList(), _Mode.BARE):
                self.at += 1
        self._depth -= 1


def _is_ambiguous(operator: str, default: str) -> bool:
    """Whether bash reads the quotes of a default inside of quotes in ways that depend on the operator."""
    if operator.endswith(("=", "?")):
        return "'" in default or '"' in default
    return '"' in default and "\\" in default
