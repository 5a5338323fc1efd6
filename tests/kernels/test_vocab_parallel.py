"""Losses and evaluation over vocabulary shards on gloo ranks, against one rank: value, dX and dW."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from qad_core.kernels.cross_entropy import cross_entropy_from_hidden_states
from qad_core.kernels.evaluation import EvaluationSums, evaluate_from_hidden_states
from qad_core.kernels.kd_loss import kd_loss_from_hidden_states, kd_loss_from_logits
from tests.kernels.kd_cases import Heads, make_heads, make_labels, make_mask, make_weights, relative_error
from tests.ranks import run_on_ranks

TOKENS, VOCAB, HIDDEN = 13, 4 * 77, 24
Answer = dict[str, Any]
VARIANTS: dict[str, dict[str, Any]] = {
    "kd": {},
    "reverse": {"divergence": "reverse"},
    "top 9": {"top_k": 9},
    "reverse top 100": {"divergence": "reverse", "top_k": 100},  # more than a shard of TP 4 has
}


def compute_all(group: dist.ProcessGroup | None) -> Answer:
    """Every public function on this rank's vocabulary rows; on all rows without a group."""
    answer: Answer = {}
    for name, dtype in (("float64", torch.float64), ("bfloat16", torch.bfloat16)):
        heads = make_heads(TOKENS, VOCAB, HIDDEN, dtype)
        if group is not None:
            heads = heads.vocabulary_shard(dist.get_rank(group), dist.get_world_size(group))
        for variant, options in VARIANTS.items():
            answer[f"{variant} {name}"] = kd(heads, group, **options)
        answer[f"ce {name}"] = cross_entropy(heads, group)
        answer[f"logits {name}"] = kd_of_logits(heads, group)
    answer["one shard on top"] = kd_with_one_shard_on_top(group)
    shared = make_heads(TOKENS, VOCAB, HIDDEN, torch.float32)
    if group is not None:
        shared = shared.vocabulary_shard(dist.get_rank(group), dist.get_world_size(group))
    answer["evaluation"] = evaluation(shared, group)
    itself = Heads(*shared.tensors()[2:], *shared.tensors()[2:])
    answer["itself"] = [value for options in VARIANTS.values() for value in kd(itself, group, **options)]
    return answer


def kd(heads: Heads, group: dist.ProcessGroup | None, **options: Any) -> tuple[Tensor, ...]:
    x, w = heads.as_leaves()
    loss = kd_loss_from_hidden_states(
        x,
        w,
        heads.teacher_hidden,
        heads.teacher_weight,
        loss_mask=make_weights(TOKENS),
        temperature=1.5,
        chunk_tokens=4,
        tensor_parallel_group=group,
        **options,
    )
    return loss.detach(), *torch.autograd.grad(loss / 7, (x, w))


def kd_with_one_shard_on_top(group: dist.ProcessGroup | None) -> tuple[Tensor, ...]:
    """(loss, gradient [V_shard, N]) where the top k are the first quarter of the vocabulary, with all but 1e-15."""
    heads = make_heads(TOKENS, VOCAB, HIDDEN, torch.float64)
    offsets = torch.where(torch.arange(VOCAB) < VOCAB // 4, 45.0, 0.0)
    student = heads.student_hidden @ heads.student_weight.t() + offsets
    teacher = heads.teacher_hidden @ heads.teacher_weight.t() + offsets
    rows = slice(None)
    if group is not None:
        size = VOCAB // dist.get_world_size(group)
        rows = slice(dist.get_rank(group) * size, (dist.get_rank(group) + 1) * size)
    leaf = student[:, rows].clone().requires_grad_()
    loss = kd_loss_from_logits(leaf, teacher[:, rows], top_k=VOCAB // 4, tensor_parallel_group=group)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient.t()


def cross_entropy(heads: Heads, group: dist.ProcessGroup | None) -> tuple[Tensor, ...]:
    x, w = heads.as_leaves()
    loss = cross_entropy_from_hidden_states(
        x,
        w,
        make_labels(TOKENS, VOCAB),
        loss_mask=make_weights(TOKENS),
        chunk_tokens=4,
        tensor_parallel_group=group,
    )
    return loss.detach(), *torch.autograd.grad(loss / 7, (x, w))


def kd_of_logits(heads: Heads, group: dist.ProcessGroup | None) -> tuple[Tensor, ...]:
    student = (heads.student_hidden @ heads.student_weight.t()).requires_grad_()
    teacher = heads.teacher_hidden @ heads.teacher_weight.t()
    loss = kd_loss_from_logits(student, teacher, temperature=1.5, tensor_parallel_group=group)
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.detach(), gradient.t()  # vocabulary rows first, as in a weight


def evaluation(heads: Heads, group: dist.ProcessGroup | None) -> EvaluationSums:
    return evaluate_from_hidden_states(
        *heads.tensors(),
        make_labels(TOKENS, VOCAB),
        loss_mask=make_mask(TOKENS),
        chunk_tokens=4,
        tensor_parallel_group=group,
    )


def compute_on_this_rank() -> Answer:
    dist.init_process_group("gloo")
    answer = compute_all(dist.group.WORLD)
    dist.destroy_process_group()
    return answer


@pytest.fixture(scope="module")
def one_rank() -> Answer:
    return compute_all(None)


@pytest.fixture(scope="module", params=[2, 4], ids=["TP2", "TP4"])
def ranks(request: pytest.FixtureRequest) -> list[Answer]:
    return run_on_ranks(compute_on_this_rank, request.param)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("bfloat16", 5e-3)])
