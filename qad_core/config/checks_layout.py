"""Checks of a model's shape against its layout over ranks, and of NVFP4 blocks against its widths.

Pure functions of the config and the two models' shapes; those of experts are `checks_experts.py`. Sources:
megatron-core's own assertions (`TransformerConfig.__post_init__`, `SelfAttention`), which would end a started run;
NVFP4's block of 16 values with one scale, along the dimension that a matrix product sums over.
"""

from __future__ import annotations

from collections.abc import Iterator

from qad_core.config.checks_experts import check_experts, teacher_keys
from qad_core.config.problems import Problem
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.run.show import count_of

NVFP4_BLOCK = 16
"""Values that share one block scale."""
_WORLD = "cluster.nodes, cluster.processes_per_node"
_TP = "parallelism.tensor_model_parallel_size"
_PP = "parallelism.pipeline_model_parallel_size"
_CP = "parallelism.context_parallel_size"
_ARCHITECTURE = "model.architecture"


def check_layout(
    config: RunConfig, architecture: ArchitectureConfig | None, teacher: ArchitectureConfig | None
) -> Iterator[Problem]:
    """Problems of ranks, batches and widths; those of the student's and the teacher's shape only where it is known."""
    yield from _check_world_size(config)
    yield from _check_batch(config)
    yield from _check_sequence(config)
    yield from _check_context_parallel(config)
    yield from check_experts(config, architecture, teacher)
    if architecture is not None:
        yield from _check_shards(config, architecture, "")
        yield from _check_heads(architecture)
        if config.quantization.format == "nvfp4":
            yield from _check_blocks(config, architecture)
    if teacher is not None and teacher != architecture:
        yield from _check_shards(config, teacher, "the teacher's ")


def _check_world_size(config: RunConfig) -> Iterator[Problem]:
    world, layout = config.cluster.world_size, config.parallelism
    if world % layout.model_parallel_size:
        sizes = (
            f"TP {layout.tensor_model_parallel_size} x PP {layout.pipeline_model_parallel_size}"
            f" x CP {layout.context_parallel_size} = {layout.model_parallel_size}"
        )
        what = f"{count_of(world, 'rank')} cannot be shared by replicas of {sizes} ranks"
        hint = f"Take a multiple of {layout.model_parallel_size} ranks, or another layout (parallelism=NAME)."
        yield Problem(what, f"{_WORLD}, {_TP}, {_PP}, {_CP}", hint)


def _check_batch(config: RunConfig) -> Iterator[Problem]:
    micro, replicas = config.train.micro_batch_size, max(config.data_parallel_size, 1)
    if config.train.global_batch_size % (micro * replicas):
        what = (
            f"global_batch_size {config.train.global_batch_size} is no multiple of micro_batch_size {micro}"
            f" x {replicas} replicas = {micro * replicas}"
        )
        hint = f"Take a multiple of {micro * replicas}, or a smaller micro batch."
        yield Problem(what, f"train.global_batch_size, train.micro_batch_size, {_WORLD}", hint)


def _check_sequence(config: RunConfig) -> Iterator[Problem]:
    tensor, length = config.parallelism.tensor_model_parallel_size, config.train.sequence_length
    if not config.parallelism.sequence_parallel:
        return
    key = "parallelism.sequence_parallel"
    if tensor == 1:
        yield Problem("sequence_parallel with TP 1", f"{key}, {_TP}", "Set it to false: it shards inside a TP group.")
    if length % tensor:
        what = f"sequence_length {length} is no multiple of TP {tensor}"
        yield Problem(what, f"train.sequence_length, {key}, {_TP}", f"Take a multiple of {tensor}.")


def _check_context_parallel(config: RunConfig) -> Iterator[Problem]:
    context = config.parallelism.context_parallel_size
    if context > 1:
        what = (
            f"context_parallel_size {context}: splitting a sequence over ranks is not supported"
            " without TransformerEngine's attention, which is not used here"
        )
        yield Problem(what, _CP, "Set it to 1; tensor and sequence parallelism shorten what a rank holds.")


def _check_shards(config: RunConfig, architecture: ArchitectureConfig, whose: str) -> Iterator[Problem]:
    tensor, pipeline = config.parallelism.tensor_model_parallel_size, config.parallelism.pipeline_model_parallel_size
    names = ["num_attention_heads", "num_query_groups", _mlp_width(architecture), "vocab_size"]
    shared = [*((name, "TP", tensor, _TP) for name in names), ("num_layers", "PP", pipeline, _PP)]
    for name, axis, ranks, key in shared:
        size: int = getattr(architecture, name)
        if size % ranks:
            fitting = [str(n) for n in range(1, min(size, 64) + 1) if size % n == 0]
            what = f"{whose}{name} {size} cannot be shared by {axis} {ranks}"
            source = teacher_keys(config) if whose else f"{_ARCHITECTURE}.{name}"
            yield Problem(what, f"{key}, {source}", f"{axis} may be {', '.join(fitting)}.")


def _check_heads(architecture: ArchitectureConfig) -> Iterator[Problem]:
    heads, groups = architecture.num_attention_heads, architecture.num_query_groups
    if heads % groups:
        what = f"{heads} query heads cannot be shared by {groups} key/value heads"
        keys = f"{_ARCHITECTURE}.num_attention_heads, {_ARCHITECTURE}.num_query_groups"
        yield Problem(what, keys, "Take the numbers of the model's config.json.")
    if architecture.kv_channels % 2:
        what = f"kv_channels {architecture.kv_channels} is odd, but rotary embeddings turn pairs of features"
        yield Problem(what, f"{_ARCHITECTURE}.kv_channels", "Take the number of the model's config.json.")


def _check_blocks(config: RunConfig, architecture: ArchitectureConfig) -> Iterator[Problem]:
    """The dimension that each linear layer sums over, on one rank, must be whole blocks."""
    tensor = config.parallelism.tensor_model_parallel_size
    attention = architecture.num_attention_heads * architecture.kv_channels
    summed = (
        ("linear_qkv and linear_fc1", "hidden_size", architecture.hidden_size, 1),
        ("linear_proj", "num_attention_heads", attention, tensor),
        ("linear_fc2", _mlp_width(architecture), int(getattr(architecture, _mlp_width(architecture))), tensor),
    )
    for layer, name, width, ranks in summed:
        if width % ranks == 0 and (width // ranks) % NVFP4_BLOCK:
            share = f"{width} / TP {ranks} = {width // ranks}" if ranks > 1 else f"{width}"
            what = f"NVFP4: the input of {layer}, {share} wide, is no multiple of {NVFP4_BLOCK}"
            keys = f"{_ARCHITECTURE}.{name}, quantization.format" + (f", {_TP}" if ranks > 1 else "")
            yield Problem(what, keys, "Take a smaller TP, a model of other widths, or quantization.format=none.")


def _mlp_width(architecture: ArchitectureConfig) -> str:
    """The field with the width of each MLP: of an expert's, where there are experts in every layer."""
    return "ffn_hidden_size" if architecture.moe_ffn_hidden_size is None else "moe_ffn_hidden_size"
