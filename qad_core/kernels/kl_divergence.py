"""KL between teacher and student and its gradient on one chunk of logits, vocabulary-parallel.

Owns the formulas. It works in place on logits that its callers own and drop; chunks, products and autograd are
`kd_loss.py`'s, and top-k is a change of the teacher's logits before all this (`ghost_bucket.py`).

For one token and one vocabulary shard k, with probabilities p, q of student and teacher inside the shard:
    L_k = log-sum-exp of the student's logits, M_k of the teacher's, g_k = sum_j q_j (t_j - s_j);
with L, M over all shards and u_k = exp(L_k - L), v_k = exp(M_k - M):
    forward KL(teacher || student) = sum_k v_k g_k - (M - L),    dKL/ds_j = (u_k p_j - v_k q_j) / T.
The reverse is the same with the two exchanged, h_k = sum_j p_j (s_j - t_j) and h = sum_k u_k h_k:
    reverse KL(student || teacher) = h - (L - M),    dKL/ds_j = u_k p_j (s_j - t_j - h) / T,
since log p_j - log q_j - KL over the whole vocabulary is s_j - t_j - h: there log-sum-exps cancel, and are not
subtracted.
So three numbers a token and shard are exchanged in either case. Equal logits give equal p, q, u, v and g = h = 0, so
that the KL of a model with itself and its gradient are exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.chunks import choose_row_block, token_spans
from qad_core.kernels.device_choice import uses_triton
from qad_core.kernels.ghost_bucket import replace_teacher_tail_
from qad_core.kernels.vocab_parallel import gather_statistics, shard_count, shard_index, shard_weights, softmax_

Divergence = Literal["forward", "reverse"]
"""`forward` is KL(teacher || student), `reverse` is KL(student || teacher)."""


@dataclass(frozen=True)
class KlSettings:
    """Which KL is taken; raises ValueError for a divergence that there is not and a negative `top_k`."""

    temperature: float = 1.0
    """Divides both models' logits."""
    scale: float = 1.0
    """Multiplies value and gradient."""
    group: dist.ProcessGroup | None = None
    """Ranks that hold the other vocabulary shards."""
    divergence: Divergence = "forward"
    top_k: int = 0
    """The teacher's most likely tokens that count on their own, all others as one; 0 is the whole vocabulary."""

    def __post_init__(self) -> None:
        if self.divergence not in get_args(Divergence):
            raise ValueError(f"divergence {self.divergence!r} is neither 'forward' nor 'reverse'")
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k} is negative; 0 is the whole vocabulary")


def kl_and_gradient_(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, settings: KlSettings, weights: Tensor | None = None
) -> Tensor:
    """0-dim float64 sum of the scaled KL of one chunk of logits [c, V_shard], which may be overwritten.

    d(sum)/d(logits) [c, V_shard] is written to `gradient`, of any type; it may lie over `student`, and in plain torch
    over `teacher`'s earlier rows. `weights` [c] multiply the tokens; None is 1 for all.

    In plain torch without shards a row block is finished while it is in cache. With shards the statistics of the whole
    chunk are exchanged in one call, and the gradient is a second sweep.
    """
    if settings.top_k:
        replace_teacher_tail_(teacher, student, settings.top_k, temperature=settings.temperature, group=settings.group)
    kl_of_rows = _kl_and_gradient_in_triton if uses_triton(student) else _kl_and_gradient_in_torch
    kl = kl_of_rows(student, teacher, gradient, settings, weights)
    return settings.scale * (kl if weights is None else kl * weights).sum()


def _kl_and_gradient_in_torch(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, settings: KlSettings, weights: Tensor | None
) -> Tensor:
    """KL [c] float64 without scale and weights, which the gradient has."""
    blocks = list(token_spans(student.shape[0], choose_row_block(student)))
    sharded = shard_count(settings.group) > 1
    statistics_ = kl_statistics_ if settings.divergence == "forward" else reverse_kl_statistics_
    local = []
    for rows in blocks:
        if settings.temperature != 1.0:
            student[rows].div_(settings.temperature)
            teacher[rows].div_(settings.temperature)
        local.append(statistics_(student[rows], teacher[rows]))
        if gradient is not None and not sharded:
            _difference_(student[rows], teacher[rows], local[-1][2], settings.divergence)
            _write_gradient_(gradient[rows], student[rows], settings, None if weights is None else weights[rows])
    statistics = gather_statistics(torch.cat(local, dim=1), settings.group)
    kl, *totals = kl_from_statistics(statistics, settings.divergence)
    if gradient is not None and sharded:
        gap = mean_gap(kl, *totals)
        shares = torch.exp(statistics[shard_index(settings.group), :2] - torch.stack(totals))  # [2, c], u and v
        for rows in blocks:
            _weigh_(student[rows], teacher[rows], shares[:, rows], settings.divergence)
            _difference_(student[rows], teacher[rows], gap[rows], settings.divergence)
            _write_gradient_(gradient[rows], student[rows], settings, None if weights is None else weights[rows])
    return kl


