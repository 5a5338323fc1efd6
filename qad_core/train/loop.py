"""The training loop: step, report, evaluate, save, stop. It only sequences; each part has its module.

A step is queued on the device and told when the next one is queued (`step_lines.py`); before anything that people or
files rely on, such as an evaluation, a checkpoint or an end, every step is told.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from qad_core.config.schema import RunConfig
from qad_core.errors import DivergedError, ExitCode
from qad_core.kernels.nvfp4_backend import invalidate_weight_cache
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, is_evaluation, read_metrics
from qad_core.train.batches import iterate_batches
from qad_core.train.checkpoint import Progress, from_first_rank
from qad_core.train.distill import make_forward_step
from qad_core.train.evaluate import evaluate, reduce_sums, run_schedule
from qad_core.train.optim import learning_rate_of, step_if_finite
from qad_core.train.report import log, memory_gib
from qad_core.train.session import Session
from qad_core.train.step_lines import NumbersOnTheirWay, QueuedStep, StepLines
from qad_core.train.stop import StopWatch

_BAD_STEPS_IN_A_ROW = 3


def train(session: Session, folder: RunFolder, stop: StopWatch) -> ExitCode:
    """Run until the last iteration or a reason to stop; returns DONE or STOPPED_EARLY, with everything saved."""
    session.reporter.open_metrics(session.progress.step)
    bad_steps = BadSteps(session)
    evaluate_now = _is_evaluation_due(session) and not _is_evaluated(folder, session.progress.step)
    with StepLines(session.reporter.step, bad_steps.count) as lines:
        while True:
            is_save_due = _is_save_due(session)
            reason = _reason_to_stop(session, stop, at_once=evaluate_now or is_save_due)
            is_done = session.progress.step >= session.config.train.train_iterations
            if reason or is_done or is_save_due or evaluate_now or bad_steps.in_a_row:
                lines.flush()
            if evaluate_now and not reason:  # a stop cannot wait; the next start makes up for it
                run_evaluation(session)
            if reason or is_done or (is_save_due and not bad_steps.in_a_row):
                save(session)
            if reason:
                session.reporter.ended("stopped", exit_code=ExitCode.STOPPED_EARLY, reason=reason)
                return ExitCode.STOPPED_EARLY
            if is_done:
                session.reporter.ended("done", exit_code=ExitCode.DONE)
                return ExitCode.DONE
            lines.add(queue_step(session))
            evaluate_now = _is_evaluation_due(session)


def evaluate_newest(session: Session) -> ExitCode:
    """Evaluate the newest checkpoint, or the untrained student, and record it beside what is there."""
    session.reporter.phase("evaluating")
    session.reporter.append_evaluation(_evaluation_line(session))
    session.reporter.ended("stopped", exit_code=ExitCode.DONE, reason="evaluation only")
    return ExitCode.DONE


def queue_step(session: Session) -> QueuedStep:
    """Queue one optimizer step over one global batch.

    Waits for nothing of it, but in a mixture for the number of tokens of each expert, and between pipeline stages.
    """
    config, progress = session.config.train, session.progress
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    learning_rate = learning_rate_of(session.optimizer)
    is_skipped = progress.step + 1 in config.iterations_to_skip
    numbers = None if is_skipped else NumbersOnTheirWay(_update_weights(session))
    ended.record()
    progress.step += 1
    progress.consumed_samples += config.global_batch_size
    known: MetricsLine = {
        "step": progress.step,
        "time": None,
        "consumed_samples": progress.consumed_samples,
        "consumed_tokens": progress.consumed_samples * config.sequence_length,
        "loss/kd": None,
        "learning_rate": learning_rate,
        "grad_norm": None,
        "skipped": 1,
        "step_ms": None,
        "tokens_per_s": None,
        "memory_gib": memory_gib(session.context.device),
    }
    if session.config.distillation.intermediate_layers:
        known["loss/intermediate"] = None
    tokens = config.global_batch_size * config.sequence_length
    return QueuedStep(known, _loss_keys(session.config), tokens, numbers, began, ended)


def run_evaluation(session: Session) -> None:
    """Evaluate on the held-out blocks and report."""
    session.reporter.phase("evaluating")
    session.reporter.evaluation(_evaluation_line(session))


def save(session: Session) -> int:
    """Write a checkpoint of the present state; returns its step."""
    session.reporter.phase("saving")
    path = session.checkpointer.save(session.model, session.optimizer, session.scheduler, session.progress)
    session.reporter.saved(session.progress.step, path)
    return session.progress.step


class BadSteps:
    """Counts non-finite steps in a row; the third ends the run with the state from before the first saved.

    The weights are that state already: a step that is not finite changes none (`optim.step_if_finite`). After a bad
    step the loop tells each step before it queues the next, so that nothing follows the third.
    """

    def __init__(self, session: Session) -> None:
        self.in_a_row = 0
        self._session = session
        self._before = replace(session.progress)

    def count(self, line: MetricsLine) -> None:
        """Take one step's line; raises `DivergedError` at the third bad one in a row."""
        step, consumed_samples = int(line["step"] or 0), int(line["consumed_samples"] or 0)
        if line["grad_norm"] is None or not line["skipped"]:
            self.in_a_row = 0
            self._before = Progress(step, consumed_samples)
            return
        self.in_a_row += 1
        log.error("step %d: loss or gradient is not finite (%d in a row)", step, self.in_a_row)
        if self.in_a_row < _BAD_STEPS_IN_A_ROW:
            return
        self._go_back()
        save(self._session)
        first = step - _BAD_STEPS_IN_A_ROW + 1
        raise DivergedError(
            f"loss or gradient was not finite in steps {first} to {step}; the state of step {first - 1} is saved",
            f"look at the data of these steps, skip them with train.iterations_to_skip="
            f"[{first},{first + 1},{step}], or lower train.learning_rate",
        )

    def _go_back(self) -> None:
        """Back before the first bad step: what counts samples went on, the weights and moments did not."""
        bad_samples = self._session.progress.consumed_samples - self._before.consumed_samples
        self._session.scheduler.step(increment=-bad_samples)
        self._session.progress = self._before


