"""A GGUF file's tensors under Hugging Face names, dequantized to float32 one at a time.

Owns GGUF's names, its order of query and key rows, its stacks of experts, and the check of its metadata against
the architecture.
Read with the `gguf` package alone: transformers' own loader gives the same numbers but takes many times as
long. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from torch import Tensor

from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ModelError, explain_os_error
from qad_core.models.hf_tensors import EMBEDDING, FINAL_NORM, OUTPUT, Shape, expert_prefix, layer_prefix

_NAMES = {"token_embd.weight": EMBEDDING, "output_norm.weight": FINAL_NORM, "output.weight": OUTPUT}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
_EXPERT_NAMES = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}
_FAMILIES = {"qwen3_moe": "qwen3moe"}
"""Our families whose name differs in GGUF."""


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies: a whole GGUF tensor, or one expert's part of a stack."""

    tensor: ReaderTensor
    shape: Shape
    expert: int | None = None

    @property
    def data(self) -> npt.NDArray[Any]:
        return self.tensor.data if self.expert is None else self.tensor.data[self.expert]


class GgufSource:
    """Tensors of one GGUF file of a Llama, Qwen3 or Qwen3-MoE.

    Raises ModelError for a damaged file and for one whose metadata contradict the architecture.
    """

    def __init__(self, path: Path, architecture: ArchitectureConfig) -> None:
        self.description = str(path)
        self._architecture = architecture
        reader = open_gguf(path)
        _check_metadata(path, reader, architecture)
        # rope_freqs holds the frequencies of a RoPE scaling, which the architecture gives by its constants.
        self._tensors: dict[str, _Stored] = {
            name: stored
            for tensor in reader.tensors
            if not (tensor.name == "rope_freqs.weight" and architecture.rope_scaling)
            for name, stored in _list_tensors(tensor)
        }
        self.shapes: dict[str, Shape] = {name: stored.shape for name, stored in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, float32; raises ModelError for a kind of block that the gguf package cannot dequantize."""
        stored = self._tensors[name]
        try:
            values = dequantize(stored.data, stored.tensor.tensor_type)
        except NotImplementedError as error:
            kind = stored.tensor.tensor_type.name
            raise ModelError(
                f"{self.description}: {stored.tensor.name} is stored as {kind}, which cannot be read",
                "Use a GGUF file with Q8_0, Q4_K, F16 or BF16 blocks, or the model's safetensors.",
            ) from error
        tensor = torch.from_numpy(values.copy()).reshape(self.shapes[name])
        heads = self._heads_of(name)
        return _restore_head_rows(tensor, heads) if heads else tensor

    def _heads_of(self, name: str) -> int:
        """Heads whose rows GGUF reorders: a Llama's queries and keys; 0 for all else."""
        if self._architecture.family != "llama":
            return 0
        if name.endswith("q_proj.weight"):
            return self._architecture.num_attention_heads
        return self._architecture.num_query_groups if name.endswith("k_proj.weight") else 0


def open_gguf(path: Path) -> GGUFReader:
    """Map a GGUF file; raises ModelError when it is damaged or none, and RunError when it may not be opened."""
    try:
        return GGUFReader(path)
    except PermissionError as error:
        raise explain_os_error(error) from error
    except (ValueError, IndexError, KeyError, OSError, struct.error, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read as GGUF: {error}",
            "It is another kind of file or was cut short: fetch it again and compare its size with the original's.",
        ) from error


def _list_tensors(tensor: ReaderTensor) -> Iterator[tuple[str, _Stored]]:
    """One GGUF tensor's parts under their Hugging Face names: itself, or each expert of a stack."""
    shape = tuple(int(size) for size in reversed(tensor.shape))  # GGUF writes the fastest dimension first
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
    if not match or match[2] not in _EXPERT_NAMES:
        yield to_hf_name(tensor.name), _Stored(tensor, shape)
        return
    for expert in range(shape[0]):
        name = f"{layer_prefix(int(match[1]))}{expert_prefix(expert)}{_EXPERT_NAMES[match[2]]}.weight"
        yield name, _Stored(tensor, shape[1:], expert)


def to_hf_name(name: str) -> str:
    """Hugging Face name of a GGUF tensor; a name that is not known stays as it is, to be reported as unused."""
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if match and match[2] in _LAYER_NAMES:
        return f"{layer_prefix(int(match[1]))}{_LAYER_NAMES[match[2]]}.weight"
    return _NAMES.get(name, name)


def _restore_head_rows(tensor: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's reordering, which puts the two halves of each head's rotary pairs side by side.

    tensor [heads * d, in], rows of a head in the order 0, d/2, 1, d/2 + 1, ...; returned in the order 0, 1, 2, ...
    """
    rows, columns = tensor.shape
    return tensor.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _check_metadata(path: Path, reader: GGUFReader, architecture: ArchitectureConfig) -> None:
    """Compare what shapes cannot tell: heads, RoPE base, epsilon."""
    family = _read_field(reader, "general.architecture")
    expected: dict[str, str | float | None] = {
        "general.architecture": _FAMILIES.get(architecture.family, architecture.family),
        f"{family}.block_count": architecture.num_layers,
        f"{family}.attention.head_count": architecture.num_attention_heads,
        f"{family}.attention.head_count_kv": architecture.num_query_groups,
        f"{family}.rope.freq_base": architecture.rotary_base,
        f"{family}.attention.layer_norm_rms_epsilon": architecture.rms_norm_epsilon,
        f"{family}.expert_count": architecture.num_moe_experts,
        f"{family}.expert_used_count": architecture.moe_router_topk,
    }
    found = {key: _read_field(reader, key) for key in expected}
    differing = [
        f"{key} is {value}, the config says {expected[key]}"
        for key, value in found.items()
        if value is not None and not _is_same(value, expected[key])
    ]
    if differing:
        raise ModelError(f"{path} is another model: {'; '.join(differing)}", "Correct model.architecture.")


def _read_field(reader: GGUFReader, key: str) -> str | float | int | None:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _is_same(found: str | float, expected: str | float | None) -> bool:
    if isinstance(found, str) or isinstance(expected, str) or expected is None:
        return found == expected
    return abs(found - expected) <= 1e-6 * abs(expected)  # GGUF holds float32
