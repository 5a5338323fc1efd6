"""The training loop: step, report, evaluate, save, stop. It only sequences; each part has its module."""

from __future__ import annotations

import math
import time

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
from qad_core.train.stop import StopWatch

_BAD_STEPS_IN_A_ROW = 3


def train(session: Session, folder: RunFolder, stop: StopWatch) -> ExitCode:
    """Run until the last iteration or a reason to stop; returns DONE or STOPPED_EARLY, with everything saved."""
    session.reporter.open_metrics(session.progress.step)
    bad_steps = BadSteps(session.progress)
    evaluate_now = _is_evaluation_due(session) and not _is_evaluated(folder, session.progress.step)
    while True:
        reason = _reason_to_stop(session, stop)
        if evaluate_now and not reason:  # a stop cannot wait; the next start makes up for it
            run_evaluation(session)
        is_done = session.progress.step >= session.config.train.train_iterations
        if reason or is_done or (_is_save_due(session) and not bad_steps.in_a_row):
            save(session)
        if reason:
            session.reporter.ended("stopped", exit_code=ExitCode.STOPPED_EARLY, reason=reason)
            return ExitCode.STOPPED_EARLY
        if is_done:
            session.reporter.ended("done", exit_code=ExitCode.DONE)
            return ExitCode.DONE
        line = run_step(session)
        session.reporter.step(line)
        bad_steps.count(line, session)
        evaluate_now = _is_evaluation_due(session)


def evaluate_newest(session: Session) -> ExitCode:
    """Evaluate the newest checkpoint, or the untrained student, and record it beside what is there."""
    session.reporter.phase("evaluating")
    session.reporter.append_evaluation(_evaluation_line(session))
    session.reporter.ended("stopped", exit_code=ExitCode.DONE, reason="evaluation only")
    return ExitCode.DONE


def run_step(session: Session) -> MetricsLine:
    """One optimizer step over one global batch; returns its metrics line."""
    config, progress, started = session.config.train, session.progress, time.perf_counter()
    learning_rate = learning_rate_of(session.optimizer)
    if progress.step + 1 in config.iterations_to_skip:
        loss, grad_norm, skipped = None, None, 1
    else:
        loss, grad_norm, skipped = _update_weights(session)
    progress.step += 1
    progress.consumed_samples += config.global_batch_size
    seconds = time.perf_counter() - started
    tokens = config.global_batch_size * config.sequence_length
    kd, ce = (loss, None) if session.config.loss == "qad" else (None, loss)
    line: MetricsLine = {
        "step": progress.step,
        "time": time.time(),
        "consumed_samples": progress.consumed_samples,
        "consumed_tokens": progress.consumed_samples * config.sequence_length,
        "loss/kd": kd,
        "learning_rate": learning_rate,
        "grad_norm": grad_norm,
        "skipped": skipped,
        "step_ms": None if loss is None else 1000 * seconds,
        "tokens_per_s": None if loss is None else tokens / seconds,
        "memory_gib": memory_gib(session.context.device),
    }
    return line if ce is None else {**line, "loss/ce": ce}


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

    The weights are that state already: a step that is not finite changes none (`optim.step_if_finite`).
    """

    def __init__(self, progress: Progress) -> None:
        self.in_a_row = 0
        self._before = Progress(progress.step, progress.consumed_samples)

    def count(self, line: MetricsLine, session: Session) -> None:
        """Take one step's line; raises `DivergedError` at the third bad one in a row."""
        step = int(line["step"] or 0)
        if line["grad_norm"] is None or not line["skipped"]:
            self.in_a_row = 0
            self._before = Progress(session.progress.step, session.progress.consumed_samples)
            return
        self.in_a_row += 1
        log.error("step %d: loss or gradient is not finite (%d in a row)", step, self.in_a_row)
        if self.in_a_row < _BAD_STEPS_IN_A_ROW:
            return
        session.progress = self._before
        save(session)
        first = step - _BAD_STEPS_IN_A_ROW + 1
        raise DivergedError(
            f"loss or gradient was not finite in steps {first} to {step}; the state of step {first - 1} is saved",
            f"look at the data of these steps, skip them with train.iterations_to_skip="
            f"[{first},{first + 1},{step}], or lower train.learning_rate",
        )


def _evaluation_line(session: Session) -> MetricsLine:
    line = evaluate(
        session.model,
        session.datasets.valid,
        session.config.evaluation.sequences,
        train=session.config.train,
        layout=session.layout,
        context=session.context,
    )
    return {"step": session.progress.step, "time": time.time(), **line}


def _update_weights(session: Session) -> tuple[float, float, int]:
    """Forward, backward and optimizer; returns (mean loss a token, gradient norm, 1 if no weight changed)."""
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
    loss_sum, tokens = reduce_sums(stored, 2, session.context).tolist()
    loss = loss_sum / max(tokens, 1.0)
    result = step_if_finite(session.optimizer, loss_is_finite=math.isfinite(loss))
    if not result.skipped:
        session.scheduler.step(increment=config.train.global_batch_size)
        invalidate_weight_cache(session.model)
    return loss, result.grad_norm, int(result.skipped)


def _reason_to_stop(session: Session, stop: StopWatch) -> str:
    reason = stop.agreed_reason()
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
