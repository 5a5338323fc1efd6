"""How far a student is from its teacher and both from the labels: sums over tokens, without gradients.

Owns the statistics of an evaluation pass from hidden states: KL, cross-entropies, top-1 agreement. It shares the
chunks, float32 logits and shard combination with the losses; averaging, perplexity and reports are the caller's.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.chunks import TokenSelection, choose_chunk_tokens, choose_row_block, token_spans
from qad_core.kernels.cross_entropy import label_logits_of
from qad_core.kernels.kd_loss import check_heads
from qad_core.kernels.kl_divergence import kl_from_statistics, kl_statistics_
from qad_core.kernels.products import logits_dtype, logits_into
from qad_core.kernels.vocab_parallel import gather_statistics, local_labels, shard_index


@dataclass(frozen=True)
class EvaluationSums:
    """Sums over unmasked tokens, in nats; add those of several batches or ranks, then divide by `tokens`."""

    kl: float = 0.0
    """Forward KL(teacher || student) at temperature 1."""
    cross_entropy: float = 0.0
    """Of the student with the labels."""
    teacher_cross_entropy: float = 0.0
    """Of the teacher with the labels."""
    top1_agreement: float = 0.0
    """Tokens whose most probable next token is the same for both; the lowest index wins a tie."""
    tokens: float = 0.0
    """Unmasked tokens."""

    def __add__(self, other: EvaluationSums) -> EvaluationSums:
        return EvaluationSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def to_tensor(self, device: torch.device | str = "cpu") -> Tensor:
        """The fields in order, [5] float64, to be summed over ranks."""
        return torch.tensor(astuple(self), dtype=torch.float64, device=device)

    @classmethod
    def from_tensor(cls, sums: Tensor) -> EvaluationSums:
        """The inverse of `to_tensor`."""
        return cls(*sums.tolist())


@torch.no_grad()
def evaluate_from_hidden_states(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    labels: Tensor,
    *,
    loss_mask: Tensor | None = None,
    chunk_tokens: int = 0,
    tensor_parallel_group: dist.ProcessGroup | None = None,
) -> EvaluationSums:
    """Evaluation sums of one batch; arguments and errors as in the losses. The same on all tensor-parallel ranks.

    A token whose mask entry is not 0 counts once, whatever its weight.
    """
    check_heads(student_hidden, student_weight, teacher_hidden, teacher_weight)
    if labels.shape != student_hidden.shape[:-1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, the tokens {tuple(student_hidden.shape[:-1])}")
    selection = TokenSelection.from_mask(loss_mask, student_hidden)
    x, tx = (selection.take(h.reshape(-1, h.shape[-1])) for h in (student_hidden, teacher_hidden))
    y = selection.take(labels.reshape(-1))
    wide, vocab_rows = logits_dtype(x.dtype), student_weight.shape[0]
    chunk = choose_chunk_tokens(2 * vocab_rows * wide.itemsize, x.device, chunk_tokens)
    buffers = x.new_empty(2, min(chunk, x.shape[0]), vocab_rows, dtype=wide)
    sums = EvaluationSums()
    for tokens in token_spans(x.shape[0], chunk):
        student, teacher = buffers[:, : tokens.stop - tokens.start]
        logits_into(student, x[tokens], student_weight)
        logits_into(teacher, tx[tokens], teacher_weight)
        sums += _evaluate_chunk_(student, teacher, y[tokens], tensor_parallel_group)
    return sums


def _evaluate_chunk_(
    student: Tensor, teacher: Tensor, labels: Tensor, group: dist.ProcessGroup | None
) -> EvaluationSums:
    """Sums of one chunk of logits [c, V_shard], which are overwritten; one collective call."""
    column, inside = local_labels(labels, student.shape[1], group)
    first_row = shard_index(group) * student.shape[1]
    local = []
    for rows in token_spans(student.shape[0], choose_row_block(student)):
        s, t = student[rows], teacher[rows]
        label_logits = torch.stack([label_logits_of(logits, column[rows], inside[rows]) for logits in (s, t)])
        tops = torch.cat([_top1(s, first_row), _top1(t, first_row)])
        local.append(torch.cat((kl_statistics_(s, t), label_logits, tops)))
    shards = gather_statistics(torch.cat(local, dim=1), group)  # [shards, 9, c]
    kl, _, _ = kl_from_statistics(shards)
    logsumexp = torch.logsumexp(shards[:, 0:2], dim=0)  # [2, c], student and teacher
    cross_entropy = logsumexp - shards[:, 3:5].amax(0)
    agreement = _top1_of_shards(shards[:, 5:7]) == _top1_of_shards(shards[:, 7:9])
    sums = torch.stack((kl.sum(), *cross_entropy.sum(1), agreement.sum().double()))
    return EvaluationSums(*sums.tolist(), tokens=float(labels.numel()))


def _top1(logits: Tensor, first_row: int) -> Tensor:
    """(largest logit, its number in the whole vocabulary) [2, n] float64 of logits [n, V_shard]."""
    index = logits.argmax(-1, keepdim=True)  # torch documents that the first of equal logits is found
    return torch.stack((logits.gather(1, index).squeeze(-1).double(), (index.squeeze(-1) + first_row).double()))


def _top1_of_shards(tops: Tensor) -> Tensor:
    """Number of the largest logit [c] from (largest logit, number) of the shards [shards, 2, c], lowest on ties."""
    highest = tops[:, 0].amax(0)
    return torch.where(tops[:, 0] == highest, tops[:, 1], torch.inf).amin(0)
