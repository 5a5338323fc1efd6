"""The next change of a config that needs less GPU memory, without changing what the run learns.

Pure. The order is by what a change costs: the batch of one forward pass first (nothing), recomputation (a third of
the speed), more ranks for one model, and at last the loss in smaller pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from qad_core.config.checks_layout import check_layout
from qad_core.config.schema import RunConfig

FIRST_CHUNK_TOKENS = 1024
LEAST_CHUNK_TOKENS = 128
_MIXTURE_NAME = re.compile(r"-A\d+(?:\.\d+)?B\b")
"""Active parameters, which only the names of mixtures of experts tell: Qwen3-30B-A3B."""


@dataclass(frozen=True)
class MemoryStep:
    """Changes that belong together, and why."""

    advice: str
    changes: tuple[str, ...]


def next_memory_step(config: RunConfig) -> MemoryStep | None:
    """The cheapest change that is left; None when all have been made."""
    return next((step for find in _STEPS if (step := find(config)) is not None), None)


def _smaller_micro_batch(config: RunConfig) -> MemoryStep | None:
    if config.train.micro_batch_size == 1:
        return None
    said = f"Pass one sequence at a time instead of {config.train.micro_batch_size}: the global batch stays as it is."
    return MemoryStep(said, ("train.micro_batch_size=1",))


def _recompute(config: RunConfig) -> MemoryStep | None:
    if config.train.recompute == "full":
        return None
    said = "Compute each layer again in the backward pass instead of keeping its activations."
    return MemoryStep(said, ("train.recompute=full",))


def _more_expert_parallelism(config: RunConfig) -> MemoryStep | None:
    """Twice the ranks for the experts of a mixture, with twice the nodes where there are too few ranks."""
    layout = config.parallelism
    if layout.expert_model_parallel_size == 1 and not _MIXTURE_NAME.search(config.model.name):
        return None
    size = 2 * layout.expert_model_parallel_size
    ranks = size * layout.tensor_model_parallel_size * layout.pipeline_model_parallel_size
    fits = config.cluster.world_size % ranks == 0
    nodes = () if fits else (f"cluster.nodes={2 * config.cluster.nodes}",)
    return MemoryStep(
        f"Share the experts among {size} ranks{'' if fits else ', on twice the nodes'}.",
        (f"parallelism.expert_model_parallel_size={size}", *nodes),
    )


def _more_tensor_parallelism(config: RunConfig) -> MemoryStep | None:
    """Twice the ranks for each layer, inside one node and where the model's shape can be shared so."""
    size = 2 * config.parallelism.tensor_model_parallel_size
    architecture = config.model.architecture
    if architecture is None or size > config.cluster.processes_per_node:
        return None
    layout = config.parallelism.model_copy(update={"tensor_model_parallel_size": size})
    if any(check_layout(config.model_copy(update={"parallelism": layout}), architecture, None)):
        return None
    said = f"Share each layer among {size} GPUs of a node."
    return MemoryStep(said, (f"parallelism.tensor_model_parallel_size={size}",))


def _smaller_chunks(config: RunConfig) -> MemoryStep | None:
    now = config.distillation.chunk_tokens
    size = now // 2 if now else FIRST_CHUNK_TOKENS
    if config.loss != "qad" or size < LEAST_CHUNK_TOKENS:
        return None
    said = f"Compute the loss over {size} tokens at a time."
    return MemoryStep(said, (f"distillation.chunk_tokens={size}",))


_STEPS: tuple[Callable[[RunConfig], MemoryStep | None], ...] = (
    _smaller_micro_batch, _recompute, _more_expert_parallelism, _more_tensor_parallelism, _smaller_chunks,
)  # fmt: skip
