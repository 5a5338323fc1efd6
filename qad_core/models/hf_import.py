"""Fills this rank's shard of a megatron-core model from Hugging Face tensors.

Owns the layout: query, key and value rows interleaved by group, gate above up inside each shard, experts stacked,
embedding and head by vocabulary rows. modelopt's importer does the same, but casts to bfloat16 on the way, which
costs an fp32 model its exactness; here a tensor goes from its source to the parameter's dtype in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ModelError, name_some
from qad_core.models.experts import GroupedExperts
from qad_core.models.hf_tensors import (
    EMBEDDING,
    FINAL_NORM,
    OUTPUT,
    ROUTER,
    expert_prefix,
    is_unneeded,
    layer_prefix,
    list_expected_tensors,
)
from qad_core.models.megatron_source import MegatronSource
from qad_core.models.query_key_value import join_query_key_value
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.models.tensor_sources import TensorSource, read_finite
from qad_core.train.parallel import RankContext

_MOST_NAMED = 6


def load_hf_weights(
    model: HiddenStatesGPTModel, source: TensorSource, architecture: ArchitectureConfig, context: RankContext
) -> None:
    """Set every parameter of `model`, each rank reading the tensors of its own layers only.

    Call before the model is quantized or wrapped. Raises ModelError when a tensor is missing, has another
    shape than the architecture says, would stay unused, or holds NaN or infinite numbers.
    """
    check_tensors(source, architecture)
    with torch.no_grad():
        for parameter, shard in _pair_parameters(model, architecture, _weights_reader(source, context)):
            parameter.copy_(shard)


def load_layer(layer: Any, source: TensorSource, architecture: ArchitectureConfig, context: RankContext) -> None:
    """Set every parameter of one layer, which has its number in the model, from a source that was checked."""
    with torch.no_grad():
        for parameter, shard in _pair_layer(layer, architecture, _weights_reader(source, context)):
            parameter.copy_(shard)


def load_block_amax(
    model: HiddenStatesGPTModel, source: MegatronSource, architecture: ArchitectureConfig, context: RankContext
) -> None:
    """Set the block amax of every quantized weight, whose static quantizers have their shapes already.

    Raises ModelError where the source has not one for each block.
    """
    reader = _ShardReader(source.read_block_amax, context.tensor_parallel_rank, context.tensor_parallel_size)
    with torch.no_grad():
        for layer in model.decoder.layers:
            for held, shard in _pair_linears(layer, architecture, reader, lambda linear: linear.weight_quantizer._amax):
                held.copy_(shard)


def check_tensors(source: TensorSource, architecture: ArchitectureConfig) -> None:
    """Compare the source's tensors with those that the architecture needs; all differences in one ModelError.

    Raises one too for a head that differs from the embedding that it is said to be.
    """
    expected, found = list_expected_tensors(architecture), source.shapes
    problems = [f"{name} {list(shape)} is missing" for name, shape in expected.items() if name not in found]
    problems += [
        f"{name} is {list(found[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != shape
    ]
    problems += [
        f"{name} {list(found[name])} has no place in a {architecture.family}"
        for name in sorted(found)
        if name not in expected and not is_unneeded(name, architecture)
    ]
    if problems:
        raise ModelError(
            f"{source.description} does not fit the architecture: {name_some(problems, _MOST_NAMED)}",
            "Correct model.architecture (it is read from config.json when left out), or point to other weights.",
        )
    if architecture.tie_word_embeddings and OUTPUT in found:
        _refuse_another_head(source)


def _refuse_another_head(source: TensorSource) -> None:
    embedding = source.read(EMBEDDING)
    if torch.equal(source.read(OUTPUT).to(embedding.dtype), embedding):  # other shapes are not equal either
        return
    raise ModelError(
        f"{source.description} has a head of its own: {OUTPUT} differs from {EMBEDDING}, and tie_word_embeddings is "
        "true, by which the model would run with the embedding and without this head",
        "If the model needs its head, set tie_word_embeddings to false in its config.json, or in model.architecture "
        "where that is set; if the head is a leftover, save the model without it.",
    )


class _ShardReader:
    """Reads tensors cut to one tensor-parallel rank."""

    def __init__(self, read: Callable[[str], Tensor], rank: int, size: int) -> None:
        self._read = read
        self._rank = rank
        self._size = size

    def whole(self, name: str) -> Tensor:
        return self._read(name)

    def rows(self, name: str) -> Tensor:
        """Share of the output features (column parallel) or of the vocabulary."""
        return self._cut(self.whole(name), dim=0)

    def columns(self, name: str) -> Tensor:
        """Share of the input features (row parallel)."""
        return self._cut(self.whole(name), dim=1)

    def gate_and_up(self, gate: str, up: str) -> Tensor:
        """[2 * ffn/TP, h]: SwiGLU splits each rank's own rows into gate and up."""
        return torch.cat([self.rows(gate), self.rows(up)])

    def query_key_value(self, names: list[str], groups: int) -> Tensor:
        """[(heads + 2 * groups) * d / TP, h]: each group's queries, then its key, then its value."""
        return self._cut(join_query_key_value([self.whole(name) for name in names], groups), dim=0)

    def _cut(self, tensor: Tensor, dim: int) -> Tensor:
        return tensor.chunk(self._size, dim=dim)[self._rank]


