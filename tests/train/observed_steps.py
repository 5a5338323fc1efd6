"""Steps of a real tiny run, taken in this process and looked at from inside: what the host reads, tells and changes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from qad_core.config.load import read_resolved
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine
from qad_core.train import loop
from qad_core.train.no_cuda import install_cpu_stand_ins
from qad_core.train.optim import StepResult
from qad_core.train.parallel import initialize_parallel
from qad_core.train.report import Reporter
from qad_core.train.session import Session, build_session
from qad_core.train.step_lines import StepLines
from qad_core.train.stop import StopWatch

_READING_METHODS = {"item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__"}
_READING_OPERATORS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}
_OWNERS = ("qad_core/", "megatron/", "modelopt/")


@dataclass(frozen=True)
class Update:
    """One AdamW step of all parameters [n] in a row, in float64."""

    before: dict[str, Tensor]
    """`weights`, `exp_avg`, `exp_avg_sq`, and `gradients`, which are sums over tokens."""
    after: dict[str, Tensor]
    num_tokens: float
    steps_before: float
    steps_after: float
    learning_rate: float
    weight_decay: float
    grad_norm: float
    skipped: bool


@dataclass(frozen=True)
class Observed:
    """What was seen."""

    places_of_reads: set[str]
    """File and function of every read of a tensor in one step."""
    places_with_a_read_added: set[str]
    """The same of a step to which one `.item()` was added."""
    update: Update
    poisoned: Update
    """A step whose loss was made NaN."""
    told: list[MetricsLine]
    told_after_each: list[int]
    """How many lines had been told when so many steps had been queued, and after the flush."""
    wall_times: list[tuple[float, float]]
    """Unix times around each of these steps."""
    error: str
    """Of training on data that breaks after two steps."""
    diverged: tuple[str, int, int]
    """(error, samples the schedule stands at, samples consumed) after steps that were all poisoned."""


def observe_steps(path: str) -> Observed:
    """Take steps of the run in the folder `path`, on one rank."""
    install_cpu_stand_ins()
    folder = RunFolder(Path(path))
    config = read_resolved(folder.config).config
    context = initialize_parallel(config.parallelism, device="cpu", precision=config.train.precision)
    session = build_session(config, context, folder, Reporter(folder, config, rank=0, started=time.time()))
    loop.queue_step(session)  # the first has a learning rate of 0
    places = _places_of_reads(session)
    with _patched(loop, "step_if_finite", _reading_the_loss):
        places_with_a_read_added = _places_of_reads(session)
    update, poisoned = _watch_update(session, poison=False), _watch_update(session, poison=True)
    told, told_after_each, wall_times = _tell_steps(session)
    stop = StopWatch(config.train, context, started=time.time())
    error = _error_of(lambda: _train_on_breaking_data(session, folder, stop))
    with _patched(loop, "step_if_finite", _poisoning):
        diverged = _error_of(lambda: loop.train(session, folder, stop))
    samples = (session.scheduler.num_steps, session.progress.consumed_samples)
    return Observed(
        places, places_with_a_read_added, update, poisoned, told, told_after_each, wall_times, error,
        (diverged, *samples),
    )  # fmt: skip


class _ReadsInPython(TorchFunctionMode):
    def __init__(self, places: set[str]) -> None:
        super().__init__()
        self._places = places

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        # A tensor made from Python's numbers on a device, or from other tensors, is a copy that is waited for.
        is_sent = name in ("tensor", "as_tensor") and ("device" in (kwargs or {}) or _is_list_of_tensors(args))
        if name in _READING_METHODS or is_sent:
            self._places.add(_place())
        return func(*args, **(kwargs or {}))


class _ReadsInOperators(TorchDispatchMode):
    def __init__(self, places: set[str]) -> None:
        super().__init__()
        self._places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        is_masked = name.startswith("aten::index") and _holds_tensor(args[1:2], torch.bool)
        if name in _READING_OPERATORS or is_masked:
            self._places.add(_place())
        return func(*args, **(kwargs or {}))


def _holds_tensor(values: Any, dtype: torch.dtype | None = None) -> bool:
    if isinstance(values, Tensor):
        return dtype is None or values.dtype == dtype
    return isinstance(values, list | tuple) and any(_holds_tensor(value, dtype) for value in values)


def _is_list_of_tensors(args: Sequence[Any]) -> bool:
    return isinstance(args[0], list | tuple) and _holds_tensor(args[0])


def _place() -> str:
    """The innermost function of the trainer's, megatron-core's or modelopt's own."""
    for frame in reversed(traceback.extract_stack()):
        owner = next((owner for owner in _OWNERS if owner in frame.filename), None)
        if owner is not None and not frame.filename.endswith("no_cuda.py"):
            return f"{frame.filename[frame.filename.rindex(owner) :]} {frame.name}"
    return "elsewhere"