def _kl_and_gradient_in_triton(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, settings: KlSettings, weights: Tensor | None
) -> Tensor:
    """As `_kl_and_gradient_in_torch`."""
    from qad_core.kernels import kl_rows  # Triton is there with CUDA builds of torch alone

    row_weights = None if weights is None else weights.float()
    options = kl_rows.RowOptions(settings.temperature, settings.scale, settings.divergence, row_weights)
    if shard_count(settings.group) == 1:
        return kl_rows.kl_and_gradient_of_rows(student, teacher, gradient, options).double()
    local = kl_rows.kl_statistics_of_rows(student, teacher, options)
    totals = kl_from_statistics(gather_statistics(local, settings.group), settings.divergence)
    if gradient is not None:
        kl_rows.write_gradient_of_rows(student, teacher, gradient, totals, options)
    return totals[0]


def kl_statistics_(student: Tensor, teacher: Tensor) -> Tensor:
    """Turn logits [n, V_shard] of both into the shard's probabilities, in place; return (L, M, g) [3, n] float64."""
    difference = teacher - student
    student_logsumexp, teacher_logsumexp = softmax_(student), softmax_(teacher)
    gap = difference.mul_(teacher).sum(-1).double()
    return torch.stack((student_logsumexp, teacher_logsumexp, gap))


def reverse_kl_statistics_(student: Tensor, teacher: Tensor) -> Tensor:
    """Turn logits [n, V_shard] into p and, in `teacher`, s - t, in place; return (L, M, h) [3, n] float64."""
    difference = student - teacher
    student_logsumexp, teacher_logsumexp = softmax_(student), softmax_(teacher)
    gap = torch.mul(student, difference, out=teacher).sum(-1).double()
    teacher.copy_(difference)
    return torch.stack((student_logsumexp, teacher_logsumexp, gap))


def kl_from_statistics(statistics: Tensor, divergence: Divergence = "forward") -> tuple[Tensor, Tensor, Tensor]:
    """(KL, L, M) [n] each from (L, M, g or h) of all shards [shards, 3, n]; see the module's formulas."""
    student_total, student_weights = shard_weights(statistics[:, 0])
    teacher_total, teacher_weights = shard_weights(statistics[:, 1])
    if divergence == "forward":
        kl = (teacher_weights * statistics[:, 2]).sum(0) - (teacher_total - student_total)
    else:
        kl = (student_weights * statistics[:, 2]).sum(0) - (student_total - teacher_total)
    return kl, student_total, teacher_total


def mean_gap(reverse_kl: Tensor, student_total: Tensor, teacher_total: Tensor) -> Tensor:
    """h [n] over all shards from the reverse (KL, L, M)."""
    return reverse_kl + (student_total - teacher_total)


def _weigh_(student: Tensor, teacher: Tensor, shares: Tensor, divergence: Divergence) -> None:
    """p <- u p and, of the forward KL, q <- v q for [n, V_shard] and (u, v) [2, n]."""
    student_share, teacher_share = shares.to(student.dtype).unsqueeze(-1)
    student.mul_(student_share)
    if divergence == "forward":
        teacher.mul_(teacher_share)


def _difference_(student: Tensor, teacher: Tensor, gap: Tensor, divergence: Divergence) -> None:
    """T times d(KL)/d(logits) [n, V_shard] in `student`, from what the statistics and `_weigh_` left.

    Each operation rounds by itself, none is fused, so that equal logits give 0. `gap` [n] is h of the reverse KL.
    """
    if divergence == "forward":
        torch.sub(student, teacher, out=student)
    else:
        student.mul_(teacher.sub_(gap.to(teacher.dtype).unsqueeze(-1)))


def _write_gradient_(gradient: Tensor, difference: Tensor, settings: KlSettings, weights: Tensor | None) -> None:
    factor = settings.scale / settings.temperature
    if weights is not None:
        difference.mul_((weights.to(difference.dtype) * factor).unsqueeze(-1))
    elif factor != 1.0:
        difference.mul_(factor)
    gradient.copy_(difference)
