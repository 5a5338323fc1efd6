"""The commands that start the run of a form, and what they will do by their own word.

Pure but for the commands that it runs, in a thread. No Textual.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qad_core.launch.submission import LinkPlan
from qad_tui.form_model import FormModel
from qad_tui.headless import Answer, command_line

PATIENCE_SECONDS = 60
"""How long a submission from the screen waits for a controller that is silent."""


@dataclass(frozen=True)
class ChainOptions:
    """How a run is put into the queue, as it was typed."""

    links: str = "1"
    until_done: bool = False
    pace: str = ""
    """Seconds an iteration, to plan with; empty takes the run's own."""
    after: str = ""
    """`singleton`, or `afterok:JOB`."""


def train_arguments(form: FormModel) -> tuple[str, ...]:
    """`qad_core train` for a form."""
    return ("train", form.experiment, *form.overrides, *(["--fresh"] if form.fresh else []))


def submit_arguments(form: FormModel, options: ChainOptions) -> tuple[str, ...]:
    """`qad_core submit` for a form."""
    count = ["--until-done"] if options.until_done else ["--links", options.links.strip() or "1"]
    pace = ["--seconds-per-iteration", options.pace.strip()] if options.pace.strip() else []
    after = ["--after", options.after] if options.after else []
    fresh = ["--fresh"] if form.fresh else []
    return ("submit", form.experiment, *form.overrides, *count, *pace, *after, *fresh)


def describe_dry_run(answer: Answer) -> str:
    """The calls and the script of `submit --dry-run --json`; the token of the chain is made anew at the submission."""
    data: Mapping[str, Any] = answer.data
    path = str(data["script_path"])
    plans = [LinkPlan(link["link"], str(link["comment"]).removeprefix("qad:"), link["after"]) for link in data["links"]]
    calls: list[str] = []
    for plan in plans:
        dependency = plan.dependency_on([f"JOB_OF_LINK_{number}" for number in range(1, plan.number)])
        after = [f"--dependency={dependency}", "--kill-on-invalid-dep=no"] if dependency else []
        calls.append(f"$ {shlex.join(['sbatch', '--parsable', f'--comment={plan.comment}', *after, path])}")
    return "\n".join([*calls, "", f"# {path}", str(data["script"])])


def command_words(arguments: tuple[str, ...]) -> str:
    """The command as one would type it."""
    return f"$ {command_line(arguments)}"
