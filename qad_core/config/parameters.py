"""How many parameters a model has, in all and on one rank, from its shape alone.

Owns the counts; bytes are `memory.py`'s and operations `cost.py`'s. Source of the shapes: `models/spec.py` and
`models/hf_import.py`; a test builds the models and compares.
"""

from __future__ import annotations

from dataclasses import dataclass

from qad_core.config.schema import ArchitectureConfig, ParallelismConfig


@dataclass(frozen=True)
class StageParameters:
    """Parameters that one rank of a pipeline stage holds."""

    dense: int
    """All but experts; their optimizer states are shared by all data-parallel ranks."""
    experts: int
    """Of this rank's experts; their optimizer states are shared by the ranks that hold the same experts."""
    quantized: int
    """Of both: weights of block linears."""

    @property
    def all(self) -> int:
        """Dense ones and experts."""
        return self.dense + self.experts


@dataclass(frozen=True)
class _Layer:
    attention: int
    """Weights of linear_qkv and linear_proj."""
    mlp: int
    """Weights of a dense MLP, or of one expert."""
    other: int
    """Norms, and the router of a mixture."""


def count_parameters(architecture: ArchitectureConfig) -> int:
    """Of the whole model; a tied output layer counts once."""
    return count_stage(architecture, ParallelismConfig(), 0).all


def count_active_parameters(architecture: ArchitectureConfig) -> int:
    """Of the whole model, those that one token meets: of a mixture's experts only the chosen ones."""
    idle = experts_of(architecture) - chosen_experts(architecture)
    return count_parameters(architecture) - architecture.num_layers * idle * _layer(architecture).mlp


def count_multiplied(architecture: ArchitectureConfig) -> int:
    """Weights of all layers' matrix products that one token meets: without embedding, norms and output layer."""
    layer = _layer(architecture)
    router = experts_of(architecture) * architecture.hidden_size if is_mixture(architecture) else 0
    return architecture.num_layers * (layer.attention + layer.mlp * chosen_experts(architecture) + router)


def count_stage(architecture: ArchitectureConfig, layout: ParallelismConfig, stage: int) -> StageParameters:
    """On each rank of pipeline stage `stage`, counted from 0; sizes must divide as `checks_layout` asks."""
    tensor, last = layout.tensor_model_parallel_size, layout.pipeline_model_parallel_size - 1
    layers = architecture.num_layers // layout.pipeline_model_parallel_size
    layer = _layer(architecture)
    attention = layers * layer.attention // tensor
    mlp = layers * layer.mlp * experts_of(architecture) // tensor // layout.expert_model_parallel_size
    dense = attention + layers * layer.other
    if not is_mixture(architecture):
        dense += mlp
    rows = architecture.vocab_size // tensor * architecture.hidden_size
    has_own_head = not architecture.tie_word_embeddings or last > 0
    dense += rows * (stage == 0) + rows * (stage == last and has_own_head)
    dense += architecture.hidden_size * (stage == last)
    return StageParameters(dense, mlp if is_mixture(architecture) else 0, attention + mlp)


def is_mixture(architecture: ArchitectureConfig) -> bool:
    """Whether the MLPs are mixtures of experts."""
    return architecture.num_moe_experts is not None


def experts_of(architecture: ArchitectureConfig) -> int:
    """MLPs a layer: experts, or 1."""
    return architecture.num_moe_experts or 1


def chosen_experts(architecture: ArchitectureConfig) -> int:
    """MLPs a layer that each token goes through."""
    return min(architecture.moe_router_topk or 1, experts_of(architecture))


def mlp_width(architecture: ArchitectureConfig) -> int:
    """Features of the MLP, or of one expert."""
    mixed = architecture.moe_ffn_hidden_size if is_mixture(architecture) else None
    return mixed or architecture.ffn_hidden_size


def query_width(architecture: ArchitectureConfig) -> int:
    """Features of all query heads."""
    return architecture.num_attention_heads * architecture.kv_channels


def key_width(architecture: ArchitectureConfig) -> int:
    """Features of all key heads; of all value heads too."""
    return architecture.num_query_groups * architecture.kv_channels


def has_query_norm(architecture: ArchitectureConfig) -> bool:
    """Whether queries and keys are normalized, as Qwen3's are."""
    return architecture.family != "llama"


def _layer(architecture: ArchitectureConfig) -> _Layer:
    hidden = architecture.hidden_size
    queries, keys = query_width(architecture), key_width(architecture)
    other = 2 * hidden + 2 * architecture.kv_channels * has_query_norm(architecture)
    if is_mixture(architecture):
        other += experts_of(architecture) * hidden
    return _Layer(hidden * (queries + 2 * keys) + queries * hidden, 3 * hidden * mlp_width(architecture), other)
