"""Full-vocabulary knowledge-distillation loss: forward KL(teacher || student) at a temperature, and its variants.

Owns the chunked, vocabulary-parallel functions, from hidden states and from logits.
All return the SUM over unmasked tokens, each times its weight, with no T^2 factor; the caller divides. Gradients
are made in the forward pass, so that logits exist once: four matrix products in all (student logits,
teacher logits, dX, dW). Only the student gets gradients. The formulas are
`kl_divergence.py`'s, the plain reference is `kd_reference.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from qad_core.kernels.chunks import (
    ChunkPlan,
    TokenSelection,
    choose_chunk_tokens,
    choose_row_block,
    plan_chunks,
    scratch_budget,
    token_spans,
)
from qad_core.kernels.device_choice import uses_triton
from qad_core.kernels.head_gradients import HeadGradients, MainGrad, hand_over, hand_over_main_grad
from qad_core.kernels.kl_divergence import Divergence, KlSettings, kl_and_gradient_
from qad_core.kernels.products import check_head, logits_dtype, logits_into
from qad_core.kernels.vocab_parallel import shard_count
from qad_core.kernels.workspace import LogitsWorkspace


def kd_loss_from_hidden_states(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    loss_mask: Tensor | None = None,
    temperature: float = 1.0,
    divergence: Divergence = "forward",
    top_k: int = 0,
    scale: float = 1.0,
    chunk_tokens: int = 0,
    tensor_parallel_group: dist.ProcessGroup | None = None,
    main_grad: MainGrad | None = None,
) -> Tensor:
    """Sum of the weighted KL over unmasked tokens, from hidden states and output-layer weights.

    Args:
        student_hidden: [N, H] or [s, b, H], bf16, float32 or float64; the same on all tensor-parallel ranks.
        student_weight: [V / TP, H], this rank's vocabulary rows; no gradient product when it is frozen.
        teacher_hidden: as `student_hidden`, may have another width.
        teacher_weight: [V / TP, teacher's H].
        loss_mask: shape of the hidden states less the last axis; a token's weight, bool or a finite number from 0 on.
            Tokens whose entry is 0 cost nothing, do not count, and get exactly zero gradient.
        temperature: divides both models' logits.
        divergence: `forward` is KL(teacher || student), `reverse` is KL(student || teacher).
        top_k: the teacher's most likely tokens that count on their own, with those exactly as likely as the last of
            them; all others are one outcome, with the tail mass that each model gives them, and nothing is
            renormalised. 0 is the whole vocabulary. Who is in the tail is found in plain torch on every device, a
            chunk at a time; with shards that takes two more collective calls a chunk.
        scale: multiplies loss and gradients where they are made, which is free; scaling the result costs a pass over
            the gradients.
        chunk_tokens: tokens whose full-vocabulary logits exist at once; 0 chooses by device and vocabulary.
        tensor_parallel_group: ranks that hold the other vocabulary rows. The gradient by the hidden states is
            summed over them here, so the caller's graph must not sum it again (with sequence parallelism,
            gather with `tensor_parallel_output_grad=False`).
        main_grad: where to add the weight's gradient at once, instead of handing it to autograd.

    Returns:
        0-dim float32 (float64 for float64 inputs), the same on all ranks. Raises ValueError on wrong shapes, types,
        weights or options.
        Its backward pass gives the gradients away, so that it runs once.
    """
    check_heads(student_hidden, student_weight, teacher_hidden, teacher_weight)
    selection = TokenSelection.from_mask(loss_mask, student_hidden)
    kl = KlSettings(temperature, scale, tensor_parallel_group, divergence, top_k)
    settings = _Settings(kl, selection, torch.is_grad_enabled(), chunk_tokens, main_grad)
    return _KdLossFromHiddenStates.apply(
        student_hidden.reshape(-1, student_hidden.shape[-1]),
        student_weight,
        teacher_hidden.reshape(-1, teacher_hidden.shape[-1]),
        teacher_weight,
        settings,
    )


def kd_loss_from_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    loss_mask: Tensor | None = None,
    temperature: float = 1.0,
    divergence: Divergence = "forward",
    top_k: int = 0,
    scale: float = 1.0,
    tensor_parallel_group: dist.ProcessGroup | None = None,
    in_place: bool = False,
) -> Tensor:
    """Sum of the weighted KL over unmasked tokens, from logits [..., V / TP] as they are.

    The gradient has the type of `student_logits`; with `in_place` it is made over them, and where all tokens count it
    takes no memory then. Otherwise as `kd_loss_from_hidden_states`.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"logits differ in shape: {tuple(student_logits.shape)}, {tuple(teacher_logits.shape)}")
    selection = TokenSelection.from_mask(loss_mask, student_logits)
    kl = KlSettings(temperature, scale, tensor_parallel_group, divergence, top_k)
    settings = _Settings(kl, selection, torch.is_grad_enabled(), in_place=in_place)
    flat = (-1, student_logits.shape[-1])
    return _KdLossFromLogits.apply(student_logits.reshape(flat), teacher_logits.reshape(flat), settings)


