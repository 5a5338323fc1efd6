"""The KD loss's options: reverse KL, the teacher's top k with a ghost bucket, weights of tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qad_core.kernels.cross_entropy import cross_entropy_from_hidden_states
from qad_core.kernels.kd_loss import kd_loss_from_hidden_states, kd_loss_from_logits
from qad_core.kernels.kd_reference import kd_loss_reference
from qad_core.kernels.kl_divergence import Divergence
from tests.kernels.kd_cases import Heads, make_heads, make_labels, make_mask, make_weights, plain_kd, relative_error

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
VARIANTS = pytest.mark.parametrize(("divergence", "top_k"), [("reverse", 0), ("forward", 5), ("reverse", 5)])


def chunked_kd(heads: Heads, **options: object) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, dX, dW) of the function under test."""
    x, w = heads.as_leaves()
    loss = kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight, **options)  # type: ignore[arg-type]
    dx, dw = torch.autograd.grad(loss, (x, w))
    return loss.detach(), dx, dw


def kd_of_logits(student: Tensor, teacher: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """(loss, gradient) from logits."""
    leaf = student.clone().requires_grad_()
    loss = kd_loss_from_logits(leaf, teacher, **options)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def reference_of_logits(student: Tensor, teacher: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """(loss, gradient) of the plain reference, in the type of the logits."""
    leaf = student.clone().requires_grad_()
    loss = kd_loss_reference(leaf, teacher, **options)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


@DTYPES
@VARIANTS
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_error_is_far_below_plain_bfloat16_and_no_more_than_plain_float32(
    divergence: Divergence, top_k: int, temperature: float, dtype: torch.dtype
) -> None:
    heads, weights = make_heads(37, 1013, 67, dtype), make_weights(37)
    options = {"temperature": temperature, "divergence": divergence, "top_k": top_k}
    truth = plain_kd(heads.to(torch.float64), weights, **options)
    plain = plain_kd(heads, weights, **options)
    ours = chunked_kd(heads, loss_mask=weights, chunk_tokens=10, **options)
    assert [t.dtype for t in ours] == [torch.float32, dtype, dtype]
    for value, plain_value, true_value in zip(ours, plain, truth, strict=True):
        plain_error = relative_error(plain_value, true_value)
        # In float32 both make the same few roundings in another order.
        assert relative_error(value, true_value) < (
            plain_error / 3 if dtype == torch.bfloat16 else 2 * plain_error + 2e-6
        )


@pytest.mark.parametrize(("divergence", "top_k"), [("forward", 0), ("reverse", 0), ("forward", 40), ("reverse", 40)])
def test_rows_longer_than_one_slice_and_float64_agree_with_the_reference(divergence: Divergence, top_k: int) -> None:
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        heads, weights = make_heads(7, 8219, 16, dtype), make_weights(7)
        options = {"temperature": 1.7, "divergence": divergence, "top_k": top_k}
        truth = plain_kd(heads.to(torch.float64), weights, **options)
        for value, true_value in zip(chunked_kd(heads, loss_mask=weights, **options), truth, strict=True):
            assert relative_error(value, true_value) < tolerance


@DTYPES
@VARIANTS
def test_a_model_has_exactly_no_kl_and_no_gradient_with_itself(
    divergence: Divergence, top_k: int, dtype: torch.dtype
) -> None:
    heads = make_heads(21, 515, 33, dtype)
    itself = Heads(heads.teacher_hidden, heads.teacher_weight, heads.teacher_hidden, heads.teacher_weight)
    for value in chunked_kd(itself, temperature=1.3, divergence=divergence, top_k=top_k, chunk_tokens=8):
        assert value.count_nonzero() == 0


@VARIANTS
@DTYPES
def test_loss_from_logits_agrees_with_float64_and_leaves_the_teacher_alone(
    divergence: Divergence, top_k: int, dtype: torch.dtype
) -> None:
    heads, weights = make_heads(30, 700, 40, torch.float64), make_weights(30)
    student = (heads.student_hidden @ heads.student_weight.t()).to(dtype)
    teacher = (heads.teacher_hidden @ heads.teacher_weight.t()).to(dtype)
    options = {"loss_mask": weights, "temperature": 2.0, "divergence": divergence, "top_k": top_k}
    before = teacher.clone()
    truth, true_gradient = reference_of_logits(student.double(), teacher.double(), **options)
    loss, gradient = kd_of_logits(student, teacher, **options)
    assert torch.equal(teacher, before) and gradient.dtype == dtype
    assert (loss - truth).abs() < 5e-8 * weights.sum()  # what float32 log-sum-exps are off by, in nats a token
    assert relative_error(gradient, true_gradient) < (3e-3 if dtype == torch.bfloat16 else 2e-5)
    _, in_place = kd_of_logits(student, teacher, in_place=True, **options)
    assert torch.equal(in_place, gradient)


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize("peak", [20.0, 40.0, 60.0])
def test_a_tiny_tail_keeps_its_digits(peak: float, divergence: Divergence) -> None:
    heads = make_heads(9, 300, 40, torch.float64)
    student, teacher = heads.student_hidden @ heads.student_weight.t(), heads.teacher_hidden @ heads.teacher_weight.t()
    top = teacher.topk(3).indices
    teacher.scatter_add_(1, top, torch.full(top.shape, peak, dtype=torch.float64))
    student.scatter_add_(1, top, torch.full(top.shape, peak - 2, dtype=torch.float64))
    student, teacher = student.float(), teacher.float()  # tails down to 1e-27 of the whole
    options = {"divergence": divergence, "top_k": 3}
    _, truth = reference_of_logits(student.double(), teacher.double(), **options)
    _, gradient = kd_of_logits(student, teacher, **options)
    in_tail = torch.ones_like(gradient, dtype=torch.bool).scatter(1, top, False)
    assert truth[in_tail].abs().max() < 1e-6
    assert relative_error(gradient[in_tail], truth[in_tail]) < 1e-5


def test_a_top_k_of_the_whole_vocabulary_is_the_full_loss() -> None:
    heads = make_heads(12, 90, 16, torch.bfloat16)
    for value, full in zip(chunked_kd(heads, top_k=90), chunked_kd(heads), strict=True):
        assert torch.equal(value, full)


def test_more_tokens_of_their_own_never_lower_the_loss() -> None:
    heads = make_heads(12, 90, 16, torch.float64)
    losses = [chunked_kd(heads, top_k=k)[0].item() for k in (1, 2, 8, 32, 89, 0)]
    assert losses == sorted(losses) and losses[0] > 0


def test_tokens_as_likely_as_the_last_of_the_top_k_stay_with_it() -> None:
    teacher = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0, -1.0]])
    student = torch.randn(1, 6, generator=torch.Generator().manual_seed(3))
    for value, truth in zip(
        kd_of_logits(student, teacher, top_k=2), reference_of_logits(student, teacher, top_k=4), strict=True
    ):
        assert relative_error(value, truth.double()) < 1e-5
    level = torch.zeros(1, 6)  # nothing is left for the bucket
    for value, truth in zip(kd_of_logits(student, level, top_k=2), reference_of_logits(student, level), strict=True):
        assert relative_error(value, truth.double()) < 1e-5


