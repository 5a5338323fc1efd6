"""How many tokens are taken at a time."""

from __future__ import annotations

import pytest
import torch

from qad_core.kernels.chunks import ChunkPlan, plan_chunks

QWEN3_VOCABULARY = 151936
GIB = 2**30


def scratch_bytes(plan: ChunkPlan, num_tokens: int, vocab_rows: int) -> int:
    logits = 0 if plan.logits_in_weight_gradient else 8 * plan.chunk_tokens * vocab_rows
    return logits + 2 * min(plan.span_tokens, num_tokens) * vocab_rows


@pytest.mark.parametrize("makes_weight_gradient", [True, False])
@pytest.mark.parametrize("hidden_size", [2048, 4096, 5120])
@pytest.mark.parametrize("num_tokens", [100, 8192, 65536])
@pytest.mark.parametrize("vocab_rows", [QWEN3_VOCABULARY, QWEN3_VOCABULARY // 8, 32000])
def test_a_plan_keeps_to_its_budget(
    vocab_rows: int, num_tokens: int, hidden_size: int, makes_weight_gradient: bool
) -> None:
    budget = int(2.375 * GIB)
    plan = plan_chunks(
        num_tokens, vocab_rows, hidden_size, torch.bfloat16, budget, makes_weight_gradient=makes_weight_gradient
    )
    assert scratch_bytes(plan, num_tokens, vocab_rows) <= budget
    assert plan.span_tokens >= num_tokens or plan.span_tokens % plan.chunk_tokens == 0
    if plan.logits_in_weight_gradient:
        assert makes_weight_gradient and plan.span_tokens >= num_tokens
        assert 8 * plan.chunk_tokens * vocab_rows <= 2 * vocab_rows * hidden_size


def test_a_small_budget_takes_small_chunks() -> None:
    plan = plan_chunks(8192, QWEN3_VOCABULARY, 4096, torch.bfloat16, 256 * 2**20, makes_weight_gradient=True)
    assert plan == ChunkPlan(64, 9 * 64)
