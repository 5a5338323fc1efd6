"""What a bash value comes to, given the variables that are known; a value that cannot be known says why.

Owns the look-up order and the meaning of `${A:-x}` and its kin. It runs nothing, and puts no secret into a value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from qad_core.config.bash_parts import Assignment, Literal, Parameter, Part, Unread

LONGEST_VALUE = 131_072
"""Characters; Linux hands a program no longer variable (MAX_ARG_STRLEN)."""
SET_BY_BASH = frozenset(
    "BASH BASHPID BASH_SOURCE BASH_VERSION EUID FUNCNAME GROUPS HOSTNAME HOSTTYPE IFS LINENO MACHTYPE OLDPWD OPTIND"
    " OSTYPE PATH PPID PWD RANDOM SECONDS SHELL SHLVL UID".split()
)
"""Variables that are set in every bash, to something that only it knows."""


class UnknownValueError(Exception):
    """A value that depends on what is not read; `reason` follows "it takes in" or stands by itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Variable:
    """A variable after the assignment that counts."""

    name: str
    text: str | None
    """None where the value cannot be known."""
    line: int
    reason: str = ""
    """Why the value cannot be known."""


@dataclass(frozen=True)
class Surroundings:
    """What a file's variables meet outside of it."""

    environ: Mapping[str, str]
    """The process's variables that may be read."""
    settings: Collection[str]
    """Variables whose own value in the environment counts more than the file's, once the file is loaded."""
    environment_first: bool
    """Whether another variable that refers to a setting takes the environment's value, as a load does."""
    is_secret: Callable[[str], bool]
    """Whether a variable's value must not get into another."""


class Variables:
    """The variables of a file while it is read from the top down."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.known: dict[str, Variable] = {}
        self.used: set[str] = set()
        """Names that values refer to."""
        self.taken: dict[str, str] = {}
        """Settings that came from the environment, with their values."""
        self.defaulted: set[str] = set()
        """Names that nothing sets, so that a default stands for them."""
        self._around = surroundings

    def evaluate(self, assignment: Assignment) -> Variable:
        """What an assignment would make of its variable; an appended text alone for `+=`."""
        name, line = assignment.name, assignment.line
        if self._around.is_secret(name):
            return Variable(name, None, line, "it is a secret")
        try:
            return Variable(name, self.expand(assignment.value, name, line), line)
        except UnknownValueError as error:
            return Variable(name, None, line, error.reason)

    def assign(self, variable: Variable, *, appends: bool) -> None:
        """Set a variable to a value, or append the value to what it is."""
        if appends and variable.text is not None:
            addition = (Literal(variable.text, quoted=True),)
            before = Parameter(variable.name, "", (), quoted=True)
            variable = self.evaluate(Assignment(variable.name, False, (before, *addition), variable.line))
        self.known[variable.name] = variable

    def expand(self, parts: Iterable[Part], assigned: str = "", line: int = 0) -> str:
        """The text of a value for the variable `assigned`; raises UnknownValueError."""
        texts: list[str] = []
        length = 0
        for text in self._texts(parts, assigned, line):
            length += len(text)
            if length > LONGEST_VALUE:
                raise UnknownValueError(f"it is longer than the {LONGEST_VALUE} characters of an environment variable")
            texts.append(text)
        return "".join(texts)

    def _texts(self, parts: Iterable[Part], assigned: str, line: int) -> Iterator[str]:
        for part in parts:
            if isinstance(part, Unread):
                raise UnknownValueError(f"it takes in {part.what}")
            yield part.text if isinstance(part, Literal) else self._parameter(part, assigned, line)

    def _parameter(self, part: Parameter, assigned: str, line: int) -> str:
        value = self._find(part.name, assigned)
        sign, empty_counts = part.operator[-1:], ":" not in part.operator
        is_set = value is not None and (empty_counts or value != "")
        if sign == "+":
            return self.expand(part.default, assigned, line) if is_set else ""
        if sign == "=":
            self._assign_default(part, line, empty_counts=empty_counts)
            value = self._find(part.name, assigned)
        elif sign == "-" and not is_set:
            if value is None:
                self.defaulted.add(part.name)
            return self.expand(part.default, assigned, line)
        if value is None or (sign == "?" and not is_set):
            raise UnknownValueError(f"it takes in {part.name}, which has no value here")
        return value

    def _assign_default(self, part: Parameter, line: int, *, empty_counts: bool) -> None:
        own = self._find(part.name, part.name)
        if own is None:
            self.defaulted.add(part.name)
        if own is None or (own == "" and not empty_counts):
            text = self.expand(part.default, part.name, line)
            self.known[part.name] = Variable(part.name, text, line)

    def _find(self, name: str, assigned: str) -> str | None:
        """The value of a variable, None where it is not set; raises UnknownValueError where it cannot be known."""
        self.used.add(name)
        if self._around.is_secret(name):
            raise UnknownValueError(f"it takes in the secret {name}")
        outside = None if name == assigned and name in self._around.settings else self._around.environ.get(name)
        own = self.known.get(name)
        is_setting = name in self._around.settings
        if outside is not None and (own is None or (is_setting and self._around.environment_first)):
            if is_setting:
                self.taken[name] = outside
            return outside
        if own is not None and own.text is None:
            raise UnknownValueError(f"it takes in {name}, whose value is not known")
        if own is None and name in SET_BY_BASH:
            raise UnknownValueError(f"it takes in {name}, which only a running bash knows")
        return None if own is None else own.text
