"""Held-out evaluation of a student against its teacher, and passes through the model without gradients.

Owns the arithmetic from the kernels' sums to the metrics line. The blocks are the same at every
evaluation and under every layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from modelopt.torch.distill.plugins.megatron import get_tensor_shapes_adjust_fn_for_distillation

from qad_core.config.schema import TrainConfig
from qad_core.errors import DataError
from qad_core.kernels.evaluation import EvaluationSums
from qad_core.run.metrics import MetricsLine
from qad_core.train.batches import BatchLayout, follow, iterate_batches
from qad_core.train.distill import make_forward_step
from qad_core.train.parallel import RankContext


def evaluate(
    model: Any,
    dataset: Sequence[Any],
    sequences: int,
    *,
    train: TrainConfig,
    layout: BatchLayout,
    context: RankContext,
    tell: Callable[[int, int], None],
) -> MetricsLine:
    """KL to the teacher, cross-entropies, perplexity and top-1 agreement over the first `sequences` blocks.

    `tell(done, sequences)` hears how far it is. A collective over all ranks; every rank gets the same line, without
    step and time.
    """
    stride = layout.micro_batch_size * layout.data_parallel_size
    num_micro_batches = math.ceil(sequences / stride)
    batches = iterate_batches(
        dataset,
        layout,
        first_sample=0,
        num_micro_batches=num_micro_batches,
        device=context.device,
        end_sample=sequences,
    )
    model.eval()
    with torch.no_grad():
        stored = run_schedule(
            model,
            follow(batches, layout, sequences, tell),
            num_micro_batches,
            train=train,
            forward_step=make_forward_step(evaluate=True),
        )
    model.train()
    return metrics_of(EvaluationSums.from_tensor(reduce_sums(stored, 5, context)))


def metrics_of(sums: EvaluationSums) -> MetricsLine:
    """Means a token of the sums, under their names in metrics.jsonl. Raises DataError where no token counts."""
    if not sums.tokens:
        raise DataError(
            "no token of the held-out sequences counts: none of them holds a part of an answer",
            "Take more evaluation.sequences, or longer ones, or leave dataset.answer_loss_only out.",
        )
    cross_entropy = sums.cross_entropy / sums.tokens
    return {
        "eval/kl": sums.kl / sums.tokens,
        "eval/ce": cross_entropy,
        "eval/teacher_ce": sums.teacher_cross_entropy / sums.tokens,
        # exp() overflows past 709; a perplexity there says no more than infinity does.
        "eval/perplexity": math.exp(cross_entropy) if cross_entropy < 700 else math.inf,
        "eval/top1_agreement": sums.top1_agreement / sums.tokens,
        "eval/tokens": int(sums.tokens),
    }


def run_schedule(
    model: Any,
    batches: Any,
    num_micro_batches: int,
    *,
    train: TrainConfig,
    forward_step: Callable[..., Any],
    forward_only: bool = True,
) -> list[dict[str, torch.Tensor]]:
    """One pass of megatron-core's schedule; returns what the loss function stored, on the last pipeline stage."""
    shapes: dict[str, Any] = {
        "seq_length": train.sequence_length,
        "micro_batch_size": train.micro_batch_size,
        "decoder_seq_length": train.sequence_length,
    }
    return get_forward_backward_func()(
        forward_step_func=forward_step,
        # The interleaved and plain pipeline schedules both take one iterator a model chunk.
        data_iterator=[batches],
        model=[model],
        num_microbatches=num_micro_batches,
        forward_only=forward_only,
        adjust_tensor_shapes_fn=get_tensor_shapes_adjust_fn_for_distillation([model], **shapes),
        **shapes,
    )


def reduce_sums(stored: list[dict[str, torch.Tensor]], width: int, context: RankContext) -> torch.Tensor:
    """Add the stored sums over micro-batches and data-parallel ranks; every rank gets [width] float64.

    Tensor-parallel ranks hold the same sums, so only the first of each group adds its own.
    """
    total = torch.zeros(width, dtype=torch.float64, device=context.device)
    if parallel_state.is_pipeline_last_stage() and parallel_state.get_tensor_model_parallel_rank() == 0:
        for entry in stored:
            total += entry["sums"]
    if context.world_size > 1:
        torch.distributed.all_reduce(total)
    return total
