"""Gradients of a loss by the hidden states and the head's weight, collected chunk by chunk in the forward pass.

Owns the sums over chunks and shards and the scaling in the backward pass; the products are `products.py`'s and
d(loss)/d(logits) is the losses'.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.chunks import TokenSelection
from qad_core.kernels.products import add_product_, logits_dtype, product_into
from qad_core.kernels.vocab_parallel import sum_over_shards_


class HeadGradients:
    """Gradients of a loss by hidden states and head weight, collected chunk by chunk from d(loss)/d(logits).

    Two products a chunk, or one where only one gradient is wanted. Sums over chunks are in float32.
    """

    def __init__(
        self, hidden: Tensor, weight: Tensor, *, chunk_tokens: int, wants_hidden: bool, wants_weight: bool
    ) -> None:
        self._hidden, self._weight = hidden, weight  # [n, H], [V, H]
        wide = logits_dtype(hidden.dtype)
        one_chunk_on_cpu = chunk_tokens >= hidden.shape[0] and hidden.device.type == "cpu"
        sum_dtype = weight.dtype if one_chunk_on_cpu else wide
        self.hidden: Tensor | None = hidden.new_empty(hidden.shape, dtype=wide) if wants_hidden else None
        self.weight: Tensor | None = None
        if wants_weight:
            new = weight.new_empty if hidden.shape[0] > 0 else weight.new_zeros
            self.weight = new(weight.shape, dtype=sum_dtype)

    @property
    def wanted(self) -> bool:
        """Whether any gradient is wanted."""
        return self.hidden is not None or self.weight is not None

    def add(self, tokens: slice, dlogits: Tensor) -> None:
        """Take in d(loss)/d(logits) [chunk, V], in the type of the hidden states, of the chunk `tokens`."""
        if self.hidden is not None:
            product_into(self.hidden[tokens], dlogits, self._weight)
        if self.weight is not None:
            add_product_(self.weight, dlogits.t(), self._hidden[tokens], is_first=tokens.start == 0)

    def finish(self, selection: TokenSelection, group: dist.ProcessGroup | None) -> tuple[Tensor | None, Tensor | None]:
        """(dX [N, H], dW [V, H]). dX of a shard is partial: it is summed over the shards here, exactly once."""
        hidden = None if self.hidden is None else selection.put(sum_over_shards_(self.hidden, group))
        return hidden, self.weight


def scale_gradients(
    gradients: tuple[Tensor | None, ...], grad_output: Tensor, dtypes: tuple[torch.dtype, ...]
) -> tuple[Tensor | None, ...]:
    """The saved gradients times the 0-dim `grad_output`, rounded once to `dtypes`; the saved ones stay as they are."""
    return tuple(
        None if g is None else torch.mul(g, grad_output, out=torch.empty_like(g, dtype=dtype))
        for g, dtype in zip(gradients, dtypes, strict=True)
    )
