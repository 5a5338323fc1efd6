"""Forward KL(teacher || student) and its gradient on one chunk of logits, vocabulary-parallel.

Owns the formula. It works in place on logits that its callers own and drop; chunks, products and autograd are
`kd_loss.py`'s.

For one token and one vocabulary shard k, with probabilities p, q of student and teacher inside the shard:
    L_k = log-sum-exp of the student's logits, M_k of the teacher's, g_k = sum_j q_j (t_j - s_j);
with L, M over all shards and u_k = exp(L_k - L), v_k = exp(M_k - M):
    KL = sum_k v_k g_k - (M - L),      dKL/ds_j = (u_k p_j - v_k q_j) / T.
Equal logits give equal p, q, u, v and g = 0, so that the KL of a model with itself and its gradient are
exactly 0.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.chunks import choose_row_block, token_spans
from qad_core.kernels.device_choice import uses_triton
from qad_core.kernels.vocab_parallel import gather_statistics, shard_count, shard_index, shard_weights, softmax_


def kl_and_gradient_(
    student: Tensor,
    teacher: Tensor,
    gradient: Tensor | None,
    *,
    temperature: float,
    scale: float = 1.0,
    group: dist.ProcessGroup | None,
) -> Tensor:
    """0-dim float64 `scale` times the KL of one chunk of logits [c, V_shard], which may be overwritten.

    `scale` times d(KL)/d(logits) [c, V_shard] is written to `gradient`, of any type; it may lie over `student`, and in
    plain torch over `teacher`'s earlier rows.

    In plain torch without shards a row block is finished while it is in cache. With shards the statistics of the whole
    chunk are exchanged in one call, and the gradient is a second sweep.
    """
    if uses_triton(student):
        return scale * _kl_and_gradient_in_triton(student, teacher, gradient, temperature, scale, group)
    factor = scale / temperature
    blocks = list(token_spans(student.shape[0], choose_row_block(student)))
    sharded = shard_count(group) > 1
    local = []
    for rows in blocks:
        if temperature != 1.0:
            student[rows].div_(temperature)
            teacher[rows].div_(temperature)
        local.append(kl_statistics_(student[rows], teacher[rows]))
        if gradient is not None and not sharded:
            torch.sub(student[rows], teacher[rows], out=student[rows])
            _write_gradient_(gradient[rows], student[rows], factor)
    statistics = gather_statistics(torch.cat(local, dim=1), group)
    kl, student_total, teacher_total = kl_from_statistics(statistics)
    if gradient is not None and sharded:
        student_weights, teacher_weights, _ = statistics[shard_index(group)]
        student_weights = torch.exp(student_weights - student_total)
        teacher_weights = torch.exp(teacher_weights - teacher_total)
        for rows in blocks:
            _weigh_difference_(student[rows], teacher[rows], student_weights[rows], teacher_weights[rows])
            _write_gradient_(gradient[rows], student[rows], factor)
    return scale * kl.sum()


def _kl_and_gradient_in_triton(
    student: Tensor,
    teacher: Tensor,
    gradient: Tensor | None,
    temperature: float,
    scale: float,
    group: dist.ProcessGroup | None,
) -> Tensor:
    from qad_core.kernels import kl_rows  # Triton is there with CUDA builds of torch alone

    if shard_count(group) == 1:
        kl = kl_rows.kl_and_gradient_of_rows(student, teacher, gradient, temperature=temperature, scale=scale)
        return kl.double().sum()
    local = kl_rows.kl_statistics_of_rows(student, teacher, temperature=temperature)
    kl, *totals = kl_from_statistics(gather_statistics(local, group))
    if gradient is not None:
        kl_rows.write_gradient_of_rows(student, teacher, gradient, *totals, temperature=temperature, scale=scale)
    return kl.sum()


def kl_statistics_(student: Tensor, teacher: Tensor) -> Tensor:
    """Turn logits [n, V_shard] of both into the shard's probabilities, in place; return (L, M, g) [3, n] float64."""
    difference = teacher - student
    student_logsumexp, teacher_logsumexp = softmax_(student), softmax_(teacher)
    gap = difference.mul_(teacher).sum(-1).double()
    return torch.stack((student_logsumexp, teacher_logsumexp, gap))


def kl_from_statistics(statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(KL, L, M) [n] each from (L, M, g) of all shards [shards, 3, n]; see the module's formula."""
    student_total, _ = shard_weights(statistics[:, 0])
    teacher_total, teacher_weights = shard_weights(statistics[:, 1])
    kl = (teacher_weights * statistics[:, 2]).sum(0) - (teacher_total - student_total)
    return kl, student_total, teacher_total


def _weigh_difference_(student: Tensor, teacher: Tensor, student_weights: Tensor, teacher_weights: Tensor) -> None:
    """p <- u p - v q for probabilities p, q [n, V_shard]; three roundings, not a fused one, so that equals give 0."""
    student.mul_(student_weights.to(student.dtype).unsqueeze(-1))
    teacher.mul_(teacher_weights.to(teacher.dtype).unsqueeze(-1))
    torch.sub(student, teacher, out=student)


def _write_gradient_(gradient: Tensor, difference: Tensor, factor: float) -> None:
    if factor != 1.0:
        difference.mul_(factor)
    gradient.copy_(difference)
