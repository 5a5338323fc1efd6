"""KD loss on one rank: value and gradients against float64, masks, chunks, scratch memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from qad_core.kernels.device_choice import is_interpreted
from qad_core.kernels.head_gradients import MainGrad
from qad_core.kernels.kd_loss import kd_loss_from_hidden_states, kd_loss_from_logits
from tests.kernels.kd_cases import Heads, make_heads, make_mask, plain_kd, relative_error
from tests.kernels.live_bytes import peak_new_bytes


def chunked_kd(heads: Heads, **options: object) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, dX, dW) of the function under test."""
    x, w = heads.as_leaves()
    loss = kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight, **options)  # type: ignore[arg-type]
    dx, dw = torch.autograd.grad(loss, (x, w))
    return loss.detach(), dx, dw


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("chunk_tokens", [0, 1, 10], ids=["chosen_chunk", "chunk_1", "chunk_10"])
def test_error_is_far_below_plain_bfloat16_and_no_more_than_plain_float32(
    dtype: torch.dtype, temperature: float, chunk_tokens: int
) -> None:
    heads, mask = make_heads(37, 1013, 67, dtype), make_mask(37)
    truth = plain_kd(heads.to(torch.float64), mask, temperature)
    plain = plain_kd(heads, mask, temperature)
    ours = chunked_kd(heads, loss_mask=mask, temperature=temperature, chunk_tokens=chunk_tokens)
    assert [t.dtype for t in ours] == [torch.float32, dtype, dtype]
    for value, plain_value, true_value in zip(ours, plain, truth, strict=True):
        plain_error = relative_error(plain_value, true_value)
        # In float32 both make the same few roundings in another order.
        assert relative_error(value, true_value) < (
            plain_error / 3 if dtype == torch.bfloat16 else 2 * plain_error + 2e-6
        )


def test_bfloat16_gradients_lose_no_more_than_two_bfloat16_roundings() -> None:
    heads = make_heads(64, 4099, 65, torch.bfloat16)
    _, true_dx, true_dw = plain_kd(heads.to(torch.float64), None, 1.0)
    _, dx, dw = chunked_kd(heads)
    assert relative_error(dx, true_dx) < 3e-3  # rounding d-logits and the result costs 1.7e-3 each
    assert relative_error(dw, true_dw) < 3e-3


def test_float64_inputs_are_computed_in_float64() -> None:
    heads, mask = make_heads(9, 211, 13, torch.float64), make_mask(9)
    truth = plain_kd(heads, mask, 1.7)
    for value, true_value in zip(
        chunked_kd(heads, loss_mask=mask, temperature=1.7, chunk_tokens=4), truth, strict=True
    ):
        assert value.dtype == torch.float64
        assert relative_error(value, true_value) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_model_has_exactly_no_kl_and_no_gradient_with_itself(dtype: torch.dtype) -> None:
    heads = make_heads(21, 515, 33, dtype)
    itself = Heads(heads.teacher_hidden, heads.teacher_weight, heads.teacher_hidden, heads.teacher_weight)
    for value in chunked_kd(itself, temperature=1.3, chunk_tokens=8):
        assert value.count_nonzero() == 0


def test_a_masked_token_does_not_count_and_gets_no_gradient() -> None:
    heads, mask = make_heads(20, 300, 16, torch.float32), make_mask(20)
    kept = mask.bool()
    loss, dx, dw = chunked_kd(heads, loss_mask=mask)
    compact = Heads(heads.student_hidden[kept], heads.student_weight, heads.teacher_hidden[kept], heads.teacher_weight)
    expected_loss, expected_dx, expected_dw = chunked_kd(compact)
    assert loss == expected_loss
    assert torch.equal(dx[kept], expected_dx) and dx[~kept].count_nonzero() == 0
    assert torch.equal(dw, expected_dw)


def test_all_tokens_masked_is_a_loss_and_gradients_of_zero() -> None:
    heads = make_heads(5, 100, 16, torch.bfloat16)
    for value in chunked_kd(heads, loss_mask=torch.zeros(5)):
        assert value.count_nonzero() == 0


