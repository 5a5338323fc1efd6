"""Small GGUF files, written for tests."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from gguf import GGUFReader, GGUFWriter

from qad_core.config.schema import ArchitectureConfig
from qad_core.models.tensor_sources import RandomSource

Tensors = dict[str, torch.Tensor]


def write_gguf(path: Path, architecture: ArchitectureConfig, norm_dtype: torch.dtype = torch.float32) -> Tensors:
    """Write random weights, float32 but for the final norm, under GGUF's names; return them under Hugging Face's."""
    to_gguf = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers": "blk",
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate.": "ffn_gate_inp.",
        "mlp.": "ffn_",
        "_proj.weight": ".weight",
    }
    source = RandomSource(architecture, seed=3)
    tensors = {name: source.read(name) for name in source.shapes}
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(norm_dtype)
    writer = GGUFWriter(path, architecture.family.replace("_", ""))
    writer.add_block_count(architecture.num_layers)
    writer.add_head_count(architecture.num_attention_heads)
    writer.add_head_count_kv(architecture.num_query_groups)
    writer.add_rope_freq_base(architecture.rotary_base)
    writer.add_layer_norm_rms_eps(architecture.rms_norm_epsilon)
    if architecture.num_moe_experts and architecture.moe_router_topk:
        writer.add_expert_count(architecture.num_moe_experts)
        writer.add_expert_used_count(architecture.moe_router_topk)
    stacks: dict[str, list[torch.Tensor]] = {}
    for name, tensor in tensors.items():
        for ours, theirs in to_gguf.items():
            name = name.replace(ours, theirs)
        stacks.setdefault(re.sub(r"ffn_experts\.\d+\.(\w+)\.", r"ffn_\1_exps.", name), []).append(tensor)
    for name, parts in stacks.items():
        writer.add_tensor(name, (torch.stack(parts) if "_exps" in name else parts[0]).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert len(GGUFReader(path).tensors) == len(stacks)
    return tensors