def _weights_reader(source: TensorSource, context: RankContext) -> _ShardReader:
    return _ShardReader(partial(read_finite, source), context.tensor_parallel_rank, context.tensor_parallel_size)


def _pair_parameters(
    model: HiddenStatesGPTModel, architecture: ArchitectureConfig, reader: _ShardReader
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every parameter of this stage with the shard that belongs in it, one at a time."""
    if model.pre_process:
        yield model.embedding.word_embeddings.weight, reader.rows(EMBEDDING)
    for layer in model.decoder.layers:
        yield from _pair_layer(layer, architecture, reader)
    if model.decoder.final_layernorm is not None:  # the last stage
        yield model.decoder.final_layernorm.weight, reader.whole(FINAL_NORM)
        # A tied head beside the embedding is one parameter; on a later stage it is a copy of its own.
        if not (architecture.tie_word_embeddings and model.pre_process):
            yield model.output_weight(), reader.rows(EMBEDDING if architecture.tie_word_embeddings else OUTPUT)


def _pair_layer(layer: Any, architecture: ArchitectureConfig, reader: _ShardReader) -> Iterator[tuple[Tensor, Tensor]]:
    prefix = layer_prefix(layer.layer_number - 1)  # megatron-core counts layers over all stages, from 1
    attention, mlp = layer.self_attention, layer.mlp
    yield layer.input_layernorm.weight, reader.whole(f"{prefix}input_layernorm.weight")
    if architecture.family != "llama":
        yield attention.q_layernorm.weight, reader.whole(f"{prefix}self_attn.q_norm.weight")
        yield attention.k_layernorm.weight, reader.whole(f"{prefix}self_attn.k_norm.weight")
    yield layer.pre_mlp_layernorm.weight, reader.whole(f"{prefix}post_attention_layernorm.weight")
    if architecture.family == "qwen3_moe":
        yield mlp.router.weight, reader.whole(prefix + ROUTER)
    yield from _pair_linears(layer, architecture, reader, lambda linear: linear.weight)


def _pair_linears(
    layer: Any, architecture: ArchitectureConfig, reader: _ShardReader, held: Callable[[Any], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What each linear holds, its weight or what has the weight's layout, with the shard that belongs in it."""
    prefix, attention, mlp = layer_prefix(layer.layer_number - 1), layer.self_attention, layer.mlp
    projections = [f"{prefix}self_attn.{kind}_proj.weight" for kind in "qkv"]
    yield held(attention.linear_qkv), reader.query_key_value(projections, architecture.num_query_groups)
    yield held(attention.linear_proj), reader.columns(f"{prefix}self_attn.o_proj.weight")
    if architecture.family == "qwen3_moe":
        yield from _pair_experts(mlp.experts, prefix, reader, held)
        return
    yield held(mlp.linear_fc1), reader.gate_and_up(f"{prefix}mlp.gate_proj.weight", f"{prefix}mlp.up_proj.weight")
    yield held(mlp.linear_fc2), reader.columns(f"{prefix}mlp.down_proj.weight")


def _pair_experts(
    experts: GroupedExperts, prefix: str, reader: _ShardReader, held: Callable[[Any], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each local expert's part of the stacked weights; experts shard over TP as dense layers do."""
    first, second = held(experts.linear_fc1), held(experts.linear_fc2)
    for index in range(experts.linear_fc1.num_local_experts):
        name = prefix + expert_prefix(experts.linear_fc1.first_expert + index)
        yield first[index, 0], reader.rows(f"{name}gate_proj.weight")
        yield first[index, 1], reader.rows(f"{name}up_proj.weight")
        yield second[index], reader.columns(f"{name}down_proj.weight")
