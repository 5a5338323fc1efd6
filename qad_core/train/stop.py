"""Why a run should stop early: signals and limits become one reason that the loop asks for.

Owns the signal handlers. The reason is agreed on by all ranks, so that none waits in a collective
for one that has left. It saves nothing and exits nothing: the loop does.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

import torch
import torch.distributed

from qad_core.config.schema import TrainConfig
from qad_core.train.parallel import RankContext
from qad_core.train.step_lines import NumbersOnTheirWay

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_TIME_LIMIT = "time limit"
_REASONS = ("", *(received.name for received in _SIGNALS), _TIME_LIMIT)


class StopWatch:
    """Collects reasons to stop from this rank and agrees on them with the others."""

    def __init__(self, train: TrainConfig, context: RankContext, *, started: float) -> None:
        """`started` is the Unix time at which the process started: loading counts into the limit."""
        self._context = context
        self._deadline = None if train.exit_duration_minutes is None else started + 60 * train.exit_duration_minutes
        self._reason = ""
        self._posted: NumbersOnTheirWay | None = None

    def listen(self) -> None:
        """Turn SIGTERM, SIGUSR1 and SIGINT into a reason instead of a sudden end."""
        for received in _SIGNALS:
            signal.signal(received, self._receive)

    def agreed_reason(self, *, at_once: bool) -> str:
        """The reason that any rank has, or an empty string; a collective, called by every rank at every step.

        With several ranks it is what any of them had at the call before, so that no host waits for what its device has
        queued since; `at_once`, and at the first call, it is what they have now. All ranks ask in the same way.
        """
        if not self._reason and self._deadline is not None and time.time() >= self._deadline:
            self._reason = _TIME_LIMIT
        if self._context.world_size == 1:
            return self._reason
        posted, self._posted = self._posted, self._post(_REASONS.index(self._reason))
        agreed = self._posted if at_once or posted is None else posted
        return _REASONS[int(agreed.read()[0])]

    def _post(self, index: int) -> NumbersOnTheirWay:
        shared = torch.full((1,), index, device=self._context.device)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        return NumbersOnTheirWay(shared)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._reason = signal.Signals(number).name
