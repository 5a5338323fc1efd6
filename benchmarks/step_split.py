"""Where the time of one distillation step goes: `python -m benchmarks.step_split [key=value ...]`.

Builds the real session of an experiment (the demo's unless named) in this process, in a run folder that is
thrown away, takes its steps as they are, then as many with timers around their parts, and prints the medians.
On a GPU the timers wait for it at each change of part, so nothing overlaps there; the line without timers is
what a step really takes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from megatron.core.pipeline_parallel import schedules
from modelopt.torch.quantization.nn import TensorQuantizer

from benchmarks.figure import Figure, print_figure
from benchmarks.phase_timer import PhaseTimer, PhaseTimes
from qad_core.commands.output import console, error_console
from qad_core.config.load import ResolvedConfig, dump_resolved, load_experiment
from qad_core.errors import ConfigError, OutsideError, QadError
from qad_core.launch.plan import make_plan
from qad_core.run.folder import RunFolder
from qad_core.train import loop
from qad_core.train.distill import unwrap
from qad_core.train.parallel import initialize_parallel, shut_down_parallel
from qad_core.train.report import Reporter, memory_gib
from qad_core.train.session import Session, build_session
from qad_core.train.step_lines import StepLines

WARM_UP_STEPS = 3
REST = "everything else"
PHASES = (
    "teacher forward", "student forward", "fake quant of activations", "fake quant of weights",
    "loss and its gradient", "backward", "gradient reduction", "optimizer", "clearing gradients", REST,
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """What was measured of one session's steps."""

    plain_seconds: list[float]
    """Each step without timers."""
    timed: list[PhaseTimes]
    """Each step with timers."""
    tokens: int
    """Tokens a step."""
    peak_memory_gib: float
    """Of this process: allocated on the GPU, or resident on a CPU."""
    device: str
    threads: int
    dtype: str
    model: str


def main() -> int:
    """Measure, and print the table and, with --json, write it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--experiment", default="demo")
    parser.add_argument("--root", type=Path, default=Path("runs/figures"), help="its data cache is used")
    parser.add_argument("--steps", type=int, default=12, help="steps measured without timers, and again with them")
    parser.add_argument("--json", type=Path, help="file to write the figure to")
    arguments = parser.parse_args()
    cache = arguments.root.absolute() / "data_cache"
    try:
        resolved = load_experiment(arguments.experiment, [*arguments.overrides, f"paths.data_cache={cache}"])
        with contextlib.redirect_stdout(sys.stderr):  # the trainer's log stays in sight, apart from the table
            figure = describe_split(measure_split(resolved, arguments.steps))
    except QadError as error:
        error_console().print(f"error: {error}", markup=False)
        return error.exit_code
    print_figure(figure, console())
    if arguments.json:
        arguments.json.write_text(figure.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def measure_split(resolved: ResolvedConfig, steps: int) -> Split:
    """Build the session and take its steps.

    Raises ConfigError for a config of several ranks or with too few steps, OutsideError when its tokens
    cannot be prepared.
    """
    config = resolved.config
    check_measurable(resolved, steps)
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.config.write_text(dump_resolved(resolved), encoding="utf-8")
        prepare_tokens(resolved, folder)
        context = initialize_parallel(
            config.parallelism,
            device=config.cluster.device,
            precision=config.train.precision,
            seed=config.train.seed,
        )
        session = build_session(config, context, folder, Reporter(folder, config, rank=0, started=time.time()))
        plain: list[float] = []
        with StepLines(lambda line: plain.append((line["step_ms"] or 0.0) / 1000)) as lines:
            for _ in range(WARM_UP_STEPS + steps):
                lines.add(loop.queue_step(session))
        split = Split(
            plain_seconds=plain[WARM_UP_STEPS:],
            timed=time_phases(session, steps),
            tokens=config.train.global_batch_size * config.train.sequence_length,
            peak_memory_gib=memory_gib(context.device),
            device=torch.cuda.get_device_name(context.device) if context.device.type == "cuda" else "CPU",
            threads=torch.get_num_threads(),
            dtype=str(context.params_dtype).removeprefix("torch."),
            model=config.model.name,
        )
        shut_down_parallel()
    return split


def check_measurable(resolved: ResolvedConfig, steps: int) -> None:
    """Raise ConfigError for what cannot be measured in one process."""
    config, needed = resolved.config, WARM_UP_STEPS + 2 * steps
    if config.cluster.world_size != 1:
        raise ConfigError(
            f"the experiment has {config.cluster.world_size} ranks, but the split is measured in one process",
            "Add parallelism=one-rank cluster=local.",
        )
    if steps < 1 or config.train.train_iterations < needed:
        raise ConfigError(
            f"--steps {steps} takes {needed} steps in all, but the experiment has {config.train.train_iterations}",
            f"Give 1 or more, or add train.train_samples={needed * config.train.global_batch_size}.",
        )


def prepare_tokens(resolved: ResolvedConfig, folder: RunFolder) -> None:
    """Make the tokens where they are not there, as a run's start does; raises OutsideError when that fails."""
    prepare = make_plan(resolved.config, folder.path, os.environ).prepare
    if prepare is not None and subprocess.run(prepare, stdout=sys.stderr).returncode != 0:
        raise OutsideError("the tokens could not be prepared", "The output above says why.")


