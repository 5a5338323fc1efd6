"""The criterion that modelopt calls: what it adds up, against the same sum in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from qad_core.config.schema import DistillationConfig, ParallelismConfig
from qad_core.train.batches import Batch
from qad_core.train.distill import HiddenStatesLoss
from qad_core.train.parallel import initialize_parallel, shut_down_parallel

SEQUENCE, BATCH, VOCABULARY, WIDTH, TEACHER_WIDTH = 7, 3, 37, 16, 24


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    initialize_parallel(ParallelismConfig(), device="cpu", precision="fp32")
    yield
    shut_down_parallel()


def head_of(weight: torch.Tensor) -> Any:
    """As much of a model as the criterion asks for."""
    return SimpleNamespace(
        output_weight=lambda: weight,
        share_embeddings_and_output_weights=False,
        pre_process=True,
        config=SimpleNamespace(sequence_parallel=False),
    )


def test_cross_entropy_beside_the_kl_is_added_with_its_weight_and_the_kl_is_told_alone() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    student, weight = random(SEQUENCE, BATCH, WIDTH).requires_grad_(), random(VOCABULARY, WIDTH).requires_grad_()
    weight.main_grad = torch.zeros_like(weight)  # pyright: ignore[reportAttributeAccessIssue] - as Megatron's DDP has it
    teacher, teacher_weight = random(SEQUENCE, BATCH, TEACHER_WIDTH), random(VOCABULARY, TEACHER_WIDTH)
    mask = (random(BATCH, SEQUENCE) > -0.5).float()
    labels = torch.randint(VOCABULARY, (BATCH, SEQUENCE), generator=generator)
    batch = Batch(labels, labels, mask, labels)
    distillation = DistillationConfig(temperature=2.0, skip_lm_loss=False, kd_loss_scale=0.3)
    criterion = HiddenStatesLoss(head_of(weight), head_of(teacher_weight), "qad", distillation)
    loss, told, _ = criterion(student, teacher, batch=batch, evaluate=False)
    found = torch.autograd.grad(loss, (student, weight))

    logits, kept = (student @ weight.t()).transpose(0, 1), mask.bool()  # [b, s, V]
    target = ((teacher @ teacher_weight.t()).transpose(0, 1) / 2.0).log_softmax(-1)
    kl = F.kl_div((logits / 2.0).log_softmax(-1), target, log_target=True, reduction="none").sum(-1)[kept].sum()
    plain = F.cross_entropy(logits[kept], labels[kept], reduction="sum") + 0.3 * kl
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(told, kl.detach())
    for own, expected in zip(found, torch.autograd.grad(plain, (student, weight)), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
