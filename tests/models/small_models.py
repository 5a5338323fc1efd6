"""Small transformers models on disk, and the architectures that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from qad_core.config.schema import ArchitectureConfig, ParallelismConfig
from qad_core.models.arch import make_transformer_config
from qad_core.models.hf_import import load_hf_weights
from qad_core.models.spec import HiddenStatesGPTModel, build_gpt_model
from qad_core.models.tensor_sources import open_tensor_source
from qad_core.train.parallel import RankContext

_LLAMA3_ROPE: dict[str, float | int | str] = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

QWEN3 = ArchitectureConfig(
    family="qwen3",
    num_layers=2,
    hidden_size=64,
    ffn_hidden_size=96,
    num_attention_heads=8,
    num_query_groups=2,
    kv_channels=16,
    vocab_size=96,
    max_position_embeddings=64,
)
LLAMA = QWEN3.model_copy(
    update={"family": "llama", "num_query_groups": 4, "rotary_base": 10_000.0, "rms_norm_epsilon": 1e-5}
)
QWEN3_MOE = QWEN3.model_copy(
    update={"family": "qwen3_moe", "num_moe_experts": 8, "moe_router_topk": 2, "moe_ffn_hidden_size": 48}
)
ARCHITECTURES = {
    "qwen3, untied": QWEN3,
    "qwen3, tied": QWEN3.model_copy(update={"tie_word_embeddings": True}),
    "qwen3 moe": QWEN3_MOE,
    "qwen3 moe, unnormalized": QWEN3_MOE.model_copy(update={"moe_normalize_topk": False}),
    "llama, untied": LLAMA,
    "llama, tied, scaled rope": LLAMA.model_copy(
        update={"tie_word_embeddings": True, "rope_scaling": _LLAMA3_ROPE, "max_position_embeddings": 32768}
    ),
}


def save_transformers_model(architecture: ArchitectureConfig, folder: Path) -> torch.Tensor:
    """Save transformers' own model with random weights; return its logits on `make_tokens`, [b, s, V]."""
    model = _make_transformers_model(architecture)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # Norm weights around 1 and wide linears: every tensor shows in the logits.
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else 0.15 * noise)
        model.save_pretrained(folder)
        return model(make_tokens(architecture)).logits


def make_tokens(architecture: ArchitectureConfig) -> torch.Tensor:
    """Token ids [2, 24]."""
    return torch.randint(architecture.vocab_size, (2, 24), generator=torch.Generator().manual_seed(2))


def load_model(
    weights: Path | str,
    architecture: ArchitectureConfig,
    parallelism: ParallelismConfig,
    context: RankContext,
    recompute: Literal["none", "full"] = "none",
) -> HiddenStatesGPTModel:
    """This rank's shard; a parameter that the import forgets stays NaN."""
    config = make_transformer_config(architecture, parallelism, params_dtype=context.params_dtype, recompute=recompute)
    model = build_gpt_model(architecture, config, context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    load_hf_weights(model, open_tensor_source(weights, architecture, seed=0), architecture, context)
    return model.eval()


@torch.no_grad()
def compute_logits(model: HiddenStatesGPTModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [b, s, V] of a model that is whole on this rank, or sharded over TP only."""
    return model.logits(model(tokens, make_positions(tokens), None))


def make_positions(tokens: torch.Tensor) -> torch.Tensor:
    """Position ids of the shape of `tokens`."""
    return torch.arange(tokens.shape[1]).expand_as(tokens)


def _make_transformers_model(architecture: ArchitectureConfig) -> Any:
    rope = architecture.rope_scaling or {"rope_type": "default"}
    common: dict[str, Any] = {
        "num_hidden_layers": architecture.num_layers,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.ffn_hidden_size,
        "num_attention_heads": architecture.num_attention_heads,
        "num_key_value_heads": architecture.num_query_groups,
        "head_dim": architecture.kv_channels,
        "vocab_size": architecture.vocab_size,
        "max_position_embeddings": architecture.max_position_embeddings,
        "rope_parameters": {**rope, "rope_theta": architecture.rotary_base},
        "rms_norm_eps": architecture.rms_norm_epsilon,
        "tie_word_embeddings": architecture.tie_word_embeddings,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if architecture.family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**common)).eval()
    if architecture.family == "qwen3_moe":
        mixture = {
            "num_experts": architecture.num_moe_experts,
            "num_experts_per_tok": architecture.moe_router_topk,
            "moe_intermediate_size": architecture.moe_ffn_hidden_size,
            "norm_topk_prob": architecture.moe_normalize_topk,
        }
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**common, **mixture)).eval()
    return LlamaForCausalLM(LlamaConfig(**common)).eval()
