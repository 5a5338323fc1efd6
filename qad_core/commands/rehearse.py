"""`qad_core check --rehearse`: an experiment's layout, run shrunken on this machine's CPU before it is queued."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from qad_core.commands.outlook import explain_failure, view_runs
from qad_core.commands.output import console, error_console, print_json, print_notes
from qad_core.commands.status import print_failure
from qad_core.config.architecture import student_architecture, teacher_architecture
from qad_core.config.devices import GIB
from qad_core.config.problems import Problem
from qad_core.config.rehearsal import STEPS, Rehearsal, shrink_run
from qad_core.config.schema import RunConfig
from qad_core.errors import ConfigError, ExitCode
from qad_core.launch.ranks import output_tail
from qad_core.launch.rehearsal import OUTPUT, Stage, losses, run_rehearsal, went_on, write_folder
from qad_core.launch.requirements import require_trainer
from qad_core.run.failure import Failure
from qad_core.run.folder import RunFolder
from qad_core.run.show import count_of, show_number
from qad_core.run.store import summarize_run

NOT_REHEARSED = (
    "NCCL, the network, and the GPUs' own kernels and numerics",
    "memory and speed at the run's own sizes",
    "its weights, tokenizer and text: all are made on the spot",
)
_RANK_BYTES = 0.15 * GIB
"""Memory that a rank takes beside the `_SHARED_BYTES` of all; 32 ranks of a mixture were measured at 4.7 GiB."""
_SHARED_BYTES = 1.0 * GIB
_OF_THIS_MACHINE = {
    "disk_full": "The rehearsal writes to a temporary folder of this machine: name a larger one with TMPDIR.",
    "host_out_of_memory": "This machine ran out of memory: rehearse fewer nodes (cluster.nodes=...).",
    "killed": "Something on this machine killed it, out of memory maybe: rehearse fewer nodes (cluster.nodes=...).",
}
"""Kind of failure -> what to do where it is this machine's fault, and no advice for the run itself helps."""


@dataclass(frozen=True)
class Outcome:
    """What came of a rehearsal."""

    exit_code: int
    seconds: float
    stages: tuple[Stage, ...]
    losses: tuple[float, ...]
    failure: Failure | None = None
    error: str = ""
    """What went wrong where no failure card tells it."""
    kept: Path | None = None
    """The run folder, where it says more of what went wrong."""


@dataclass
class _Teller:
    """Prints each stage, unless the answer is to be JSON, and keeps it."""

    as_json: bool
    stages: list[Stage] = field(default_factory=list[Stage])

    def __call__(self, stage: Stage) -> None:
        self.stages.append(stage)
        if not self.as_json:
            console().print(f"{stage.seconds:8.1f} s  {stage.name}", markup=False)


def rehearse(config: RunConfig, missing: Sequence[Problem], *, as_json: bool) -> int:
    """Rehearse a config that has no problem of its own, and say how it went; the exit code.

    `missing` is what this machine lacks for the run itself, which is only told.
    Raises ConfigError when a shape is not known or the ranks do not fit into this machine's memory.
    """
    require_trainer()
    student, teacher = student_architecture(config), teacher_architecture(config)
    if student is None or teacher is None:
        hint = "Write model.architecture, or put the weights' folder with its config.json in its place."
        raise ConfigError("The model's shape is not known, so that it cannot be shrunken.", hint)
    _check_memory(config.cluster.world_size)
    folder = Path(tempfile.mkdtemp(prefix="qad-rehearsal-"))
    is_kept = False
    try:
        rehearsal = shrink_run(config, student, teacher, folder)
        if not as_json:
            _print_what(config, rehearsal)
        outcome = _run(rehearsal, write_folder(rehearsal, folder), _Teller(as_json))
        is_kept = outcome.kept is not None
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
    _answer(config, outcome, missing, as_json=as_json)
    return outcome.exit_code


