"""What the commands that read runs share: which folders hold them, and a run as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from qad_core.commands.outlook import retry_command
from qad_core.config.schema import PathsConfig
from qad_core.errors import RunError
from qad_core.run.address import address
from qad_core.run.folder import RunFolder
from qad_core.run.run_paths import is_run_folder, resolve_run
from qad_core.run.store import RunSummary, summarize_run
from qad_core.seen import is_folder


def run_roots(named: Sequence[Path], environ: Mapping[str, str] | None = None) -> list[Path]:
    """Folders that hold runs: those named, else QAD_CHECKPOINT_ROOT, else the config's default."""
    environ = os.environ if environ is None else environ
    return list(named) or [Path(environ.get("QAD_CHECKPOINT_ROOT") or PathsConfig().checkpoint_root)]


def find_run(run: str, roots: Sequence[Path]) -> RunSummary:
    """One run by path or name; raises RunError with the nearest names."""
    return summarize_run(resolve_run(run, run_roots(roots)))


def find_run_folder(experiment_or_run: str, roots: Sequence[Path]) -> RunFolder | None:
    """The run's folder, where the argument is that or a run's name, and no experiment's."""
    places = [Path(experiment_or_run), *(root / experiment_or_run for root in run_roots(roots))]
    found = next((path for path in places if is_folder(path) and is_run_folder(path)), None)
    return RunFolder(found) if found is not None else None


def nothing_measured(run: RunSummary) -> RunError:
    """That a run has no number yet, and what to do about it."""
    what, look = f"Nothing has been measured yet in {run.name}", f"qad_core status {address(run.folder)}"
    if run.state == "running":
        what += ", which runs"
        hint = f"The first numbers come with its first evaluation or step; how far it is: {look}"
    elif run.state == "failed":
        what += ", which failed"
        hint = f"Why, and the way on: {look}"
    elif run.state == "foreign":
        hint = f"It has no event files below {run.folder.event_files.name}/ that could be read."
    else:
        what += f": {run.words}"
        hint = f"Whether a job of it waits: {look}; else start it: {retry_command(run, ())}"
    return RunError(f"{what}.", hint)


def run_as_json(run: RunSummary) -> dict[str, object]:
    """A run's state and newest numbers."""
    status = run.status
    return {
        "name": run.name,
        "path": run.path.absolute(),
        "state": run.state,
        "words": run.words,
        "alive": run.alive,
        "cancelled": run.cancelled,
        "phase": status.phase if status else None,
        "step": run.step,
        "train_iterations": run.train_iterations,
        "checkpoint_step": status.checkpoint_step if status else None,
        "loss": run.loss,
        "first_kl": run.first_kl,
        "last_kl": run.last_kl,
        "recovered_fraction": run.recovered,
        "tokens_per_s": run.tokens_per_s,
        "eta_seconds": run.eta_seconds,
        "updated": run.updated,
        "reason": status.reason if status else "",
        "error": status.error if status else "",
        "hint": status.hint if status else "",
        "exit_code": status.exit_code if status else None,
        "bad_lines": run.bad_lines,
    }
