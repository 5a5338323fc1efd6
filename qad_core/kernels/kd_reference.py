"""The KD loss in plain torch, the truth that the fast functions of `kd_loss.py` are tested against.

Owns the definition of every option in full-size tensors and autograd; no chunks, shards or kernels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qad_core.kernels.kl_divergence import Divergence


def kd_loss_reference(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    loss_mask: Tensor | None = None,
    temperature: float = 1.0,
    divergence: Divergence = "forward",
    top_k: int = 0,
) -> Tensor:
    """The loss in the type of the logits [..., V]; 0-dim sum over unmasked tokens, each times its mask entry."""
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    first, second = (teacher, student) if divergence == "forward" else (student, teacher)
    kl = _kl_with_ghost_bucket(first, second, teacher, top_k) if top_k else (first.exp() * (first - second)).sum(-1)
    if loss_mask is None:
        return kl.sum()
    counted = loss_mask != 0  # [...]
    return (kl[counted] * loss_mask[counted].to(kl.dtype)).sum()


def _kl_with_ghost_bucket(first: Tensor, second: Tensor, teacher: Tensor, top_k: int) -> Tensor:
    """KL [...] of log-probabilities [..., V], where all but the teacher's `top_k` likeliest tokens are one outcome."""
    is_kept = teacher >= teacher.topk(top_k, dim=-1).values[..., -1:]
    kept = torch.where(is_kept, first.exp() * (first - second), 0.0).sum(-1)
    first_tail, second_tail = (x.masked_fill(is_kept, -torch.inf).logsumexp(-1) for x in (first, second))
    return kept + first_tail.exp() * (first_tail - second_tail)
