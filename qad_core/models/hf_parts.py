"""A student's weights under their Hugging Face names: the way back from `hf_import.py`'s layout.

Owns which rows of a fused or stacked weight belong to which name, of the weight itself and of all that has its rows:
block scales, and its quantized value. It packs and writes nothing; the student is whole on this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from qad_core.config.schema import ArchitectureConfig
from qad_core.models.hf_tensors import EMBEDDING, FINAL_NORM, OUTPUT, ROUTER, expert_prefix, layer_prefix
from qad_core.models.query_key_value import split_query_key_value
from qad_core.models.spec import HiddenStatesGPTModel


@dataclass(frozen=True)
class PlainTensor:
    """A tensor that is not quantized."""

    name: str
    value: Tensor


@dataclass(frozen=True)
class QuantizedLinear:
    """One quantized linear of the student, which Hugging Face has under several names."""

    path: str
    """Where it is in the student."""
    module: Any
    names: tuple[str, ...]
    """Hugging Face modules, without `.weight`; of stacked experts, those of the first expert come first."""
    split: Callable[[Tensor], list[Tensor]]
    """Parts, one a name, [out, ...] of a tensor that has the rows of the weight."""

    def scalars(self, values: Tensor) -> list[Tensor]:
        """One 0-dim value a name of one that the whole linear shares, or of one an expert."""
        flat = values.detach().reshape(-1)
        repeat = len(self.names) // len(flat)
        return [flat[index // repeat] for index in range(len(self.names))]


def list_parts(
    student: HiddenStatesGPTModel, architecture: ArchitectureConfig
) -> Iterator[PlainTensor | QuantizedLinear]:
    """All weights of a student, layer by layer. Rows of a padded vocabulary beyond `vocab_size` are left out."""
    yield PlainTensor(EMBEDDING, student.embedding.word_embeddings.weight[: architecture.vocab_size])
    for index, layer in enumerate(student.decoder.layers):
        yield from _list_layer(layer, index, architecture)
    final_norm: Any = student.decoder.final_layernorm
    yield PlainTensor(FINAL_NORM, final_norm.weight)
    if not architecture.tie_word_embeddings:
        yield PlainTensor(OUTPUT, student.output_weight()[: architecture.vocab_size])


def _list_layer(layer: Any, index: int, architecture: ArchitectureConfig) -> Iterator[PlainTensor | QuantizedLinear]:
    prefix, path = layer_prefix(index), f"decoder.layers.{index}."
    attention = layer.self_attention
    yield PlainTensor(f"{prefix}input_layernorm.weight", layer.input_layernorm.weight)
    yield QuantizedLinear(
        f"{path}self_attention.linear_qkv",
        attention.linear_qkv,
        tuple(f"{prefix}self_attn.{kind}_proj" for kind in "qkv"),
        partial(split_query_key_value, groups=architecture.num_query_groups, channels=architecture.kv_channels),
    )
    if architecture.family != "llama":
        yield PlainTensor(f"{prefix}self_attn.q_norm.weight", attention.q_layernorm.weight)
        yield PlainTensor(f"{prefix}self_attn.k_norm.weight", attention.k_layernorm.weight)
    proj = f"{path}self_attention.linear_proj"
    yield QuantizedLinear(proj, attention.linear_proj, (f"{prefix}self_attn.o_proj",), _whole)
    yield PlainTensor(f"{prefix}post_attention_layernorm.weight", layer.pre_mlp_layernorm.weight)
    if architecture.family == "qwen3_moe":
        yield PlainTensor(prefix + ROUTER, layer.mlp.router.weight)
        names = _expert_names(prefix, architecture)
        yield from _list_mlp(layer.mlp.experts, f"{path}mlp.experts", names, _gate_and_up_by_expert, _by_expert)
    else:
        yield from _list_mlp(layer.mlp, f"{path}mlp", [f"{prefix}mlp."], _gate_and_up, _whole)


def _list_mlp(
    mlp: Any,
    path: str,
    prefixes: list[str],
    split_first: Callable[[Tensor], list[Tensor]],
    split_second: Callable[[Tensor], list[Tensor]],
) -> Iterator[QuantizedLinear]:
    first = tuple(f"{prefix}{kind}_proj" for prefix in prefixes for kind in ("gate", "up"))
    yield QuantizedLinear(f"{path}.linear_fc1", mlp.linear_fc1, first, split_first)
    second = tuple(f"{prefix}down_proj" for prefix in prefixes)
    yield QuantizedLinear(f"{path}.linear_fc2", mlp.linear_fc2, second, split_second)


def _expert_names(prefix: str, architecture: ArchitectureConfig) -> list[str]:
    assert architecture.num_moe_experts is not None
    return [prefix + expert_prefix(expert) for expert in range(architecture.num_moe_experts)]


def _whole(tensor: Tensor) -> list[Tensor]:
    return [tensor]


def _gate_and_up(tensor: Tensor) -> list[Tensor]:
    return list(tensor.chunk(2))


def _gate_and_up_by_expert(tensor: Tensor) -> list[Tensor]:
    """Of [experts, 2, ffn, ...]."""
    return list(tensor.flatten(0, 1))


def _by_expert(tensor: Tensor) -> list[Tensor]:
    return list(tensor)
