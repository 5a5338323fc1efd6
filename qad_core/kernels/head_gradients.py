"""Gradients of a loss by the hidden states and the head's weight, collected in the forward pass, span by span.

Owns the sums over spans and shards, the sum that a data-parallel wrapper keeps (Megatron's `main_grad`), and the
scaling in the backward pass; the products are `products.py`'s and d(loss)/d(logits) is the losses'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.chunks import TokenSelection
from qad_core.kernels.device_choice import multiply_
from qad_core.kernels.products import add_product_, logits_dtype, product_into
from qad_core.kernels.vocab_parallel import shard_count, sum_over_shards_


@dataclass(frozen=True)
class MainGrad:
    """A running sum of the head weight's gradient that the loss adds to itself, in the forward pass.

    The loss's outer gradient must be 1 then: `backward` has nothing left to scale, and refuses another.
    """

    total: Tensor
    """[V / TP, H] float32."""
    is_tied: bool = False
    """Whether the weight is the embedding's too, so that autograd still brings that part of its gradient."""


class HeadGradients:
    """Gradients by hidden states and head weight from d(loss)/d(logits), two products a span.

    Where one is not wanted its product is not made. A gradient that is made in one part has its tensor's type at once;
    sums of several parts are in float32.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        *,
        span_tokens: int,
        group: dist.ProcessGroup | None,
        wants_hidden: bool,
        wants_weight: bool,
        main_grad: MainGrad | None = None,
    ) -> None:
        self._hidden, self._weight = hidden, weight  # [n, H], [V, H]
        self._group = group
        self._is_first = main_grad is None
        self.main_grad = main_grad if wants_weight else None
        wide = logits_dtype(hidden.dtype)
        hidden_dtype = hidden.dtype if shard_count(group) == 1 else wide
        self.hidden: Tensor | None = hidden.new_empty(hidden.shape, dtype=hidden_dtype) if wants_hidden else None
        self.weight: Tensor | None = None
        if wants_weight and main_grad is not None:
            self.weight = main_grad.total
        elif wants_weight:
            new = weight.new_empty if hidden.shape[0] > 0 else weight.new_zeros
            self.weight = new(weight.shape, dtype=weight.dtype if span_tokens >= hidden.shape[0] else wide)

    @property
    def wanted(self) -> bool:
        """Whether any gradient is wanted."""
        return self.hidden is not None or self.weight is not None

    def add(self, tokens: slice, dlogits: Tensor) -> None:
        """Take in d(loss)/d(logits) [span, V], in the type of the hidden states, of the span `tokens`."""
        if self.hidden is not None:
            product_into(self.hidden[tokens], dlogits, self._weight)
        if self.weight is not None:
            add_product_(self.weight, dlogits.t(), self._hidden[tokens], is_first=self._is_first)
        self._is_first = False

    def finish(self, selection: TokenSelection) -> tuple[Tensor | None, Tensor | None]:
        """(dX [N, H], dW [V, H]). dX of a shard is partial: it is summed over the shards here, exactly once."""
        hidden = None if self.hidden is None else selection.put(sum_over_shards_(self.hidden, self._group))
        return hidden, None if self.main_grad else self.weight


def hand_over(ctx: Any, grad_output: Tensor, dtypes: tuple[torch.dtype, ...]) -> tuple[Tensor | None, ...]:
    """The gradients that the forward pass left in `ctx.gradients`, times the 0-dim `grad_output`, in `dtypes`.

    They are scaled where they lie and given away: raises RuntimeError when asked a second time.
    """
    if ctx.gradients is None:
        raise RuntimeError("the gradients of this loss were handed over by an earlier backward pass; compute it again")
    gradients, ctx.gradients = ctx.gradients, None
    return tuple(
        None
        if g is None
        else multiply_(g, grad_output)
        if g.dtype == dtype
        else torch.mul(g, grad_output, out=torch.empty_like(g, dtype=dtype))
        for g, dtype in zip(gradients, dtypes, strict=True)
    )


def hand_over_main_grad(main_grad: MainGrad, weight: Tensor, grad_output: Tensor) -> Tensor | None:
    """What autograd gets for a weight whose gradient is in `main_grad` already.

    Megatron's hook wants a gradient to drop, and the mark that it may; that of a tied weight comes from the embedding.
    """
    if grad_output.device.type == "cpu" and grad_output.item() != 1:
        raise ValueError(f"a loss that adds to main_grad was scaled by {grad_output.item()}: scale it when it is made")
    torch._assert_async(grad_output == 1)  # pyright: ignore[reportPrivateImportUsage] - on a GPU it must not wait for the value
    if main_grad.is_tied:
        return None
    setattr(weight, "grad_added_to_main_grad", True)  # noqa: B010 - an attribute of Megatron's on a plain parameter
    return torch.empty_like(weight)
