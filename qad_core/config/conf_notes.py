"""What is not carried over from a `.conf`, one note each with its line.

Owns the wording. A note never holds the value of a variable that is no setting, since it may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qad_core.config.bash_assignments import Assignments
from qad_core.config.bash_expansion import Variable
from qad_core.config.conf_settings import place_of
from qad_core.config.conf_variables import READABLE, Reason, reason_for, unknown_reason
from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.problems import Problem


def left_out(found: Assignments, environ: Mapping[str, str], name: str) -> list[Problem]:
    """Statements and variables of the file `name` in the order of their lines, then what came from outside of it."""
    noted = [(item.line, Problem(item.what, place_of(name, item.line), item.hint)) for item in found.skipped]
    for variable in found.variables.values():
        note = _note_on(variable, name, is_used=variable.name in found.used)
        noted += [(variable.line, note)] if note else []
    return [*(note for _, note in sorted(noted, key=lambda item: item[0])), *_from_outside(found, environ, name)]


def _note_on(variable: Variable, name: str, *, is_used: bool) -> Problem | None:
    """None for a variable that is carried over, is empty, or only helps others that are."""
    is_known = variable.text is not None
    key, listed = ENVIRONMENT_KEYS.get(variable.name), reason_for(variable.name)
    if variable.text == "" or (is_known and (key is not None or (listed is None and is_used))):
        return None
    if key is not None:
        listed = Reason(variable.reason, f"Write its value out, or set {key}.")
    elif listed is None:
        listed = unknown_reason(variable.name) if is_known else Reason(variable.reason, "Write its value out.")
    return Problem(f"{variable.name} is not carried over: {listed.why}", place_of(name, variable.line), listed.hint)


def _from_outside(found: Assignments, environ: Mapping[str, str], name: str) -> Iterator[Problem]:
    for variable, value in found.taken.items():
        what = f"{variable} is taken from the environment: {value}"
        yield Problem(what, name, "Write it into the file to have the same everywhere.")
    for variable in sorted(found.defaulted - READABLE):
        if environ.get(variable):
            what = f"{variable} is not read from the environment, so its default in the file counts"
            yield Problem(what, name, "Write its value into the file where the default is not meant.")
