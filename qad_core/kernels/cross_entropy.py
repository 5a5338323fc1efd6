"""Cross-entropy with the labels from hidden states, for training without a teacher (`loss: qat`).

Owns the formula and its chunked, vocabulary-parallel function, built like `kd_loss.py`: the SUM over unmasked
tokens, each times its weight, float32 logits a token chunk at a time, gradients made in the forward pass (three matrix
products).
For one token with label y and shards as there: CE = L - s_y,  dCE/ds_j = u_k p_j - [j = y].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from qad_core.kernels.chunks import TokenSelection, choose_chunk_tokens, choose_row_block, token_spans
from qad_core.kernels.head_gradients import HeadGradients, hand_over
from qad_core.kernels.products import check_head, logits_dtype, logits_into
from qad_core.kernels.vocab_parallel import gather_statistics, local_labels, shard_index, shard_weights, softmax_


def cross_entropy_from_hidden_states(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    loss_mask: Tensor | None = None,
    chunk_tokens: int = 0,
    tensor_parallel_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Sum of the cross-entropy over unmasked tokens, from hidden states and the output layer's weight.

    Args:
        hidden: [N, H] or [s, b, H], bf16, float32 or float64; the same on all tensor-parallel ranks.
        weight: [V / TP, H], this rank's vocabulary rows.
        labels: int64, shape of `hidden` less the last axis, numbers of the whole vocabulary. An unmasked label that no
            shard holds gives an infinite loss.
        loss_mask, chunk_tokens, tensor_parallel_group: as in `kd_loss_from_hidden_states`.

    Returns:
        0-dim float32 (float64 for float64 inputs), the same on all ranks. Raises ValueError on wrong shapes or types.
    """
    check_head("model", hidden, weight)
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, the tokens have {tuple(hidden.shape[:-1])}")
    selection = TokenSelection.from_mask(loss_mask, hidden)
    settings = _Settings(chunk_tokens, tensor_parallel_group, selection, torch.is_grad_enabled())
    flat = hidden.reshape(-1, hidden.shape[-1])
    return _CrossEntropyFromHiddenStates.apply(flat, weight, labels.reshape(-1), settings)


@dataclass(frozen=True)
class _Settings:
    chunk_tokens: int
    group: dist.ProcessGroup | None
    selection: TokenSelection
    grad_enabled: bool


class _CrossEntropyFromHiddenStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, settings: _Settings) -> Tensor:
        x, y = settings.selection.take(hidden), settings.selection.take(labels)  # [n, H], [n]
        wide = logits_dtype(x.dtype)
        chunk = choose_chunk_tokens(
            weight.shape[0] * (wide.itemsize + x.element_size()), x.device, settings.chunk_tokens
        )
        gradients = HeadGradients(
            x,
            weight,
            span_tokens=chunk,
            group=settings.group,
            wants_hidden=settings.grad_enabled and ctx.needs_input_grad[0],
            wants_weight=settings.grad_enabled and ctx.needs_input_grad[1],
        )
        shape = (min(chunk, x.shape[0]), weight.shape[0])
        buffer = x.new_empty(shape, dtype=wide)
        narrow = buffer if x.dtype == wide or not gradients.wanted else x.new_empty(shape)
        total = x.new_zeros((), dtype=torch.float64)
        for tokens in token_spans(x.shape[0], chunk):
            logits = logits_into(buffer[: tokens.stop - tokens.start], x[tokens], weight)
            dlogits = narrow[: tokens.stop - tokens.start] if gradients.wanted else None
            weights = settings.selection.weights_of(tokens)
            total += _cross_entropy_and_gradient_(logits, y[tokens], dlogits, settings.group, weights)
            if dlogits is not None:
                gradients.add(tokens, dlogits)
        ctx.dtypes = (hidden.dtype, weight.dtype)
        ctx.gradients = gradients.finish(settings.selection)
        return total.to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return *hand_over(ctx, grad_output, ctx.dtypes), None, None


def _cross_entropy_and_gradient_(
    logits: Tensor,
    labels: Tensor,
    gradient: Tensor | None,
    group: dist.ProcessGroup | None,
    token_weights: Tensor | None,
) -> Tensor:
    """0-dim float64 CE of one chunk of logits [c, V_shard], overwritten here; d(CE)/d(logits) goes to `gradient`.

    `token_weights` [c] multiply both; None is 1 for all.
    """
    column, inside = local_labels(labels, logits.shape[1], group)
    label_logits = label_logits_of(logits, column, inside)
    blocks = list(token_spans(logits.shape[0], choose_row_block(logits)))
    logsumexp = torch.cat([softmax_(logits[rows]) for rows in blocks])
    shards = gather_statistics(torch.stack((logsumexp, label_logits)), group)  # [shards, 2, c]
    total, shares = shard_weights(shards[:, 0])
    if gradient is not None:
        own_share, one_hot = shares[shard_index(group)], -inside.double()
        if token_weights is not None:
            own_share, one_hot = own_share * token_weights, one_hot * token_weights
        own_share, one_hot = (x.to(logits.dtype).unsqueeze(-1) for x in (own_share, one_hot))  # [c, 1] each
        for rows in blocks:
            block = logits[rows].mul_(own_share[rows])
            gradient[rows].copy_(block.scatter_add_(1, column[rows].unsqueeze(-1), one_hot[rows]))
    cross_entropy = total - shards[:, 1].amax(0)
    return (cross_entropy if token_weights is None else cross_entropy * token_weights).sum()


def label_logits_of(logits: Tensor, column: Tensor, inside: Tensor) -> Tensor:
    """The label's logit [c] float64 from logits [c, V_shard], minus infinity where another shard holds the label."""
    picked = logits.gather(1, column.unsqueeze(-1)).squeeze(-1).double()
    return torch.where(inside, picked, -torch.inf)
