"""Student and teacher heads of small, odd sizes, and the float64 truth about their losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qad_core.kernels.kd_reference import kd_loss_reference
from qad_core.kernels.kl_divergence import Divergence


@dataclass(frozen=True)
class Heads:
    """A student near its teacher, as late in distillation: logits of standard deviation 3, KL about 0.02."""

    student_hidden: Tensor  # [N, H]
    student_weight: Tensor  # [V, H]
    teacher_hidden: Tensor  # [N, teacher's H]
    teacher_weight: Tensor  # [V, teacher's H]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.student_hidden, self.student_weight, self.teacher_hidden, self.teacher_weight

    def to(self, dtype: torch.dtype) -> Heads:
        return Heads(*(t.to(dtype) for t in self.tensors()))

    def vocabulary_shard(self, index: int, count: int) -> Heads:
        return Heads(
            self.student_hidden,
            self.student_weight.chunk(count)[index].contiguous(),
            self.teacher_hidden,
            self.teacher_weight.chunk(count)[index].contiguous(),
        )

    def as_leaves(self) -> tuple[Tensor, Tensor]:
        """Fresh student leaves that ask for gradients."""
        return self.student_hidden.detach().requires_grad_(), self.student_weight.detach().requires_grad_()


def make_heads(num_tokens: int, vocab: int, hidden: int, dtype: torch.dtype, seed: int = 0) -> Heads:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale = 3.0 / hidden**0.5
    teacher_hidden, teacher_weight = normal(num_tokens, hidden), normal(vocab, hidden) * scale
    student_hidden = teacher_hidden + 0.05 * normal(num_tokens, hidden)
    student_weight = teacher_weight + 0.05 * scale * normal(vocab, hidden)
    return Heads(student_hidden, student_weight, teacher_hidden, teacher_weight).to(dtype)


def make_mask(num_tokens: int, seed: int = 1) -> Tensor:
    """About two thirds ones, float as the data loader's."""
    return (torch.rand(num_tokens, generator=torch.Generator().manual_seed(seed)) < 0.67).float()


def make_weights(num_tokens: int, seed: int = 3) -> Tensor:
    """A float32 weight a token: a third are 0, the others anything up to 2."""
    return make_mask(num_tokens, seed) * 2 * torch.rand(num_tokens, generator=torch.Generator().manual_seed(seed + 1))


def make_labels(num_tokens: int, vocab: int, seed: int = 2) -> Tensor:
    return torch.randint(vocab, (num_tokens,), generator=torch.Generator().manual_seed(seed))


def plain_kd(
    heads: Heads,
    loss_mask: Tensor | None,
    temperature: float,
    divergence: Divergence = "forward",
    top_k: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, dX, dW) of plain torch code in the heads' own type."""
    x, w = heads.as_leaves()
    loss = kd_loss_reference(
        x @ w.t(),
        heads.teacher_hidden @ heads.teacher_weight.t(),
        loss_mask=loss_mask,
        temperature=temperature,
        divergence=divergence,
        top_k=top_k,
    )
    dx, dw = torch.autograd.grad(loss, (x, w))
    return loss.detach(), dx, dw


def plain_cross_entropy(heads: Heads, labels: Tensor, loss_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, dX, dW) of plain torch code in the heads' own type."""
    x, w = heads.as_leaves()
    per_token = F.cross_entropy(x @ w.t(), labels, reduction="none")
    loss = per_token.sum() if loss_mask is None else per_token[loss_mask.bool()].sum()
    dx, dw = torch.autograd.grad(loss, (x, w))
    return loss.detach(), dx, dw


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of the truth."""
    return ((value.double() - truth.double()).norm() / truth.double().norm()).item()