def test_a_mask_of_another_shape_is_refused() -> None:
    heads = make_heads(6, 100, 16, torch.float32)
    x = heads.student_hidden.view(3, 2, 16)
    with pytest.raises(ValueError, match=r"loss_mask has shape \(2, 3\)"):
        kd_loss_from_hidden_states(
            x, heads.student_weight, x, heads.teacher_weight, loss_mask=torch.ones(2, 3), chunk_tokens=2
        )


def test_sequence_and_batch_axes_are_flattened() -> None:
    heads, mask = make_heads(12, 100, 16, torch.float32), make_mask(12)
    loss, dx, dw = chunked_kd(heads, loss_mask=mask)
    shaped = Heads(
        heads.student_hidden.view(4, 3, 16),
        heads.student_weight,
        heads.teacher_hidden.view(4, 3, 16),
        heads.teacher_weight,
    )
    shaped_loss, shaped_dx, shaped_dw = chunked_kd(shaped, loss_mask=mask.view(4, 3))
    assert shaped_loss == loss and torch.equal(shaped_dx.view(12, 16), dx) and torch.equal(shaped_dw, dw)


def test_a_teacher_of_another_width_is_taken() -> None:
    student, teacher = make_heads(8, 90, 16, torch.float64), make_heads(8, 90, 24, torch.float64, seed=5)
    heads = Heads(student.student_hidden, student.student_weight, teacher.teacher_hidden, teacher.teacher_weight)
    for value, truth in zip(chunked_kd(heads), plain_kd(heads, None, 1.0), strict=True):
        assert relative_error(value, truth) < 1e-12


def test_the_outer_gradient_scales_both_gradients_and_backward_runs_once() -> None:
    heads = make_heads(8, 90, 16, torch.float32)
    _, dx, dw = chunked_kd(heads)
    x, w = heads.as_leaves()
    mean = kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight) / 8
    mean.backward(retain_graph=True)
    assert x.grad is not None and w.grad is not None
    assert torch.allclose(x.grad, dx / 8) and torch.allclose(w.grad, dw / 8)
    with pytest.raises(RuntimeError, match="compute it again"):
        mean.backward()


def count_products(heads: Heads, *, hidden_grad: bool, weight_grad: bool) -> int:
    x, w = heads.as_leaves()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        kd_loss_from_hidden_states(
            x.requires_grad_(hidden_grad), w.requires_grad_(weight_grad), heads.teacher_hidden, heads.teacher_weight
        )
    return sum(e.count for e in profile.key_averages() if e.key in ("aten::mm", "aten::addmm"))


def test_only_the_needed_products_are_made() -> None:
    heads = make_heads(16, 128, 16, torch.float32)
    assert count_products(heads, hidden_grad=True, weight_grad=True) == 4
    assert count_products(heads, hidden_grad=True, weight_grad=False) == 3  # a frozen head
    assert count_products(heads, hidden_grad=False, weight_grad=False) == 2  # the value alone


