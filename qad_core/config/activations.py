"""Bytes of activations that autograd keeps on one rank for the backward pass, from shapes alone.

Owns what each part of a layer keeps, as `models/spec.py` builds it: with the fused norm, rotary embedding and SwiGLU
of a GPU, or with the plain ones of a CPU. The plain account is held against autograd's own storages by a test; the
fused one against peaks measured on a GPU. A tensor that two operations keep counts once.
"""

from __future__ import annotations

from dataclasses import dataclass

from qad_core.config.parameters import (
    chosen_experts,
    experts_of,
    has_query_norm,
    is_mixture,
    key_width,
    mlp_width,
    query_width,
)
from qad_core.config.schema import ArchitectureConfig, RunConfig

_FLOAT = 4
"""Bytes of a float32."""
_INTEGER = 8
"""Bytes of a token's id."""


@dataclass(frozen=True)
class Widths:
    """What a rank's activations are made of, for one micro-batch."""

    tokens: int
    """Of a micro-batch."""
    shard_tokens: int
    """Of them in norms and residuals: fewer under sequence parallelism."""
    sequence_length: int
    tensor: int
    """Ranks that share each layer's heads and MLP features."""
    value_bytes: int
    """Of a parameter and of an activation: 2 for bf16, 4 for fp32."""
    is_fused: bool
    """Whether the GPU's fused norm, rotary embedding and SwiGLU run."""
    quantizes_activations: bool

    @classmethod
    def of(cls, config: RunConfig, *, value_bytes: int, is_fused: bool) -> Widths:
        """From a config whose sizes divide."""
        tokens = config.train.micro_batch_size * config.train.sequence_length
        layout = config.parallelism
        shards = layout.tensor_model_parallel_size if layout.sequence_parallel else 1
        return cls(
            tokens=tokens,
            shard_tokens=tokens // shards,
            sequence_length=config.train.sequence_length,
            tensor=layout.tensor_model_parallel_size,
            value_bytes=value_bytes,
            is_fused=is_fused,
            quantizes_activations=config.quantization.format == "nvfp4" and config.quantization.activations,
        )


@dataclass(frozen=True)
class SavedActivations:
    """Bytes of one pipeline stage for one micro-batch."""

    layers: int
    """Kept by all layers from their forward pass to their backward pass."""
    ends: int
    """Kept beside the layers: token ids on the first stage, the final norm on the last."""
    recomputed_layer: int
    """Made anew by one layer at a time in the backward pass, where layers are recomputed; else 0."""


def saved_activations(
    config: RunConfig, architecture: ArchitectureConfig, widths: Widths, stage: int
) -> SavedActivations:
    """What a stage keeps for one micro-batch."""
    stages = config.parallelism.pipeline_model_parallel_size
    layers = architecture.num_layers // stages
    layer = layer_bytes(architecture, widths)
    ends = widths.tokens * _INTEGER * (stage == 0)
    ends += _norm(widths, architecture.hidden_size, widths.shard_tokens) * (stage == stages - 1)
    if config.train.recompute == "none":
        return SavedActivations(layers * layer, ends, 0)
    inputs = widths.shard_tokens * architecture.hidden_size * widths.value_bytes
    return SavedActivations(layers * inputs, ends, layer)


def layer_bytes(architecture: ArchitectureConfig, widths: Widths) -> int:
    """Kept by one transformer layer."""
    norms = 2 * _norm(widths, architecture.hidden_size, widths.shard_tokens)
    mlp = _mixture(architecture, widths) if is_mixture(architecture) else _mlp(architecture, widths)
    return norms + _attention(architecture, widths) + mlp


def _norm(widths: Widths, width: int, rows: int) -> int:
    """An RMSNorm over the residual stream, or over what is contiguous for it."""
    scales = rows * _FLOAT
    if widths.is_fused:
        return rows * width * widths.value_bytes + scales  # its input
    # The input in float32, which it is already where values are; the normalized values before the weight.
    return rows * width * (_FLOAT + widths.value_bytes) + scales


def _attention(architecture: ArchitectureConfig, widths: Widths) -> int:
    tokens, size = widths.tokens, widths.value_bytes
    queries, keys = query_width(architecture) // widths.tensor, key_width(architecture) // widths.tensor
    heads, groups = architecture.num_attention_heads // widths.tensor, architecture.num_query_groups // widths.tensor
    total = widths.shard_tokens * architecture.hidden_size * size  # input of linear_qkv
    total += tokens * (queries + 2 * keys) * size  # its output, of which the values are a view
    if has_query_norm(architecture) and not widths.is_fused:
        total += _norm(widths, architecture.kv_channels, tokens * heads)
        keys_are_kept = size == _FLOAT  # the norm's input is a view of linear_qkv's output
        total += _norm(widths, architecture.kv_channels, tokens * groups) - tokens * keys * size * keys_are_kept
    total += tokens * (queries + keys) * size  # after the rotary embedding
    total += tokens * (queries * size + heads * _FLOAT)  # attention's output, and its log-sum-exps
    return total + tokens * queries * size * widths.quantizes_activations  # input of linear_proj


def _mlp(architecture: ArchitectureConfig, widths: Widths) -> int:
    width = architecture.ffn_hidden_size // widths.tensor
    # linear_fc1's output, linear_fc2's input; without fusion SiLU's output too.
    features = 3 * width if widths.is_fused else 4 * width
    inputs = widths.shard_tokens * architecture.hidden_size
    return (inputs + widths.tokens * features) * widths.value_bytes


def _mixture(architecture: ArchitectureConfig, widths: Widths) -> int:
    """Router and experts, with every expert rank given its even share of the tokens.

    Under TP, each rank's tokens are gathered before the experts, so that a rank sees those of its whole TP group.
    """
    hidden, size = architecture.hidden_size, widths.value_bytes
    width = mlp_width(architecture) // widths.tensor
    rows = widths.tokens * chosen_experts(architecture)
    router = widths.shard_tokens * (hidden * size + 3 * experts_of(architecture) * _FLOAT)
    features = 3 * width if widths.is_fused else 4 * width
    # Input of linear_fc1, MLP, output of linear_fc2 before its routing weight.
    return router + rows * (2 * hidden + features) * size
