"""Checks of a mixture of experts: its shape, and its layout over ranks.

Pure functions of the config and the two models' shapes. Sources in megatron-core 0.16.1, which would end a started
run: `initialize_model_parallel` (TP x EP x PP divides the ranks, since experts are sharded by TP as the rest is),
`MoELayer` (EP divides the experts; no training with TP and without sequence parallelism), and
`ModelParallelConfig.__post_init__` and `TransformerConfig.__post_init__` (EP with TP but without sequence parallelism,
EP without experts).
"""

from __future__ import annotations

from collections.abc import Iterator

from qad_core.config.problems import Problem
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.run.show import count_of

_EP = "parallelism.expert_model_parallel_size"
_TP = "parallelism.tensor_model_parallel_size"
_SP = "parallelism.sequence_parallel"
_ARCHITECTURE = "model.architecture"
_EXPERT_FIELDS = ("num_moe_experts", "moe_router_topk", "moe_ffn_hidden_size")


def check_experts(
    config: RunConfig, architecture: ArchitectureConfig | None, teacher: ArchitectureConfig | None
) -> Iterator[Problem]:
    """Problems of experts; those of the student's and the teacher's shape only where it is known."""
    if architecture is not None:
        yield from _check_shape(architecture, "", _ARCHITECTURE)
        yield from _check_layout(config, architecture, "", f"{_ARCHITECTURE}.num_moe_experts")
    if teacher is not None and teacher != architecture:
        keys = teacher_keys(config)
        yield from _check_shape(teacher, "the teacher's ", keys)
        yield from _check_layout(config, teacher, "the teacher's ", keys)
    models = [item for item in (architecture, teacher) if item is not None]
    yield from _check_sequence_parallel(config, models)
    if all(item.num_moe_experts is not None for item in models):
        yield from _check_expert_ranks(config)


def teacher_keys(config: RunConfig) -> str:
    """The keys that the teacher's shape comes from."""
    return "model.teacher_weights" if config.model.teacher_config is None else "model.teacher_config"


def _check_shape(architecture: ArchitectureConfig, whose: str, where: str) -> Iterator[Problem]:
    given = [name for name in _EXPERT_FIELDS if getattr(architecture, name) is not None]
    if architecture.family != "qwen3_moe":
        if given:
            what = f"{whose}family {architecture.family} has no experts, but {', '.join(given)} is given"
            yield Problem(what, f"{where}, {_ARCHITECTURE}.family", "Take family qwen3_moe, or leave it out.")
        return
    missing = [name for name in _EXPERT_FIELDS if name not in given]
    if missing:
        what = f"{whose}family qwen3_moe lacks {', '.join(missing)}"
        yield Problem(what, where, "Take the numbers of the model's config.json.")
    experts, chosen = architecture.num_moe_experts, architecture.moe_router_topk
    if experts is not None and chosen is not None and chosen > experts:
        what = f"{whose}moe_router_topk {chosen} is more than num_moe_experts {experts}"
        yield Problem(what, f"{where}.moe_router_topk" if not whose else where, f"Take at most {experts}.")


def _check_layout(config: RunConfig, architecture: ArchitectureConfig, whose: str, where: str) -> Iterator[Problem]:
    ranks, experts = config.parallelism.expert_model_parallel_size, architecture.num_moe_experts
    if ranks > 1 and experts is None:
        model = "the teacher" if whose else "the model"
        yield Problem(f"expert_model_parallel_size {ranks}, but {model} is dense", _EP, "Set it to 1.")
    elif experts is not None and experts % ranks:
        fitting = [str(number) for number in range(1, min(experts, 64) + 1) if experts % number == 0]
        what = f"{whose}num_moe_experts {experts} cannot be shared by EP {ranks}"
        yield Problem(what, f"{_EP}, {where}", f"EP may be {', '.join(fitting)}.")


def _check_sequence_parallel(config: RunConfig, models: list[ArchitectureConfig]) -> Iterator[Problem]:
    layout = config.parallelism
    has_experts = any(model.num_moe_experts is not None for model in models)
    if has_experts and layout.tensor_model_parallel_size > 1 and not layout.sequence_parallel:
        tensor = layout.tensor_model_parallel_size
        what = f"experts with TP {tensor} need sequence_parallel: else each of its ranks sends every token"
        yield Problem(what, f"{_SP}, {_TP}", f"Set {_SP}=true, or TP to 1.")


def _check_expert_ranks(config: RunConfig) -> Iterator[Problem]:
    """The ranks that hold one shard of the layers, data-parallel ones times CP, are what EP is made of."""
    layout, ranks, world = config.parallelism, config.parallelism.expert_model_parallel_size, config.cluster.world_size
    tensor, pipeline = layout.tensor_model_parallel_size, layout.pipeline_model_parallel_size
    shared = config.data_parallel_size * layout.context_parallel_size
    if world % layout.model_parallel_size == 0 and shared % ranks:
        all_ranks = f"{count_of(world, 'rank')} shared by TP {tensor} x PP {pipeline}"
        what = f"EP {ranks} cannot be made of {count_of(shared, 'rank')}: {all_ranks}"
        keys = f"{_EP}, cluster.nodes, cluster.processes_per_node"
        yield Problem(what, keys, f"Take a multiple of {tensor * pipeline * ranks} ranks, or a smaller EP.")