@pytest.mark.skipif(is_interpreted(), reason="the interpreter makes copies of its own")
@pytest.mark.parametrize("options", [{}, {"divergence": "reverse"}, {"top_k": 9}], ids=["full", "reverse", "top_9"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_scratch_is_bounded_by_the_chunk_whatever_the_number_of_tokens(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    vocab, hidden, chunk = 8192, 8, 16

    def scratch(num_tokens: int) -> int:
        """Peak beyond what grows with tokens or weight for a reason: both gradients and the copy in float32."""
        heads = make_heads(num_tokens, vocab, hidden, dtype)
        x, w = heads.as_leaves()
        own = (x.numel() + w.numel()) * 4

        def step() -> None:
            kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight, chunk_tokens=chunk, **options)

        return peak_new_bytes(step) - own

    one_logits_chunk = chunk * vocab * 4
    few, many = scratch(2 * chunk), scratch(32 * chunk)
    assert 2 * one_logits_chunk <= few < 3.5 * one_logits_chunk
    assert many - few < 0.1 * one_logits_chunk


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_loss_from_logits_agrees_with_float64(dtype: torch.dtype) -> None:
    heads, mask = make_heads(30, 700, 40, torch.float64), make_mask(30)
    student, teacher = (
        (heads.student_hidden @ heads.student_weight.t()).to(dtype),
        (heads.teacher_hidden @ heads.teacher_weight.t()).to(dtype),
    )
    identity = torch.eye(700, dtype=torch.float64)  # logits as hidden states of a unit head
    truth, true_gradient, _ = plain_kd(Heads(student.double(), identity, teacher.double(), identity), mask, 2.0)
    leaf = student.requires_grad_()
    loss = kd_loss_from_logits(leaf, teacher, loss_mask=mask, temperature=2.0)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert loss.dtype == torch.float32 and gradient.dtype == dtype
    assert relative_error(loss, truth) < 1e-5
    assert relative_error(gradient, true_gradient) < (3e-3 if dtype == torch.bfloat16 else 2e-5)


def test_no_gradient_is_made_without_gradient_mode() -> None:
    heads = make_heads(16, 128, 16, torch.float32)
    x, w = heads.as_leaves()
    with torch.no_grad():
        loss = kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight)
    assert not loss.requires_grad and loss == chunked_kd(heads)[0]


def test_a_scale_multiplies_loss_and_gradients() -> None:
    heads, mask = make_heads(12, 90, 16, torch.float64), make_mask(12)
    for plain, scaled in zip(
        chunked_kd(heads, loss_mask=mask), chunked_kd(heads, loss_mask=mask, scale=0.3), strict=True
    ):
        assert relative_error(scaled, 0.3 * plain) < 1e-12


def test_the_weight_gradient_is_added_to_main_grad_and_autograd_gets_one_to_drop() -> None:
    heads, mask = make_heads(12, 90, 16, torch.bfloat16), make_mask(12)
    _, _, truth = plain_kd(heads.to(torch.float64), mask, 1.0)
    x, w = heads.as_leaves()
    total = torch.ones(w.shape)
    loss = kd_loss_from_hidden_states(
        x, w, heads.teacher_hidden, heads.teacher_weight, loss_mask=mask, chunk_tokens=5, main_grad=MainGrad(total)
    )
    loss.backward()
    assert relative_error(total - 1, truth) < 6e-3
    assert w.grad is not None and w.grad.shape == w.shape and vars(w)["grad_added_to_main_grad"]


def test_a_tied_weight_leaves_its_gradient_to_the_embedding() -> None:
    heads = make_heads(12, 90, 16, torch.bfloat16)
    x, w = heads.as_leaves()
    main_grad = MainGrad(torch.zeros(w.shape), is_tied=True)
    kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight, main_grad=main_grad).backward()
    assert w.grad is None and "grad_added_to_main_grad" not in vars(w) and main_grad.total.any()


def test_a_loss_that_adds_to_main_grad_may_not_be_scaled_afterwards() -> None:
    heads = make_heads(12, 90, 16, torch.bfloat16)
    x, w = heads.as_leaves()
    main_grad = MainGrad(torch.zeros(w.shape))
    loss = kd_loss_from_hidden_states(x, w, heads.teacher_hidden, heads.teacher_weight, main_grad=main_grad)
    with pytest.raises(ValueError, match=r"scaled by 0\.5"):
        (loss * 0.5).backward()


def test_the_gradient_from_logits_is_made_over_them() -> None:
    heads = make_heads(12, 90, 16, torch.float32)
    student, teacher = heads.student_hidden @ heads.student_weight.t(), heads.teacher_hidden @ heads.teacher_weight.t()
    leaf = student.clone().requires_grad_()
    (truth,) = torch.autograd.grad(kd_loss_from_logits(leaf, teacher), leaf)
    over = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kd_loss_from_logits(over, teacher, in_place=True), over)
    assert torch.equal(gradient, truth) and gradient.data_ptr() == over.data_ptr()
