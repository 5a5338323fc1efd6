"""Top-k distillation with a ghost bucket: all tokens but the teacher's k most likely count as one outcome.

Owns who is in the bucket and how it enters the KL. Nothing is renormalised: the bucket keeps the teacher's tail mass
on one side and the student's on the other, and the KL is that of k + 1 outcomes.

How: the teacher's logits in the bucket are replaced by the student's, shifted so that their sum of exponentials stays.
Inside the bucket both models are then the same distribution, so that by the chain rule of the KL
    KL(all V tokens) = KL(k + 1 outcomes) + tail mass * KL(inside the bucket) = KL(k + 1 outcomes) + 0,
in both directions; and as the last term is at its minimum, its gradient is 0 too. What is left to compute is the KL of
the whole vocabulary, by the same code, on shards and in Triton too. The masses are only ever logarithms,
log-sum-exps of the tail itself and not 1 - sum, so that a tiny tail keeps all its digits.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.chunks import choose_copy_rows, token_spans
from qad_core.kernels.vocab_parallel import gather_statistics, shard_count, softmax_


def replace_teacher_tail_(
    teacher: Tensor, student: Tensor, top_k: int, *, temperature: float, group: dist.ProcessGroup | None
) -> None:
    """Replace the teacher's logits in the bucket, in place; both are [c, V_shard], float32 or float64, before 1 / T.

    The `top_k` most likely tokens of the whole vocabulary stay, and with them those exactly as likely as the last. A
    `top_k` of the whole vocabulary or more changes nothing. This is plain torch on every device, a row block at a time,
    and with shards two collective calls, of `top_k` and of two numbers a token.
    """
    if top_k >= teacher.shape[1] * shard_count(group):
        return
    blocks = list(token_spans(teacher.shape[0], choose_copy_rows(teacher)))
    threshold = _lowest_kept(teacher, blocks, top_k, group).unsqueeze(-1)  # [c, 1]
    local: list[Tensor] = []
    for rows in blocks:
        is_kept = teacher[rows] >= threshold[rows]
        local.append(torch.stack([_tail_logsumexp(x[rows], is_kept, temperature) for x in (student, teacher)]))
    student_tail, teacher_tail = torch.logsumexp(gather_statistics(torch.cat(local, dim=1), group), dim=0)  # [c] each
    shift = (temperature * (teacher_tail - student_tail)).to(teacher.dtype).unsqueeze(-1)
    for rows in blocks:
        is_kept = teacher[rows] >= threshold[rows]
        torch.where(is_kept, teacher[rows], student[rows] + shift[rows], out=teacher[rows])


def _lowest_kept(teacher: Tensor, blocks: list[slice], top_k: int, group: dist.ProcessGroup | None) -> Tensor:
    """The `top_k`-th largest logit [c] of the whole vocabulary."""
    count = min(top_k, teacher.shape[1])
    own = torch.cat([teacher[rows].topk(count, dim=-1, sorted=False).values for rows in blocks])  # [c, count]
    candidates = gather_statistics(own.t(), group).flatten(0, 1)  # [shards * count, c]
    return candidates.topk(top_k, dim=0, sorted=False).values.amin(0)


def _tail_logsumexp(logits: Tensor, is_kept: Tensor, temperature: float) -> Tensor:
    """Log-sum-exp [n] float64 of `logits` [n, V_shard] / T outside `is_kept`, minus infinity where that is nothing."""
    tail = logits.masked_fill(is_kept, -torch.inf).div_(temperature)
    return torch.where(is_kept.all(-1), -torch.inf, softmax_(tail))