def _evaluation_line(session: Session) -> MetricsLine:
    line = evaluate(
        session.model,
        session.datasets.valid,
        session.config.evaluation.sequences,
        train=session.config.train,
        layout=session.layout,
        context=session.context,
        tell=session.reporter.progress,
    )
    return {"step": session.progress.step, "time": time.time(), **line}


def _update_weights(session: Session) -> torch.Tensor:
    """Forward, backward and optimizer; returns (gradient norm, 1 if no weight changed, *mean losses a token) [n]."""
    config = session.config
    session.model.zero_grad_buffer()
    session.optimizer.zero_grad()
    batches = iterate_batches(
        session.datasets.train,
        session.layout,
        first_sample=session.progress.consumed_samples,
        num_micro_batches=config.num_micro_batches,
        device=session.context.device,
    )
    stored = run_schedule(
        session.model,
        batches,
        config.num_micro_batches,
        train=config.train,
        forward_step=make_forward_step(evaluate=False),
        forward_only=False,
    )
    sums = reduce_sums(stored, 2 + len(_loss_keys(session.config)), session.context)
    num_tokens = torch.where(sums[0] > 0, sums[0], 1.0)
    losses = sums[1:] / num_tokens  # the whole loss, and those that are told
    result = step_if_finite(session.optimizer, loss=losses[0], num_tokens=num_tokens)
    session.scheduler.step(increment=config.train.global_batch_size)
    invalidate_weight_cache(session.model)
    return torch.cat([torch.stack([result.grad_norm, result.skipped.double()]), losses[1:]])


def _loss_keys(config: RunConfig) -> tuple[str, ...]:
    """Names of the losses that a step tells, in the order of `distill.LossSums`."""
    if config.loss == "qat":
        return ("loss/ce",)
    return ("loss/kd", "loss/intermediate") if config.distillation.intermediate_layers else ("loss/kd",)


def _reason_to_stop(session: Session, stop: StopWatch, *, at_once: bool) -> str:
    reason = stop.agreed_reason(at_once=at_once)
    step, exit_iteration = session.progress.step, session.config.train.exit_iteration
    if step >= session.config.train.train_iterations:
        return ""
    return reason or (f"exit_iteration {exit_iteration}" if exit_iteration and step >= exit_iteration else "")


def _is_evaluation_due(session: Session) -> bool:
    step, interval = session.progress.step, session.config.evaluation.interval
    return step in (0, session.config.train.train_iterations) or (interval > 0 and step % interval == 0)


def _is_save_due(session: Session) -> bool:
    step, interval = session.progress.step, session.config.checkpoint.interval
    return step > 0 and interval > 0 and step % interval == 0


def _is_evaluated(folder: RunFolder, step: int) -> bool:
    """Whether the evaluation of this step is there already."""
    return from_first_rank(
        lambda: any(line["step"] == step and is_evaluation(line) for line in read_metrics(folder.metrics))
    )
