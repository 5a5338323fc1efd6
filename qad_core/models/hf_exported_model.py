"""Runs an exported folder as transformers' model, built from its config.json alone, in plain float32.

Weights are dequantized, inputs quantized, by `nvfp4_packed.py` with the exported scales. A layer has weights only while
it runs, so that no second copy of a model is held.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from qad_core.models.hf_tensors import EMBEDDING, FINAL_NORM, OUTPUT, ROUTER, layer_prefix
from qad_core.models.hf_verify import ExportedTensors
from qad_core.models.nvfp4_packed import quantize_inputs

TakeInput = Callable[[str, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Called with a module's name, its input and how that is quantized; answers the quantized input to go on with.

The input is [s, b, in], or [tokens, in] of an expert, in the order of [s, b].
"""


def router_name(layer: int) -> str:
    """Module of a layer's router."""
    return (layer_prefix(layer) + ROUTER).removesuffix(".weight")


def run_exported(
    folder: Path, found: ExportedTensors, take_input: TakeInput, tokens: Tensor, *, activations: bool
) -> Tensor:
    """Logits [b, s, V] of transformers' model, whose layers get their weights when they run."""
    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
        for layer in model.model.layers:
            if hasattr(layer.mlp, "experts"):
                layer.mlp.experts = _Experts(config, tokens)
    body = model.model
    body.rotary_emb = type(body.rotary_emb)(config).to(tokens.device)
    for index, layer in enumerate(body.layers):
        name = layer_prefix(index).removesuffix(".")
        _fill_when_it_runs(layer, name, found, tokens.device)
        if config.model_type == "qwen3_moe":
            layer.mlp.register_forward_pre_hook(_replace_input(router_name(index), take_input, lambda x: x))
        for linear_name, linear in layer.named_modules(prefix=name):
            if isinstance(linear, nn.Linear):
                quantize = _input_quantizer(linear_name, found) if activations else lambda x: x
                linear.register_forward_pre_hook(_replace_input(linear_name, take_input, quantize))
    embedding = found.read(EMBEDDING).to(tokens.device, torch.float32)
    body.embed_tokens.weight = nn.Parameter(embedding, requires_grad=False)
    body.norm.weight = nn.Parameter(found.read(FINAL_NORM).to(tokens.device, torch.float32), requires_grad=False)
    hidden = body(input_ids=tokens, use_cache=False).last_hidden_state
    head = embedding if config.tie_word_embeddings else found.read(OUTPUT).to(tokens.device, torch.float32)
    return F.linear(hidden, head)


def _fill_when_it_runs(layer: nn.Module, prefix: str, found: ExportedTensors, device: torch.device) -> None:
    """Hooks that read a layer's weights from the files before it runs, and drop them afterwards."""

    def fill(_module: nn.Module, _args: Any) -> None:
        weights: dict[str, Tensor] = {}
        for name, _ in layer.named_parameters():
            module = f"{prefix}.{name}".removesuffix(".weight")
            is_packed = f"{module}.weight_scale" in found.forms
            value = found.read_weight(module) if is_packed else found.read(f"{module}.weight")
            weights[name] = value.to(device, torch.float32)
        layer.load_state_dict(weights, assign=True)

    layer.register_forward_pre_hook(fill)
    layer.register_forward_hook(lambda _module, _args, output: (layer.to("meta"), output)[1])


def _input_quantizer(name: str, found: ExportedTensors) -> Callable[[Tensor], Tensor]:
    return lambda x: quantize_inputs(x, found.read(f"{name}.input_scale").to(x.device))


def _replace_input(
    name: str, take_input: TakeInput, quantize: Callable[[Tensor], Tensor]
) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    """A hook that has a module's input compared, and goes on with the student's, quantized."""

    def replace(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        (x,) = args
        if x.ndim == 2:  # an expert's tokens, which `_Experts` has in the student's order
            return (take_input(name, x, quantize),)
        return (take_input(name, x.transpose(0, 1), quantize).transpose(0, 1).contiguous(),)

    return replace


class _Experts(nn.Module):
    """Experts as the files have them, one linear each; transformers stacks them and leaves no place for hooks."""

    def __init__(self, config: Any, tokens: Tensor) -> None:
        super().__init__()
        hidden, ffn = config.hidden_size, config.moe_intermediate_size
        for index in range(config.num_experts):
            expert = nn.Module()
            expert.gate_proj = nn.Linear(hidden, ffn, bias=False)
            expert.up_proj = nn.Linear(hidden, ffn, bias=False)
            expert.down_proj = nn.Linear(ffn, hidden, bias=False)
            self.add_module(str(index), expert)
        batch, length = tokens.shape
        # The student has its tokens by position, then by sequence.
        self._order = torch.arange(batch * length, device=tokens.device).view(batch, length).T.flatten()

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """hidden_states [tokens, h], the chosen experts and their weights [tokens, top-k]; returns [tokens, h]."""
        output = torch.zeros_like(hidden_states)
        for index, expert in enumerate(self.children()):
            chosen = top_k_index[self._order] == index  # [tokens, top-k]
            rows = self._order[chosen.any(-1)]
            if len(rows):
                x = hidden_states[rows]
                one: Any = expert
                y = one.down_proj(F.silu(one.gate_proj(x)) * one.up_proj(x))
                share = top_k_weights[rows][top_k_index[rows] == index]
                output[rows] += y * share.unsqueeze(-1).to(y.dtype)
        return output
