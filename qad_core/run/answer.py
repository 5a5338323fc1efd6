"""What a process that works alone has come to, as JSON between it and the command that started it. Light."""

from __future__ import annotations

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
