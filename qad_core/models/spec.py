"""The model: megatron-core's GPTModel on torch modules alone, ending at its hidden states.

Owns the layer spec, the attention core and the norm that stand in for TransformerEngine's, and the
construction of this rank's shard. Weights come from `hf_import.py`; the loss that turns hidden states into
a number is `kernels/`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from megatron.core import tensor_parallel
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.attention import SelfAttention
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ModelError
from qad_core.kernels.attention_heads import HeadNorm, split_heads
from qad_core.kernels.rms_norm import rms_norm
from qad_core.kernels.swiglu import Swiglu
from qad_core.models.experts import make_moe_spec
from qad_core.train.parallel import RankContext

# What megatron-core 0.16.1 has built in for Llama 3; only the factor can be chosen.
_LLAMA3_ROPE = {"low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}


def build_gpt_model(
    architecture: ArchitectureConfig, transformer_config: TransformerConfig, context: RankContext
) -> HiddenStatesGPTModel:
    """This rank's shard of the model, on the rank's device, with zeros for weights.

    With tied embeddings and several pipeline stages, the last stage holds a copy of the embedding as its
    output layer and `finalize_model_grads` sums the gradients of the two. Raises ModelError for a RoPE
    scaling that megatron-core cannot compute.
    """
    rope_scaling_factor = read_rope_scaling_factor(architecture)
    return HiddenStatesGPTModel(
        transformer_config,
        make_block_spec(transformer_config, context),  # pyright: ignore[reportArgumentType] - the block takes both
        vocab_size=architecture.vocab_size,
        max_sequence_length=architecture.max_position_embeddings,
        pre_process=context.is_first_stage,
        post_process=context.is_last_stage,
        parallel_output=True,
        share_embeddings_and_output_weights=architecture.tie_word_embeddings,
        position_embedding_type="rope",
        rotary_base=architecture.rotary_base,  # pyright: ignore[reportArgumentType] - a float serves
        rope_scaling=rope_scaling_factor is not None,
        rope_scaling_factor=rope_scaling_factor or 1.0,
    )


def make_block_spec(transformer_config: TransformerConfig, context: RankContext) -> TransformerBlockSubmodules:
    """Layers of this rank's pipeline stage: megatron-core's local spec with our norm, activation and attention."""
    layer = get_gpt_layer_local_spec(normalization="RMSNorm", qk_layernorm=transformer_config.qk_layernorm)
    submodules: Any = layer.submodules
    submodules.self_attention.module = SelfAttentionInOnePass
    attention = submodules.self_attention.submodules
    submodules.input_layernorm = RMSNorm
    submodules.pre_mlp_layernorm = RMSNorm
    attention.core_attention = CausalSelfAttention
    if transformer_config.qk_layernorm:
        attention.q_layernorm = RMSNorm
        attention.k_layernorm = RMSNorm
    if transformer_config.num_moe_experts is not None:
        submodules.mlp = make_moe_spec()
    else:
        submodules.mlp.submodules.activation_func = Swiglu
    num_layers = get_num_layers_to_build(transformer_config, pp_rank=context.pipeline_parallel_rank)
    return TransformerBlockSubmodules(layer_specs=[layer] * num_layers, layer_norm=ModuleSpec(RMSNorm))


def read_rope_scaling_factor(architecture: ArchitectureConfig) -> float | None:
    """Factor of Llama 3's RoPE scaling, or None for plain RoPE.

    Raises ModelError for another kind of scaling and for other constants than megatron-core has built in.
    """
    scaling = architecture.rope_scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    built_in = kind == "llama3" and all(scaling.get(key) == value for key, value in _LLAMA3_ROPE.items())
    if not built_in or "factor" not in scaling:
        raise ModelError(
            f"rope_scaling {scaling} cannot be computed by megatron-core 0.16.1",
            f"It knows rope_type llama3 with {_LLAMA3_ROPE} and any factor; use a model with that or with plain RoPE.",
        )
    return float(scaling["factor"])


class HiddenStatesGPTModel(GPTModel):
    """GPTModel whose last stage answers the final hidden states instead of logits.

    So no full-vocabulary logits exist while training: the loss multiplies by `output_weight()` chunk by chunk.
    """

    def _postprocess(self, hidden_states: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        """Hidden states [s, b, h], on the last stage after the final norm; [s/TP, b, h] under sequence parallelism."""
        return hidden_states

    def output_weight(self) -> Tensor:
        """This rank's vocabulary rows of the output layer [V/TP, h]; on the last stage only."""
        shared = self.share_embeddings_and_output_weights
        return cast(Tensor, self.shared_embedding_or_output_weight() if shared else self.output_layer.weight)

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Full logits [b, s, V] of the last stage's output, gathered over TP; for checks, not for training."""
        if self.config.sequence_parallel:
            hidden_states = tensor_parallel.gather_from_sequence_parallel_region(
                hidden_states, tensor_parallel_output_grad=False
            )
        shard = F.linear(hidden_states, self.output_weight())  # [s, b, V/TP]
        return tensor_parallel.gather_from_tensor_model_parallel_region(shard).transpose(0, 1)  # [b, s, V]


class SelfAttentionInOnePass(SelfAttention):
    """megatron-core's, whose queries and keys are normed and turned in the pass that splits them from the values."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, *, rotary_pos_emb: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Attend; see megatron-core's. rotary_pos_emb [s, 1, 1, d], which its own forward pass then has none of."""
        self._angles = rotary_pos_emb
        return super().forward(hidden_states, attention_mask, rotary_pos_emb=None, **options)

    def get_query_key_value_tensors(
        self, hidden_states: Tensor, *_args: object, **_options: object
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [s, b, heads/TP, d], keys and values [s, b, groups/TP, d] of hidden_states [s, b, h]."""
        linear: Any = self.linear_qkv
        mixed, _ = linear(hidden_states)
        heads = self.num_attention_heads_per_partition // self.num_query_groups_per_partition
        return split_heads(mixed, self._angles, query_heads_per_group=heads, norm=self._norm())

    def _norm(self) -> HeadNorm | None:
        if not self.config.qk_layernorm:
            return None
        of_queries, of_keys = cast(RMSNorm, self.q_layernorm), cast(RMSNorm, self.k_layernorm)
        return of_queries.weight, of_keys.weight, of_queries.eps


class CausalSelfAttention(MegatronModule):
    """`core_attention` on torch's scaled_dot_product_attention: causal, grouped queries, no [s, s] scores kept."""

    def __init__(
        self, config: TransformerConfig, *_args: object, softmax_scale: float | None = None, **_kwargs: object
    ) -> None:
        super().__init__(config=config)
        self.softmax_scale = softmax_scale

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_kwargs: object
    ) -> Tensor:
        """Attend.

        query [s, b, heads/TP, d]; key and value [s, b, groups/TP, d]; the mask is causal, whatever
        `attention_mask` says. Returns [s, b, heads/TP * d].
        """
        query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))  # [b, heads, s, d]
        context = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=self.softmax_scale, enable_gqa=True
        )
        return context.permute(2, 0, 1, 3).flatten(2)  # [s, b, heads * d]


class RMSNorm(torch.nn.Module):
    """`kernels.rms_norm` as a module.

    megatron-core's torch norm refuses sequence parallelism; this one marks its weight, so that
    `finalize_model_grads` sums the gradients of the sequence's shards.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        device = torch.cuda.current_device()
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype, device=device))
        setattr(self.weight, "sequence_parallel", config.sequence_parallel)  # noqa: B010 - not in the type

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalize the last dimension; shape and dtype are kept."""
        return rms_norm(hidden_states, self.weight, self.eps)