@pytest.mark.parametrize("loss", [*VARIANTS, "ce"])
def test_shards_give_the_value_and_both_gradients_of_one_rank(
    ranks: list[Answer], one_rank: Answer, loss: str, dtype: str, tolerance: float
) -> None:
    value, dx, dw = one_rank[f"{loss} {dtype}"]
    for answer in ranks:
        assert relative_error(answer[f"{loss} {dtype}"][0], value.double()) < min(tolerance, 1e-5)
        assert relative_error(answer[f"{loss} {dtype}"][1], dx.double()) < tolerance
    gathered = torch.cat([answer[f"{loss} {dtype}"][2] for answer in ranks])
    assert relative_error(gathered, dw.double()) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("bfloat16", 4e-3)])
def test_sharded_logits_give_the_value_and_gradient_of_one_rank(
    ranks: list[Answer], one_rank: Answer, dtype: str, tolerance: float
) -> None:
    value, gradient = one_rank[f"logits {dtype}"]
    gathered = torch.cat([answer[f"logits {dtype}"][1] for answer in ranks])
    assert relative_error(ranks[0][f"logits {dtype}"][0], value.double()) < min(tolerance, 1e-5)
    assert relative_error(gathered, gradient.double()) < tolerance


def test_a_shard_without_a_tail_and_a_tiny_tail_are_taken(ranks: list[Answer], one_rank: Answer) -> None:
    value, gradient = one_rank["one shard on top"]
    gathered = torch.cat([answer["one shard on top"][1] for answer in ranks])
    assert relative_error(ranks[0]["one shard on top"][0], value) < 1e-12
    top, tail = gradient[: VOCAB // 4], gradient[VOCAB // 4 :]
    assert 0 < tail.abs().max() < 1e-12 * top.abs().max()
    assert relative_error(gathered[: VOCAB // 4], top) < 1e-12 and relative_error(gathered[VOCAB // 4 :], tail) < 1e-10


def test_all_ranks_hold_the_same_loss_to_the_last_bit(ranks: list[Answer]) -> None:
    for key in (*(f"{variant} bfloat16" for variant in VARIANTS), "kd float64", "ce bfloat16"):
        assert len({answer[key][0].item() for answer in ranks}) == 1
        assert all(torch.equal(answer[key][1], ranks[0][key][1]) for answer in ranks)


def test_a_sharded_model_has_exactly_no_kl_and_no_gradient_with_itself(ranks: list[Answer]) -> None:
    for answer in ranks:
        assert not any(value.count_nonzero() for value in answer["itself"])


def test_sharded_evaluation_gives_the_sums_of_one_rank(ranks: list[Answer], one_rank: Answer) -> None:
    for answer in ranks:
        assert astuple(answer["evaluation"]) == pytest.approx(astuple(one_rank["evaluation"]), rel=1e-5)
