"""Writes a quantized student as modelopt's unified Hugging Face checkpoint: packed NVFP4 in safetensors shards.

Owns the packing (modelopt's own, part by part) and the shards; names and rows are `hf_parts.py`'s, config.json and
what lies beside it `hf_export_config.py`'s. Tensors are made, written and dropped a shard at a time, so that no second
copy of the model is held.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from modelopt.torch.export.model_config import QUANTIZATION_NVFP4
from modelopt.torch.export.quant_utils import to_quantized_weight
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import OutsideError
from qad_core.models.hf_parts import PlainTensor, QuantizedLinear, list_parts
from qad_core.models.hf_tensors import EMBEDDING, OUTPUT, ROUTER, Shape, list_expected_tensors
from qad_core.models.nvfp4_packed import BLOCK_SIZE
from qad_core.models.spec import HiddenStatesGPTModel

INDEX_NAME = "model.safetensors.index.json"
LARGEST_SHARD_BYTES = 5 * 10**9


class TensorForm(NamedTuple):
    """Dtype and shape of a tensor in a file."""

    dtype: torch.dtype
    shape: Shape


def list_exported_tensors(
    architecture: ArchitectureConfig, dtype: torch.dtype, *, activations: bool
) -> dict[str, TensorForm]:
    """Every tensor that an export has to hold, by name; `dtype` is that of what is not quantized."""
    forms: dict[str, TensorForm] = {}
    for name, shape in list_expected_tensors(architecture).items():
        if not is_quantized(name):
            forms[name] = TensorForm(dtype, shape)
            continue
        rows, columns = shape
        forms[name] = TensorForm(torch.uint8, (rows, columns // 2))
        forms[f"{name}_scale"] = TensorForm(torch.float8_e4m3fn, (rows, columns // BLOCK_SIZE))
        forms[f"{name}_scale_2"] = TensorForm(torch.float32, ())
        if activations:
            forms[f"{name.removesuffix('weight')}input_scale"] = TensorForm(torch.float32, ())
    return forms


def is_quantized(name: str) -> bool:
    """Whether a weight of this name is quantized: all block linears are; embedding, head, routers and norms are not."""
    return name not in (EMBEDDING, OUTPUT) and not name.endswith(("norm.weight", ROUTER))


def write_shards(
    student: HiddenStatesGPTModel,
    architecture: ArchitectureConfig,
    folder: Path,
    *,
    activations: bool,
    largest_shard_bytes: int = LARGEST_SHARD_BYTES,
) -> None:
    """Write all tensors and their index into `folder`. Raises OutsideError where the disk refuses."""
    writer = _ShardWriter(folder, largest_shard_bytes)
    for part in list_parts(student, architecture):
        if isinstance(part, PlainTensor):
            writer.add(part.name, part.value)
            continue
        for name, tensor in pack_linear(part, activations=activations):
            writer.add(name, tensor)
    writer.finish()


@torch.no_grad()
def pack_linear(linear: QuantizedLinear, *, activations: bool) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a quantized linear, by Hugging Face name: fused parts share the scales of the whole."""
    quantizer = linear.module.weight_quantizer
    block_amax: Tensor | None = quantizer._amax if hasattr(quantizer, "_global_amax") else None
    tensor_amax = linear.scalars(quantizer._amax if block_amax is None else quantizer._global_amax)
    blocks = [None] * len(linear.names) if block_amax is None else linear.split(block_amax)
    weights = linear.split(linear.module.weight.detach())
    for name, weight, amax, static in zip(linear.names, weights, tensor_amax, blocks, strict=True):
        # What modelopt asks a quantizer for; ours of stacked experts has one amax an expert, and is asked for each.
        asked: Any = SimpleNamespace(block_sizes={-1: BLOCK_SIZE}, _amax=amax)
        if static is not None:
            asked = SimpleNamespace(block_sizes={-1: BLOCK_SIZE}, _amax=static.contiguous(), global_amax=amax)
        tensor_scale = NVFP4QTensor.get_weights_scaling_factor_2_from_quantizer(asked)
        weight = weight.contiguous()
        scales, _ = NVFP4QTensor.get_weights_scaling_factor_from_quantizer(asked, weight, tensor_scale)
        yield f"{name}.weight", to_quantized_weight(weight, scales, QUANTIZATION_NVFP4, tensor_scale, BLOCK_SIZE)
        yield f"{name}.weight_scale", scales
        yield f"{name}.weight_scale_2", tensor_scale
    if activations:
        for name, scale in zip(linear.names, input_scales(linear), strict=True):
            yield f"{name}.input_scale", scale


def input_scales(linear: QuantizedLinear) -> list[Tensor]:
    """One 0-dim float32 scale of the inputs a name."""
    scales: Any = NVFP4QTensor.get_activation_scaling_factor(linear.module.input_quantizer)
    return linear.scalars(scales)


class _ShardWriter:
    """Gathers tensors on the CPU until a shard is full."""

    def __init__(self, folder: Path, largest_bytes: int) -> None:
        self._folder, self._largest_bytes = folder, largest_bytes
        self._tensors: dict[str, Tensor] = {}
        self._bytes = self._total_bytes = 0
        self._shards: list[list[str]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self._tensors and self._bytes + size > self._largest_bytes:
            self._write()
        # A copy: a slice would hold, and safetensors refuse, the storage of the whole.
        self._tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
        self._bytes += size

    def finish(self) -> None:
        """Write the last shard; the files get their names, which hold their number, and the index."""
        self._write()
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            final = f"model-{number + 1:05d}-of-{len(self._shards):05d}.safetensors"
            self._shard(number).rename(self._folder / final)
            weight_map |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weight_map}
        (self._folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _write(self) -> None:
        path = self._shard(len(self._shards))
        try:
            save_file(self._tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:  # it says so of a full disk
            raise OutsideError(
                f"{path} could not be written: {error}", "See that the disk has space, or name another --out."
            ) from error
        path.chmod(self._folder.stat().st_mode & 0o666)  # safetensors lets nobody else read it
        self._shards.append(list(self._tensors))
        self._total_bytes += self._bytes
        self._tensors, self._bytes = {}, 0

    def _shard(self, number: int) -> Path:
        return self._folder / f"shard-{number}.tmp"
