"""Cross-entropy and evaluation from hidden states on one rank."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qad_core.kernels.cross_entropy import cross_entropy_from_hidden_states
from qad_core.kernels.evaluation import EvaluationSums, evaluate_from_hidden_states
from qad_core.kernels.kd_reference import kd_loss_reference
from tests.kernels.kd_cases import Heads, make_heads, make_labels, make_mask, plain_cross_entropy, relative_error


def chunked_cross_entropy(
    heads: Heads, labels: Tensor, loss_mask: Tensor | None, chunk_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    x, w = heads.as_leaves()
    loss = cross_entropy_from_hidden_states(x, w, labels, loss_mask=loss_mask, chunk_tokens=chunk_tokens)
    dx, dw = torch.autograd.grad(loss, (x, w))
    return loss.detach(), dx, dw


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("chunk_tokens", [0, 10], ids=["chosen_chunk", "chunk_10"])
def test_cross_entropy_error_is_no_more_than_plain_code_has(dtype: torch.dtype, chunk_tokens: int) -> None:
    heads, mask, labels = make_heads(37, 1013, 67, dtype), make_mask(37), make_labels(37, 1013)
    truth = plain_cross_entropy(heads.to(torch.float64), labels, mask)
    plain = plain_cross_entropy(heads, labels, mask)
    ours = chunked_cross_entropy(heads, labels, mask, chunk_tokens)
    for value, plain_value, true_value in zip(ours, plain, truth, strict=True):
        assert relative_error(value, true_value) < 1.2 * relative_error(plain_value, true_value) + 2e-6


def test_masked_tokens_do_not_count_in_cross_entropy() -> None:
    heads, mask, labels = make_heads(20, 300, 16, torch.float64), make_mask(20), make_labels(20, 300)
    ours = chunked_cross_entropy(heads, torch.where(mask.bool(), labels, -100), mask, 0)
    for value, truth in zip(ours, plain_cross_entropy(heads, labels, mask), strict=True):
        assert relative_error(value, truth) < 1e-12
    for value in chunked_cross_entropy(heads, labels, torch.zeros(20), 0):
        assert value.count_nonzero() == 0


def test_an_unmasked_label_outside_the_vocabulary_is_loud() -> None:
    heads = make_heads(3, 50, 16, torch.float32)
    loss = cross_entropy_from_hidden_states(heads.student_hidden, heads.student_weight, torch.tensor([1, 50, 2]))
    assert loss.item() == float("inf")


def evaluate_plainly(heads: Heads, labels: Tensor, mask: Tensor) -> EvaluationSums:
    kept = mask.bool()
    student = heads.student_hidden @ heads.student_weight.t()
    teacher = heads.teacher_hidden @ heads.teacher_weight.t()
    return EvaluationSums(
        kl=kd_loss_reference(student, teacher, loss_mask=mask).item(),
        cross_entropy=F.cross_entropy(student[kept], labels[kept], reduction="sum").item(),
        teacher_cross_entropy=F.cross_entropy(teacher[kept], labels[kept], reduction="sum").item(),
        top1_agreement=(student.argmax(-1) == teacher.argmax(-1))[kept].sum().item(),
        tokens=kept.sum().item(),
    )


def test_evaluation_sums_agree_with_plain_float64() -> None:
    heads, mask, labels = make_heads(50, 700, 32, torch.float64), make_mask(50), make_labels(50, 700)
    ours = evaluate_from_hidden_states(*heads.tensors(), labels, loss_mask=mask, chunk_tokens=7)
    expected = evaluate_plainly(heads, labels, mask)
    assert 0 < expected.top1_agreement < expected.tokens
    assert astuple(ours) == pytest.approx(astuple(expected), rel=1e-12)


def test_evaluation_in_bfloat16_is_within_float32_rounding_of_the_truth() -> None:
    heads, mask, labels = make_heads(50, 700, 32, torch.bfloat16), make_mask(50), make_labels(50, 700)
    ours = evaluate_from_hidden_states(*heads.tensors(), labels, loss_mask=mask)
    assert astuple(ours) == pytest.approx(astuple(evaluate_plainly(heads.to(torch.float64), labels, mask)), rel=1e-5)


def test_evaluation_sums_add_and_survive_a_tensor() -> None:
    sums = EvaluationSums(1.0, 2.0, 3.0, 4.0, 5.0)
    assert EvaluationSums.from_tensor((sums + sums).to_tensor()) == EvaluationSums(2.0, 4.0, 6.0, 8.0, 10.0)
