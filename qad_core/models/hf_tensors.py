"""Names and shapes of the tensors of a Hugging Face Qwen3, Qwen3-MoE or Llama checkpoint.

Owns the naming alone; who reads them is `tensor_sources.py`, who lays them out for megatron-core is
`hf_import.py`. Names and shapes: transformers' modeling_qwen3.py and modeling_llama.py, and what its
Qwen3MoeForCausalLM saves: one tensor an expert and linear.
"""

from __future__ import annotations

from qad_core.config.schema import ArchitectureConfig

Shape = tuple[int, ...]

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
OUTPUT = "lm_head.weight"
ROUTER = "mlp.gate.weight"
"""Inside a layer, as `expert_prefix` is."""


def layer_prefix(layer: int) -> str:
    """Prefix of one layer's tensors; layers count from 0."""
    return f"model.layers.{layer}."


def expert_prefix(expert: int) -> str:
    """Prefix of one expert's tensors inside its layer; experts count from 0."""
    return f"mlp.experts.{expert}."


def list_expected_tensors(architecture: ArchitectureConfig) -> dict[str, Shape]:
    """Shape of every tensor that the model needs, by name; linear weights are [out, in]."""
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    shapes: dict[str, Shape] = {EMBEDDING: (vocab, hidden), FINAL_NORM: (hidden,)}
    if not architecture.tie_word_embeddings:
        shapes[OUTPUT] = (vocab, hidden)
    for layer in range(architecture.num_layers):
        for name, shape in _list_layer_tensors(architecture).items():
            shapes[layer_prefix(layer) + name] = shape
    return shapes


def is_unneeded(name: str, architecture: ArchitectureConfig) -> bool:
    """Whether a checkpoint may hold this tensor without the model using it.

    A tied head is the embedding once more; old Llama checkpoints save the RoPE frequencies.
    """
    return name.endswith("rotary_emb.inv_freq") or (name == OUTPUT and architecture.tie_word_embeddings)


def _list_layer_tensors(architecture: ArchitectureConfig) -> dict[str, Shape]:
    hidden, channels = architecture.hidden_size, architecture.kv_channels
    queries = architecture.num_attention_heads * channels
    keys = architecture.num_query_groups * channels
    shapes: dict[str, Shape] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "post_attention_layernorm.weight": (hidden,),
    }
    if architecture.family != "llama":
        shapes["self_attn.q_norm.weight"] = (channels,)
        shapes["self_attn.k_norm.weight"] = (channels,)
    if architecture.family != "qwen3_moe":
        return shapes | _list_mlp_tensors("mlp.", hidden, architecture.ffn_hidden_size)
    assert architecture.num_moe_experts is not None and architecture.moe_ffn_hidden_size is not None
    shapes[ROUTER] = (architecture.num_moe_experts, hidden)
    for expert in range(architecture.num_moe_experts):
        shapes |= _list_mlp_tensors(expert_prefix(expert), hidden, architecture.moe_ffn_hidden_size)
    return shapes


def _list_mlp_tensors(prefix: str, hidden: int, ffn: int) -> dict[str, Shape]:
    return {
        f"{prefix}gate_proj.weight": (ffn, hidden),
        f"{prefix}up_proj.weight": (ffn, hidden),
        f"{prefix}down_proj.weight": (hidden, ffn),
    }
