"""The variables that a bash file sets, read without running it; and everything in it that was not read.

Owns which statements count: assignments, `export`, `declare -x`, `unset`, `: "${A:=x}"` and `set`. All others
are named with their line. How text becomes words is `bash_words.py`, what a value comes to `bash_expansion.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.config.bash_expansion import Surroundings, UnknownValueError, Variable, Variables
from qad_core.config.bash_parts import Assignment, Literal, Unread, Word
from qad_core.config.bash_statements import BLOCKS, Statement, read_statements
from qad_core.config.bash_tokens import Operator

_DECLARING = {"export": "n", "declare": "xg", "typeset": "xg"}
"""Commands that assign -> their options that change no value."""
_SHELL_OPTIONS = re.compile(r"[-+][abefhmuvxBCEHPTo]+")
_LONG_SHELL_OPTIONS = frozenset(
    "allexport braceexpand errexit errtrace hashall histexpand monitor noclobber noglob nounset physical pipefail"
    " posix privileged verbose xtrace".split()
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SHOWN_COMMAND = re.compile(r"[A-Za-z_.\[/][\w./+-]{0,23}|\[\[", re.ASCII)
_SPACES = "Write NAME=value without spaces, the value in quotes where it holds some."
_PLAIN_LINES = "Write plain lines `export NAME=value` for what is needed."


@dataclass(frozen=True)
class Skipped:
    """A statement that is not run; it never holds a value, which may be a secret."""

    what: str
    hint: str
    line: int


@dataclass(frozen=True)
class Assignments:
    """What a bash file sets."""

    variables: dict[str, Variable]
    """Those that are set at its end, by name."""
    skipped: tuple[Skipped, ...]
    used: frozenset[str]
    """Names that values refer to."""
    taken: dict[str, str]
    """Settings that values refer to and that came from the environment, with their values."""
    defaulted: frozenset[str]
    """Names that nothing sets, so that a default stood for them."""


def read_assignments(text: str, surroundings: Surroundings) -> Assignments:
    """Read a bash text; raises BashSyntaxError where a quote, a block or a parenthesis is not closed."""
    reader = _Reader(surroundings)
    for statement in read_statements(text):
        if not reader.read(statement):
            break
    found = reader.variables
    return Assignments(
        found.known, tuple(reader.skipped), frozenset(found.used), found.taken, frozenset(found.defaulted)
    )


class _Reader:
    def __init__(self, surroundings: Surroundings) -> None:
        self.variables = Variables(surroundings)
        self.skipped: list[Skipped] = []

    def read(self, statement: Statement) -> bool:
        """Take one statement; False where it ends the file."""
        if not statement.is_simple:
            self._skip_compound(statement)
            return True
        words = statement.words
        command, assignments = words[0].keyword, [found for word in words if (found := word.assignment)]
        if len(assignments) == len(words):
            for assignment in assignments:
                self._assign([assignment])
        elif command in _DECLARING:
            self._declare(statement, command)
        elif command == "unset":
            self._unset(words[1:])
        elif command in (":", "true"):
            self._evaluate(words[1:])
        elif command in ("return", "exit"):
            self._skip(statement, f"`{command}` ends the file: what follows is not read", "Take it out.")
            return False
        elif command != "set" or not _sets_options(words[1:]):
            self._skip_command(statement, command)
        return True

    def _assign(self, assignments: Sequence[Assignment]) -> None:
        """Set variables together: the values of all are known before the first is set."""
        values = [self.variables.evaluate(assignment) for assignment in assignments]
        for assignment, value in zip(assignments, values, strict=True):
            self.variables.assign(value, appends=assignment.appends)

    def _declare(self, statement: Statement, command: str) -> None:
        harmless = re.compile(rf"--|[-+][{_DECLARING[command]}]+")
        assignments: list[Assignment] = []
        for word in statement.words[1:]:
            assignment, text = word.assignment or word.quoted_assignment, word.keyword or ""
            if assignment is not None:
                assignments.append(_without_braces(assignment))
            elif text[:1] in ("-", "+") and not harmless.fullmatch(text):
                self._skip(statement, f"`{command} {text}` is not run", _PLAIN_LINES)
                self._forget(statement)
                return
            elif not _NAME.fullmatch(text) and not harmless.fullmatch(text):
                self._skip(statement, f"`{command}` has a word that is no NAME=value", _SPACES)
        self._assign(assignments)

    def _unset(self, words: Sequence[Word]) -> None:
        names = [word.keyword or "" for word in words]
        if names[:1] == ["-f"]:
            return
        for name, word in zip(names, words, strict=True):
            if _NAME.fullmatch(name):
                self.variables.known.pop(name, None)
            elif name != "-v":
                self.skipped.append(Skipped("`unset` has a word that is no name", "Write unset NAME.", word.line))

    def _evaluate(self, words: Sequence[Word]) -> None:
        """`: "${A:=x}"`: its words do nothing but set defaults."""
        for word in words:
            try:
                self.variables.expand(word.parts, line=word.line)
            except UnknownValueError as error:
                self.skipped.append(Skipped(f"a word after `:` is not read: {error.reason}", _PLAIN_LINES, word.line))

    def _forget(self, statement: Statement) -> None:
        """Whatever the variables of a statement were before, they are something else now."""
        found = [word.assignment for word in statement.words if word.assignment]
        self._assign([dataclasses.replace(item, value=(Unread("what is not run"),)) for item in found])

    def _skip(self, statement: Statement, what: str, hint: str) -> None:
        skipped = Skipped(what, hint, statement.line)
        if skipped not in self.skipped[-1:]:
            self.skipped.append(skipped)

    def _skip_command(self, statement: Statement, command: str | None) -> None:
        words = statement.words
        first = words[0].assignment
        if first is not None and not first.value:
            self._skip(statement, f"`{first.name}=` has a space after it, so it sets nothing", _SPACES)
        elif len(words) > 1 and words[1].bare_text.startswith("="):
            self._skip(statement, "there is a space before `=`, so it sets nothing", _SPACES)
        elif command is None or not _SHOWN_COMMAND.fullmatch(command):
            self._skip(statement, "a command is not run", _PLAIN_LINES)
        else:
            self._skip(statement, f"the command `{command}` is not run", _PLAIN_LINES)

    def _skip_compound(self, statement: Statement) -> None:
        array = _array_name(statement)
        if array is not None:
            self._forget(statement)
            self._skip(statement, f"the array {array} is not read", _PLAIN_LINES)
            return
        names = dict.fromkeys(word.assignment.name for word in statement.words if word.assignment)
        sets = f", nor what it sets: {', '.join(names)}" if names else ""
        self._skip(statement, f"{_kind_of(statement)} is not run{sets}", _PLAIN_LINES)


def _sets_options(words: Sequence[Word]) -> bool:
    """Whether the words after `set` are options, which change no variable."""
    texts = [word.keyword or "" for word in words]
    return bool(texts) and all(_SHELL_OPTIONS.fullmatch(text) or text in _LONG_SHELL_OPTIONS for text in texts)


def _without_braces(assignment: Assignment) -> Assignment:
    """After `export`, bash makes several words of `A={1,2}`."""
    if any(isinstance(part, Literal) and not part.quoted and "{" in part.text for part in assignment.value):
        return dataclasses.replace(assignment, value=(Unread("braces outside of quotes"),))
    return assignment


def _array_name(statement: Statement) -> str | None:
    """The name in `NAME=(...)` and `export NAME=(...)`."""
    tokens = statement.tokens
    first = tokens[0].keyword if isinstance(tokens[0], Word) else None
    name, sign = (*tokens[1 if first in _DECLARING else 0 :], None, None)[:2]
    if isinstance(name, Word) and name.assignment and isinstance(sign, Operator) and sign.text == "(":
        return name.assignment.name
    return None


def _kind_of(statement: Statement) -> str:
    """What to call a statement that is more than one command."""
    first, second = statement.tokens[0], statement.tokens[1] if len(statement.tokens) > 1 else None
    lines = f" (to line {statement.last_line})" if statement.last_line > statement.line else ""
    keyword = first.keyword if isinstance(first, Word) else first.text
    if keyword in BLOCKS or keyword == "(":
        return f"`{keyword}`{lines}"
    if keyword == "function" or (isinstance(second, Operator) and second.text == "("):
        return f"a function{lines}"
    return f"a command with {', '.join(_signs(statement))}"


def _signs(statement: Statement) -> list[str]:
    signs = [token.text for token in statement.tokens if isinstance(token, Operator) and token.text != "\n"]
    return [f"`{sign}`" for sign in dict.fromkeys([*signs, *(["&"] if statement.in_background else [])])]
