"""Memory in which a loss makes logits and their gradients, one chunk or span of tokens at a time.

Owns who lies where; sizes are `chunks.py`'s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qad_core.kernels.chunks import ChunkPlan
from qad_core.kernels.device_choice import uses_triton
from qad_core.kernels.products import logits_dtype


class LogitsWorkspace:
    """Logits of both models for a chunk, and d(loss)/d(logits) for a span.

    Plain torch goes over the rows in order, so that there the gradient may lie over the teacher's logits. Triton takes
    the rows at the same time and gets memory of its own for it.
    """

    def __init__(
        self,
        hidden: Tensor,
        vocab_rows: int,
        plan: ChunkPlan,
        *,
        wants_gradient: bool,
        weight_gradient: Tensor | None,
    ) -> None:
        wide = logits_dtype(hidden.dtype)
        rows = min(plan.chunk_tokens, hidden.shape[0])
        if plan.logits_in_weight_gradient and weight_gradient is not None:
            memory = weight_gradient.view(-1).view(wide)
            self._logits = memory[: 2 * rows * vocab_rows].view(2, rows, vocab_rows)
        else:
            self._logits = hidden.new_empty(2, rows, vocab_rows, dtype=wide)
        self._dlogits: Tensor | None = None
        if wants_gradient and (uses_triton(hidden) or plan.span_tokens > plan.chunk_tokens):
            self._dlogits = hidden.new_empty(min(plan.span_tokens, hidden.shape[0]), vocab_rows)
        elif wants_gradient:
            self._dlogits = _reuse_as(self._logits[1], hidden.dtype)

    def logits(self, count: int) -> tuple[Tensor, Tensor]:
        """Room for the student's and the teacher's logits [count, V] of a chunk."""
        return self._logits[0, :count], self._logits[1, :count]

    def dlogits(self, start: int, stop: int) -> Tensor | None:
        """d(loss)/d(logits) of these tokens of the span [stop - start, V], in the type of the hidden states."""
        return None if self._dlogits is None else self._dlogits[start:stop]


def _reuse_as(buffer: Tensor, dtype: torch.dtype) -> Tensor:
    """The start of a contiguous `buffer` [c, V] as [c, V] of a type no wider.

    Row i then lies over rows that come no later than i, so that rows written in rising order only ever cover rows
    whose own values are used up.
    """
    return buffer.view(-1).view(dtype)[: buffer.numel()].view(buffer.shape)