def check_heads(student_hidden: Tensor, student_weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor) -> None:
    """Raise ValueError unless student and teacher fit their heads and each other in tokens and vocabulary."""
    if student_hidden.shape[:-1] != teacher_hidden.shape[:-1]:
        raise ValueError(f"tokens differ: student {tuple(student_hidden.shape)}, teacher {tuple(teacher_hidden.shape)}")
    if student_weight.shape[0] != teacher_weight.shape[0]:
        raise ValueError(
            f"vocabularies differ: student {student_weight.shape[0]}, teacher {teacher_weight.shape[0]} rows"
        )
    check_head("student", student_hidden, student_weight)
    check_head("teacher", teacher_hidden, teacher_weight)


@dataclass(frozen=True)
class _Settings:
    kl: KlSettings
    selection: TokenSelection
    grad_enabled: bool
    chunk_tokens: int = 0
    main_grad: MainGrad | None = None
    in_place: bool = False


class _KdLossFromHiddenStates(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_hidden: Tensor,
        student_weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        settings: _Settings,
    ) -> Tensor:
        x, tx = settings.selection.take(student_hidden), settings.selection.take(teacher_hidden)  # [n, H]
        wants_weight = settings.grad_enabled and ctx.needs_input_grad[1]
        plan = _plan(x, student_weight, settings, wants_weight=wants_weight)
        gradients = HeadGradients(
            x,
            student_weight,
            span_tokens=plan.span_tokens,
            group=settings.kl.group,
            wants_hidden=settings.grad_enabled and ctx.needs_input_grad[0],
            wants_weight=wants_weight,
            main_grad=settings.main_grad,
        )
        room = LogitsWorkspace(
            x, student_weight.shape[0], plan, wants_gradient=gradients.wanted, weight_gradient=gradients.weight
        )
        total = x.new_zeros((), dtype=torch.float64)
        for span in token_spans(x.shape[0], plan.span_tokens):
            for chunk in token_spans(span.stop - span.start, plan.chunk_tokens):
                tokens = slice(span.start + chunk.start, span.start + chunk.stop)
                student, teacher = room.logits(chunk.stop - chunk.start)
                logits_into(student, x[tokens], student_weight)
                logits_into(teacher, tx[tokens], teacher_weight)
                dlogits = room.dlogits(chunk.start, chunk.stop)
                total += kl_and_gradient_(student, teacher, dlogits, settings.kl, settings.selection.weights_of(tokens))
            dlogits = room.dlogits(0, span.stop - span.start)
            if dlogits is not None:
                gradients.add(span, dlogits)
        ctx.gradients = gradients.finish(settings.selection)
        ctx.dtypes = (student_hidden.dtype, student_weight.dtype)
        ctx.weight, ctx.main_grad = student_weight, gradients.main_grad  # the weight for Megatron's mark on it
        return total.to(logits_dtype(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = hand_over(ctx, grad_output, ctx.dtypes)
        if ctx.main_grad is not None:
            weight = hand_over_main_grad(ctx.main_grad, ctx.weight, grad_output)
        return hidden, weight, None, None, None


def _plan(x: Tensor, weight: Tensor, settings: _Settings, *, wants_weight: bool) -> ChunkPlan:
    if settings.chunk_tokens or not x.is_cuda:
        pair = 2 * weight.shape[0] * logits_dtype(x.dtype).itemsize
        chunk = choose_chunk_tokens(pair, x.device, settings.chunk_tokens)
        return ChunkPlan(chunk, chunk)
    vocab_rows, hidden_size = weight.shape
    return plan_chunks(
        x.shape[0],
        vocab_rows,
        hidden_size,
        x.dtype,
        scratch_budget(x.device, is_sharded=shard_count(settings.kl.group) > 1),
        makes_weight_gradient=wants_weight and settings.main_grad is None,
    )


class _KdLossFromLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student_logits: Tensor, teacher_logits: Tensor, settings: _Settings) -> Tensor:
        s, t = settings.selection.take(student_logits), settings.selection.take(teacher_logits)  # [n, V]
        gradient = None
        if settings.grad_enabled and ctx.needs_input_grad[0]:
            gradient = s.detach() if settings.in_place else torch.empty_like(s)
        total = _kl_of_logits(s, t, gradient, settings)
        ctx.dtypes = (student_logits.dtype,)
        ctx.gradients = (None if gradient is None else settings.selection.put(gradient),)
        return total.to(logits_dtype(s.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return *hand_over(ctx, grad_output, ctx.dtypes), None, None


def _kl_of_logits(s: Tensor, t: Tensor, gradient: Tensor | None, settings: _Settings) -> Tensor:
    if uses_triton(s) and not settings.kl.top_k:  # that reads them as they are; top-k writes over the teacher's
        return kl_and_gradient_(s, t, gradient, settings.kl, settings.selection.weights)
    wide = logits_dtype(s.dtype)
    chunk = choose_chunk_tokens(2 * s.shape[1] * wide.itemsize, s.device)
    if shard_count(settings.kl.group) == 1:
        chunk = min(chunk, choose_row_block(s))  # nothing to exchange: widened, used and dropped while in cache
    total = s.new_zeros((), dtype=torch.float64)
    for tokens in token_spans(s.shape[0], chunk):
        student, teacher = s[tokens].to(wide, copy=True), t[tokens].to(wide, copy=True)
        dlogits = None if gradient is None else gradient[tokens]
        weights = settings.selection.weights_of(tokens)
        total += kl_and_gradient_(student, teacher, dlogits, settings.kl, weights)
    return total
