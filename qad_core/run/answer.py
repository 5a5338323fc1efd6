"""What a process that works alone has come to, as JSON between it and the command that started it. Light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from qad_core.errors import ExitCode, QadError

Report = TypeVar("Report", bound=BaseModel)


class Answer(BaseModel, Generic[Report]):
    """A report, or why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    report: Report | None = None
    error: str = ""
    hint: str = ""

    def take_report(self, code: int) -> Report:
        """The report; without one, raises the QadError that the process ended with, of its exit code."""
        if self.report is not None:
            return self.report
        error = QadError(self.error, self.hint)
        error.exit_code = ExitCode(code)
        raise error


def write_answer(
    file: Path, form: type[Answer[Report]], work: Callable[[], Report], explain: Callable[[Exception], QadError | None]
) -> int:
    """Do the work, write its report to `file`, or why there is none, and return the exit code.

    What `explain` has no words for is raised: it is our own bug.
    """
    try:
        answer, code = form(report=work()), ExitCode.DONE
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        answer, code = form(error=explained.message, hint=explained.hint), explained.exit_code
    file.write_text(answer.model_dump_json(), encoding="utf-8")
    return int(code)