def _run(rehearsal: Rehearsal, run: RunFolder, tell: _Teller) -> Outcome:
    began = time.monotonic()
    code = run_rehearsal(run, tell)
    outcome = Outcome(code, time.monotonic() - began, tuple(tell.stages), tuple(losses(run)))
    if code == ExitCode.STOPPED_EARLY:
        return dataclasses.replace(outcome, error="it was interrupted")
    if code == ExitCode.DONE:
        wrong = went_on(run, rehearsal.config.train.global_batch_size)
        if not wrong:
            return outcome
        error = f"The resumed start did not go on as it should: {wrong}."
        return dataclasses.replace(outcome, exit_code=ExitCode.BUG, error=error, kept=run.path)
    (view,), _ = view_runs([summarize_run(run.path)], endings=False)
    failure = explain_failure(view)
    if failure is None:
        error = output_tail(run.path / OUTPUT) or "the process that the ranks are forked from was killed"
        return dataclasses.replace(outcome, error=error, kept=run.path)
    advice = (_OF_THIS_MACHINE[failure.kind],) if failure.kind in _OF_THIS_MACHINE else failure.advice
    # Its changes would be to the shrunken run.
    failure = dataclasses.replace(failure, changes=(), advice=advice)
    return dataclasses.replace(outcome, failure=failure, kept=run.path)


def _check_memory(ranks: int) -> None:
    needed, free = _SHARED_BYTES + ranks * _RANK_BYTES, psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"A rehearsal of {count_of(ranks, 'rank')} takes about {needed / GIB:.0f} GiB, "
            f"and {free / GIB:.0f} GiB are free here.",
            "Rehearse fewer replicas (cluster.nodes=...), or on a machine with more memory.",
        )


def _print_what(config: RunConfig, rehearsal: Rehearsal) -> None:
    shape = rehearsal.config.model.architecture
    assert shape is not None
    experts = f", {count_of(shape.num_moe_experts, 'expert')}" if shape.num_moe_experts else ""
    console().print(
        f"Rehearsing {config.run_name}: {count_of(config.cluster.world_size, 'rank')} ({layout_words(config)}) on this"
        f" machine's CPU, {shape.family} with {count_of(shape.num_layers, 'layer')} {shape.hidden_size} wide{experts}",
        markup=False,
    )


def layout_words(config: RunConfig) -> str:
    """The layout over ranks: `TP 4 x PP 1 x DP 8, EP 8`."""
    layout = config.parallelism
    experts = layout.expert_model_parallel_size
    return (
        f"TP {layout.tensor_model_parallel_size} x PP {layout.pipeline_model_parallel_size}"
        f" x DP {config.data_parallel_size}{f', EP {experts}' if experts > 1 else ''}"
    )


def _answer(config: RunConfig, outcome: Outcome, missing: Sequence[Problem], *, as_json: bool) -> None:
    if as_json:
        data = {
            "ranks": config.cluster.world_size,
            "layout": layout_words(config),
            "exit_code": outcome.exit_code,
            "seconds": outcome.seconds,
            "stages": [dataclasses.asdict(stage) for stage in outcome.stages],
            "losses": outcome.losses,
            "not_rehearsed": NOT_REHEARSED,
            "missing_here": [dataclasses.asdict(problem) for problem in missing],
            "failure": None if outcome.failure is None else dataclasses.asdict(outcome.failure),
            "run_folder": outcome.kept,
        }
        print_json(data, _problems(outcome))
        return
    if outcome.exit_code == ExitCode.DONE:
        loss = show_number(outcome.losses[-1])
        console().print(
            f"The resumed run went on: step {STEPS} of {STEPS}, loss {loss}. {outcome.seconds:.0f} s in all.",
            markup=False,
        )
        console().print(f"Not rehearsed: {'; '.join(NOT_REHEARSED)}.", markup=False)
    elif outcome.failure is not None and outcome.kept is not None:
        print_failure(outcome.failure, summarize_run(outcome.kept))
    else:
        error_console().print(f"error: {outcome.error}", markup=False)
    if outcome.kept is not None:
        console().print(f"The rehearsal's run folder is kept: {outcome.kept}", markup=False, soft_wrap=True)
    print_notes(missing)


def _problems(outcome: Outcome) -> list[Problem]:
    if outcome.exit_code == ExitCode.DONE:
        return []
    failure = outcome.failure
    if failure is None:
        return [Problem(outcome.error, "rehearsal", "")]
    return [Problem(f"{failure.title}: {failure.message}", f"rehearsal, {failure.where}", " ".join(failure.advice))]
