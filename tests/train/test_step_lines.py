"""One step as the host sees it: queued without a read, told once, in its own time, and right for AdamW."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from qad_core.run.folder import RunFolder
from qad_core.run.metrics import read_metrics
from tests.ranks import run_on_ranks
from tests.train.observed_steps import Observed, Update, observe_steps
from tests.train.tiny_run import make_run

CLIP_GRAD = 1e-3
BETAS, EPSILON = (0.9, 0.95), 1e-8
OF_THE_HOST = {
    "megatron/core/datasets/gpt_dataset.py __getitem__",
    "qad_core/kernels/chunks.py from_mask",  # the loss mask never was on the device
    "qad_core/kernels/nvfp4.py _bits_of",  # a constant
    # These ask first where the tensor is.
    "qad_core/kernels/device_choice.py multiply_",
    "qad_core/kernels/head_gradients.py hand_over_main_grad",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """Twenty steps' worth of data, with clipping at work."""
    overrides = ("train.train_samples=160", "train.precision=fp32", f"train.clip_grad={CLIP_GRAD}",
                 "evaluation.interval=0", "checkpoint.interval=0")  # fmt: skip
    return make_run(tmp_path_factory.mktemp("observed") / "run", data_cache, overrides)


@pytest.fixture(scope="module")
def observed(run: RunFolder) -> Observed:
    """What one process saw of its own steps."""
    return run_on_ranks(observe_steps, 1, str(run.path))[0]


def test_no_tensor_is_read_on_the_host_inside_a_step(observed: Observed) -> None:
    assert observed.places_of_reads <= OF_THE_HOST


def test_a_read_that_somebody_adds_is_seen(observed: Observed) -> None:
    assert observed.places_with_a_read_added - OF_THE_HOST


def test_lines_are_told_one_step_late_in_order_and_the_last_at_the_flush(observed: Observed) -> None:
    assert observed.told_after_each == [0, 1, 2, 3]
    steps = [int(line["step"] or 0) for line in observed.told]
    assert steps == list(range(steps[0], steps[0] + 3))


def test_a_line_has_the_time_of_its_own_step(observed: Observed) -> None:
    for line, (began, ended) in zip(observed.told, observed.wall_times, strict=True):
        milliseconds, told_time = float(line["step_ms"] or 0), float(line["time"] or 0)
        assert began - 0.05 < told_time < ended + 0.05
        assert 0 < milliseconds / 1000 < ended - began + 0.05


def test_a_step_is_adamw_on_the_mean_gradient_clipped(observed: Observed) -> None:
    update = observed.update
    mean = update.before["gradients"] / update.num_tokens
    norm = (update.before["all gradients"] / update.num_tokens).norm()
    assert update.grad_norm == pytest.approx(float(norm), rel=1e-5)
    assert norm > 2 * CLIP_GRAD and not update.skipped
    expected = _adamw(update, mean * CLIP_GRAD / (norm + 1e-6))
    moved = expected - update.before["weights"]
    # float32 weights round at each step; what they moved by is right to their rounding.
    rounding = update.before["weights"].abs() * torch.finfo(torch.float32).eps
    assert ((update.after["weights"] - expected).abs() <= rounding + 1e-4 * moved.abs()).all()
    assert moved.abs().max() > 0 and update.steps_after == update.steps_before + 1


def test_a_step_that_is_not_finite_changes_neither_weights_nor_moments_nor_their_count(observed: Observed) -> None:
    poisoned = observed.poisoned
    assert poisoned.skipped and poisoned.steps_after == poisoned.steps_before
    for name in ("weights", "exp_avg", "exp_avg_sq"):
        assert torch.equal(poisoned.after[name], poisoned.before[name])


def test_an_error_leaves_every_step_that_ended_in_the_metrics(observed: Observed, run: RunFolder) -> None:
    assert observed.error == "the data broke"
    last = int(observed.told[-1]["step"] or 0)
    assert [line["step"] for line in read_metrics(run.metrics)][:2] == [last + 1, last + 2]


def test_three_bad_steps_end_where_the_last_good_one_stood(observed: Observed, run: RunFolder) -> None:
    error, scheduled, consumed = observed.diverged
    last_good = int(observed.told[-1]["step"] or 0) + 2
    assert "not finite" in error and f"state of step {last_good} is saved" in error
    assert (scheduled, consumed) == (8 * last_good, 8 * last_good)
    lines = read_metrics(run.metrics)
    assert [(line["step"], line["skipped"]) for line in lines[2:]] == [(last_good + n, 1) for n in (1, 2, 3)]


def _adamw(update: Update, gradient: Tensor) -> Tensor:
    """Weights after one step with decoupled weight decay, in float64."""
    step = update.steps_before + 1
    first, second = (
        beta * update.before[name] + (1 - beta) * power
        for beta, name, power in zip(BETAS, ("exp_avg", "exp_avg_sq"), (gradient, gradient.square()), strict=True)
    )
    root = (second / (1 - BETAS[1] ** step)).sqrt()
    decayed = update.before["weights"] * (1 - update.learning_rate * update.weight_decay)
    return decayed - update.learning_rate / (1 - BETAS[0] ** step) * first / (root + EPSILON)
