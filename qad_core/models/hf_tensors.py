"""Names and shapes of the tensors of a Hugging Face Qwen3 or Llama checkpoint.

Owns the naming alone; who reads them is `tensor_sources.py`, who lays them out for megatron-core is
`hf_import.py`. Names and shapes: transformers' modeling_qwen3.py and modeling_llama.py.
"""

from __future__ import annotations

from qad_core.config.schema import ArchitectureConfig

Shape = tuple[int, ...]

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
OUTPUT = "lm_head.weight"


def layer_prefix(layer: int) -> str:
    """Prefix of one layer's tensors; layers count from 0."""
    return f"model.layers.{layer}."


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
    hidden, ffn, channels = architecture.hidden_size, architecture.ffn_hidden_size, architecture.kv_channels
    queries = architecture.num_attention_heads * channels
    keys = architecture.num_query_groups * channels
    shapes: dict[str, Shape] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (ffn, hidden),
        "mlp.up_proj.weight": (ffn, hidden),
        "mlp.down_proj.weight": (hidden, ffn),
    }
    if architecture.family == "qwen3":
        shapes["self_attn.q_norm.weight"] = (channels,)
        shapes["self_attn.k_norm.weight"] = (channels,)
    return shapes