def time_phases(session: Session, steps: int) -> list[PhaseTimes]:
    """Put timers around the parts of the session's steps, for the rest of this process, and take `steps` of them."""
    timer = PhaseTimer(torch.cuda.synchronize if session.context.device.type == "cuda" else lambda: None)
    watch_modules(session, timer)
    watch_functions(session, timer)
    queue_step = timer.wrap(REST, loop.queue_step)
    timed: list[PhaseTimes] = []
    for _ in range(steps):
        queue_step(session)
        timed.append(timer.take())
    return timed


def watch_modules(session: Session, timer: PhaseTimer) -> None:
    """Timers around the forward passes of student, teacher and quantizers."""
    model = unwrap(session.model)
    watched = {"student forward": [model], "teacher forward": [model.teacher_model]}
    for kind, name in (("activations", "input_quantizer"), ("weights", "weight_quantizer")):
        watched[f"fake quant of {kind}"] = quantizers_named(model, name)
    for phase, modules in watched.items():
        for module in modules:
            module.register_forward_pre_hook(lambda *_, phase=phase: timer.start(phase))
            module.register_forward_hook(lambda *_: timer.stop())


def quantizers_named(model: torch.nn.Module, name: str) -> list[torch.nn.Module]:
    """The enabled quantizers of this name in the student."""
    return [
        module
        for path, module in model.named_modules()
        if isinstance(module, TensorQuantizer) and module.is_enabled and path.rsplit(".", 1)[-1] == name
    ]


def watch_functions(session: Session, timer: PhaseTimer) -> None:
    """Timers around what is not a module, put in the place of the functions that the loop and the schedule call."""
    model: Any = unwrap(session.model)
    places: tuple[tuple[str, Any, str], ...] = (
        ("loss and its gradient", model, "compute_kd_loss"),
        ("backward", schedules, "backward_step"),
        ("gradient reduction", session.model.config, "finalize_model_grads_func"),
        ("optimizer", loop, "step_if_finite"),
        ("clearing gradients", session.model, "zero_grad_buffer"),
        ("clearing gradients", session.optimizer, "zero_grad"),
    )
    for phase, owner, name in places:
        setattr(owner, name, timer.wrap(phase, getattr(owner, name)))


def describe_split(split: Split) -> Figure:
    """The medians as a table."""
    seconds = {phase: median(times.seconds.get(phase, 0.0) for times in split.timed) for phase in PHASES}
    calls = {phase: split.timed[0].calls.get(phase, 0) for phase in PHASES}
    whole = median(times.total for times in split.timed)
    plain, slowest = median(split.plain_seconds), max(split.plain_seconds)
    largest = sorted(PHASES, key=lambda phase: -seconds[phase])[:3]
    return Figure(
        title=f"One step of {split.model}: {split.tokens} tokens, {split.dtype}, {split.device}, "
        f"{split.threads} CPU threads; medians of {len(split.timed)} steps",
        columns=("", ">ms", ">share", ">calls a step"),
        rows=(
            *(
                (phase, show_ms(seconds[phase]), show_share(seconds[phase] / whole), str(calls[phase]))
                for phase in PHASES
            ),
            ("whole step, with timers", show_ms(whole), show_share(1.0), ""),
            ("whole step, without timers", show_ms(plain), "", ""),
        ),
        sentences=(
            f"{split.tokens / plain:.0f} tokens/s without timers; the slowest step took {show_ms(slowest)} ms.",
            f"Peak memory of the trainer: {split.peak_memory_gib:.2f} GiB.",
            f"Largest parts: {', '.join(f'{phase} {show_share(seconds[phase] / whole)}' for phase in largest)}.",
        ),
        data={
            "phase_seconds": seconds,
            "phase_calls": calls,
            "step_seconds_with_timers": whole,
            "step_seconds": plain,
            **{name: getattr(split, name) for name in ("tokens", "peak_memory_gib", "device", "threads", "dtype")},
        },
    )


def show_ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{1000 * seconds:.1f}"


def show_share(share: float) -> str:
    """A share of the step in percent."""
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