def _places_of_reads(session: Session) -> set[str]:
    places: set[str] = set()
    with _ReadsInPython(places), _ReadsInOperators(places):
        loop.queue_step(session)
    return places


def _reading_the_loss(step: Callable[..., StepResult], optimizer: Any, **options: Tensor) -> StepResult:
    float(options["loss"])
    return step(optimizer, **options)


def _poisoning(step: Callable[..., StepResult], optimizer: Any, **options: Tensor) -> StepResult:
    return step(optimizer, **{**options, "loss": options["loss"] * torch.nan})


def _watch_update(session: Session, *, poison: bool) -> Update:
    seen: list[Update] = []

    def watch(step: Callable[..., StepResult], optimizer: Any, **options: Tensor) -> StepResult:
        optimizer.prepare_grads()
        before, group = _state(optimizer), optimizer.param_groups[0]
        rates = group["lr"], group["weight_decay"]
        result = _poisoning(step, optimizer, **options) if poison else step(optimizer, **options)
        after = _state(optimizer)
        steps = before.pop("steps").item(), after.pop("steps").item()
        tokens, norm = float(options["num_tokens"]), float(result.grad_norm)
        seen.append(Update(before, after, tokens, *steps, *rates, norm, bool(result.skipped)))
        return result

    with _patched(loop, "step_if_finite", watch):
        loop.queue_step(session)
    return seen[0]


def _state(optimizer: Any) -> dict[str, Tensor]:
    adam = optimizer.chained_optimizers[0].optimizer
    # The group without weight decay holds the norms' weights; the other is looked at.
    parameters = adam.param_groups[0]["params"]
    moments = [adam.state[parameter] for parameter in parameters]

    def joined(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().double().flatten() for tensor in tensors])

    return {
        "weights": joined(parameters),
        "gradients": joined(parameter.grad for parameter in parameters),
        "all gradients": joined(p.grad for group in adam.param_groups for p in group["params"]),
        "exp_avg": joined(moment["exp_avg"] for moment in moments),
        "exp_avg_sq": joined(moment["exp_avg_sq"] for moment in moments),
        "steps": moments[0]["step"].clone(),
    }


def _tell_steps(session: Session) -> tuple[list[MetricsLine], list[int], list[tuple[float, float]]]:
    told: list[MetricsLine] = []
    counts: list[int] = []
    wall_times: list[tuple[float, float]] = []
    with StepLines(told.append) as lines:
        for _ in range(3):
            began = time.time()
            step = loop.queue_step(session)
            wall_times.append((began, time.time()))
            lines.add(step)
            counts.append(len(told))
            time.sleep(0.2)  # so that a line told late cannot pass for one with its own time
    return told, [*counts, len(told)], wall_times


class _BreakingData:
    def __init__(self, samples: Sequence[Any], last: int) -> None:
        self._samples, self._last = samples, last

    def __getitem__(self, index: int) -> Any:
        if index >= self._last:
            raise RuntimeError("the data broke")
        return self._samples[index]


def _train_on_breaking_data(session: Session, folder: RunFolder, stop: StopWatch) -> None:
    whole = session.datasets
    last = session.progress.consumed_samples + 2 * session.config.train.global_batch_size
    breaking: Any = _BreakingData(whole.train, last)
    session.datasets = replace(whole, train=breaking)
    try:
        loop.train(session, folder, stop)
    finally:
        session.datasets = whole


def _error_of(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:
        return str(error)
    return ""


@contextmanager
def _patched(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: around(original, *args, **options))
    try:
        yield
    finally:
        setattr(owner, name, original)