def test_weights_multiply_loss_and_gradients_of_their_tokens_and_those_of_0_are_left_out() -> None:
    heads, weights = make_heads(20, 300, 16, torch.float64), make_weights(20)
    assert 0 < weights.count_nonzero() < 20
    loss, dx, dw = chunked_kd(heads, loss_mask=weights, chunk_tokens=3)
    parts = [chunked_kd(heads, loss_mask=torch.arange(20) == token) for token in range(20)]
    for value, index in ((loss, 0), (dx, 1), (dw, 2)):
        total = sum(weight.double() * part[index] for weight, part in zip(weights, parts, strict=True))
        assert relative_error(value, torch.as_tensor(total)) < 1e-12
    assert dx[weights == 0].count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
def test_a_mask_of_any_type_counts_its_ones_once(dtype: torch.dtype) -> None:
    heads, mask = make_heads(20, 300, 16, torch.float32), make_mask(20)
    for value, expected in zip(
        chunked_kd(heads, loss_mask=mask.to(dtype)), chunked_kd(heads, loss_mask=mask), strict=True
    ):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("entry", [-0.5, float("nan"), float("inf")])
def test_a_weight_that_is_no_finite_number_from_0_on_is_refused(entry: float) -> None:
    heads = make_heads(4, 50, 8, torch.float32)
    with pytest.raises(ValueError, match="1 entries that are negative, infinite or NaN"):
        chunked_kd(heads, loss_mask=torch.tensor([1.0, entry, 0.0, 0.5]))


def test_cross_entropy_takes_the_same_weights() -> None:
    heads, labels, weights = make_heads(20, 300, 16, torch.float64), make_labels(20, 300), make_weights(20)
    x, w = heads.as_leaves()
    loss = cross_entropy_from_hidden_states(x, w, labels, loss_mask=weights, chunk_tokens=3)
    per_token = torch.nn.functional.cross_entropy(x @ w.t(), labels, reduction="none")
    truth = (per_token * weights).sum()
    assert relative_error(loss, truth.detach()) < 1e-12
    for value, true_value in zip(torch.autograd.grad(loss, (x, w)), torch.autograd.grad(truth, (x, w)), strict=True):
        assert relative_error(value, true_value) < 1e-12


def test_options_that_there_are_not_are_refused() -> None:
    heads = make_heads(4, 50, 8, torch.float32)
    with pytest.raises(ValueError, match="divergence 'backward' is neither"):
        chunked_kd(heads, divergence="backward")
    with pytest.raises(ValueError, match="top_k -1 is negative"):
        chunked_kd(heads, top_k=-1)
