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
from tests.kernels.kd_cases import Heads, make_heads, make_labels, make_mask, relative_error
from tests.ranks import run_on_ranks

TOKENS, VOCAB, HIDDEN = 13, 4 * 77, 24
Answer = dict[str, Any]


def compute_all(group: dist.ProcessGroup | None) -> Answer:
    """Every public function on this rank's vocabulary rows; on all rows without a group."""
    answer: Answer = {}
    for name, dtype in (("float64", torch.float64), ("bfloat16", torch.bfloat16)):
        heads = make_heads(TOKENS, VOCAB, HIDDEN, dtype)
        if group is not None:
            heads = heads.vocabulary_shard(dist.get_rank(group), dist.get_world_size(group))
        answer[f"kd {name}"] = kd(heads, group)
        answer[f"ce {name}"] = cross_entropy(heads, group)
        answer[f"logits {name}"] = kd_of_logits(heads, group)
    shared = make_heads(TOKENS, VOCAB, HIDDEN, torch.float32)
    if group is not None:
        shared = shared.vocabulary_shard(dist.get_rank(group), dist.get_world_size(group))
    answer["evaluation"] = evaluation(shared, group)
    answer["itself"] = kd(Heads(*shared.tensors()[2:], *shared.tensors()[2:]), group)
    return answer


def kd(heads: Heads, group: dist.ProcessGroup | None) -> tuple[Tensor, ...]:
    x, w = heads.as_leaves()
    loss = kd_loss_from_hidden_states(
        x,
        w,
        heads.teacher_hidden,
        heads.teacher_weight,
        loss_mask=make_mask(TOKENS),
        temperature=1.5,
        chunk_tokens=4,
        tensor_parallel_group=group,
    )
    return loss.detach(), *torch.autograd.grad(loss / 7, (x, w))


def cross_entropy(heads: Heads, group: dist.ProcessGroup | None) -> tuple[Tensor, ...]:
    x, w = heads.as_leaves()
    loss = cross_entropy_from_hidden_states(
        x,
        w,
        make_labels(TOKENS, VOCAB),
        loss_mask=make_mask(TOKENS),
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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("bfloat16", 4e-3)])
@pytest.mark.parametrize("loss", ["kd", "ce"])
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


def test_all_ranks_hold_the_same_loss_to_the_last_bit(ranks: list[Answer]) -> None:
    for key in ("kd float64", "kd bfloat16", "ce bfloat16"):
        assert len({answer[key][0].item() for answer in ranks}) == 1
        assert all(torch.equal(answer[key][1], ranks[0][key][1]) for answer in ranks)


def test_a_sharded_model_has_exactly_no_kl_and_no_gradient_with_itself(ranks: list[Answer]) -> None:
    for answer in ranks:
        assert [value.count_nonzero().item() for value in answer["itself"]] == [0, 0, 0]


def test_sharded_evaluation_gives_the_sums_of_one_rank(ranks: list[Answer], one_rank: Answer) -> None:
    for answer in ranks:
        assert astuple(answer["evaluation"]) == pytest.approx(astuple(one_rank["evaluation"]), rel=1e-5)
