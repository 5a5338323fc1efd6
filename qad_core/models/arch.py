"""From our architecture section to megatron-core's TransformerConfig.

Owns every choice that TransformerConfig asks for. It builds no module: `spec.py` does. TransformerEngine
and Apex are never required, so nothing here turns on a fusion that needs them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from qad_core.config.schema import ArchitectureConfig, ParallelismConfig


def make_transformer_config(
    architecture: ArchitectureConfig,
    parallelism: ParallelismConfig,
    *,
    params_dtype: torch.dtype,
    recompute: Literal["none", "full"] = "none",
) -> TransformerConfig:
    """Config of a Qwen3, Qwen3-MoE or Llama decoder on this process's layout of ranks.

    Dropout is 0 and losses are sums over tokens, divided once by the global token count
    (`calculate_per_token_loss`). Weights start as zeros: they always come from `hf_import`.
    """
    return TransformerConfig(
        num_layers=architecture.num_layers,
        hidden_size=architecture.hidden_size,
        ffn_hidden_size=architecture.ffn_hidden_size,
        num_attention_heads=architecture.num_attention_heads,
        num_query_groups=architecture.num_query_groups,
        kv_channels=architecture.kv_channels,
        normalization="RMSNorm",
        layernorm_epsilon=architecture.rms_norm_epsilon,
        qk_layernorm=architecture.family != "llama",
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        params_dtype=params_dtype,
        pipeline_dtype=params_dtype,
        bf16=params_dtype == torch.bfloat16,
        tensor_model_parallel_size=parallelism.tensor_model_parallel_size,
        pipeline_model_parallel_size=parallelism.pipeline_model_parallel_size,
        context_parallel_size=parallelism.context_parallel_size,
        expert_model_parallel_size=parallelism.expert_model_parallel_size,
        sequence_parallel=parallelism.sequence_parallel,
        calculate_per_token_loss=True,
        # On a GPU this replaces the embedding's atomic adds; on the CPU it would bring atomic adds in.
        deterministic_mode=torch.cuda.is_available(),
        init_method=torch.nn.init.zeros_,
        output_layer_init_method=torch.nn.init.zeros_,
        recompute_granularity="full" if recompute == "full" else None,
        recompute_method="uniform" if recompute == "full" else None,
        recompute_num_layers=1 if recompute == "full" else None,
        # The activation is a module of `spec.py`'s, with or without TransformerEngine.
        use_te_activation_func=True,
        # These need TransformerEngine or Apex.
        bias_dropout_fusion=False,
        gradient_accumulation_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        **_mixture_of_experts(architecture),
    )


def _mixture_of_experts(architecture: ArchitectureConfig) -> dict[str, Any]:
    """The router's and the experts' settings; none for a dense model.

    No auxiliary loss balances the experts: the student is held to its teacher's outputs alone. The router computes
    in float32, so that a choice between experts does not hang on bfloat16's rounding of its logits.
    """
    if architecture.family != "qwen3_moe":
        return {}
    return {
        "num_moe_experts": architecture.num_moe_experts,
        "moe_ffn_hidden_size": architecture.moe_ffn_hidden_size,
        "moe_router_topk": architecture.moe_router_topk,
        # The softmax over the chosen experts' logits is the softmax over all, scaled to sum to one.
        "moe_router_pre_softmax": not architecture.moe_normalize_topk,
        "moe_router_dtype": "fp32",
        "moe_router_load_balancing_type": "none",
        "moe_aux_loss_coeff": 0.0,
        "moe_token_dispatcher_type": "alltoall",
    }
