"""Holds an exported folder against its student, from the files alone: every tensor there, every value right.

Owns three checks: the set of tensors with their forms, the two configs, and the values. `hf_logits.py` runs the
exported model. A check answers problems in words that name the tensors; none is an export to trust.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from modelopt.torch.export.convert_hf_config import convert_hf_quant_config_format
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qad_core.config.schema import ArchitectureConfig
from qad_core.kernels.nvfp4_backend import invalidate_weight_cache
from qad_core.models.hf_export import INDEX_NAME, TensorForm, input_scales, is_quantized
from qad_core.models.hf_export_config import CONFIG_NAME, QUANT_CONFIG_NAME
from qad_core.models.hf_parts import PlainTensor, QuantizedLinear, list_parts
from qad_core.models.hf_tensors import list_expected_tensors
from qad_core.models.nvfp4_packed import BLOCK_SIZE, dequantize
from qad_core.models.spec import HiddenStatesGPTModel

DTYPES = {
    "U8": torch.uint8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
_INTEGERS = {2: torch.int16, 4: torch.int32}
"""By the bytes of an element."""


class ExportedTensors:
    """The tensors in a folder's safetensors files, found by their headers and read one at a time.

    A shard that is no safetensors file is one of `problems`, and its tensors are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.forms: dict[str, TensorForm] = {}
        self.files: dict[str, str] = {}
        """File names."""
        self.problems: list[str] = []
        self._opened: dict[str, Any] = {}  # of a file with many tensors, each opening reads a long header
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self._opened[path.name] = safe_open(path, framework="pt")
            except SafetensorError as error:
                self.problems.append(f"{path.name} cannot be read: {error}")
        for file in self._opened:
            self._read_header(file)

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU."""
        return self._opened[self.files[name]].get_tensor(name)

    def read_weight(self, module: str) -> Tensor:
        """Values, float32, of a quantized module's packed weight."""
        parts = (self.read(f"{module}.{suffix}") for suffix in ("weight", "weight_scale", "weight_scale_2"))
        return dequantize(*parts)

    def _read_header(self, file: str) -> None:
        for name in self._opened[file].keys():
            if name in self.files:
                self.problems.append(f"{name} is in {self.files[name]} and in {file}")
            found = self._opened[file].get_slice(name)
            self.files[name] = file
            dtype = DTYPES.get(found.get_dtype())
            if dtype is None:
                self.problems.append(f"{name} is of type {found.get_dtype()}")
            else:
                self.forms[name] = TensorForm(dtype, tuple(found.get_shape()))


def check_tensors(folder: Path, found: ExportedTensors, expected: dict[str, TensorForm]) -> list[str]:
    """Compare what is there with what the architecture and the quantization demand, and the index with the files."""
    problems = list(found.problems)
    problems += [f"{name} is missing" for name in expected if name not in found.forms]
    problems += [f"{name} has no place in this model" for name in found.forms if name not in expected]
    problems += [
        f"{name} is {_words(found.forms[name])}, expected {_words(form)}"
        for name, form in expected.items()
        if name in found.forms and found.forms[name] != form
    ]
    try:
        weight_map: object = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [*problems, f"{INDEX_NAME} cannot be read: {error!r}"]
    if weight_map != found.files:
        problems.append(f"{INDEX_NAME} does not say where the tensors are")
    return problems


def check_configs(folder: Path, architecture: ArchitectureConfig, algorithm: str) -> list[str]:
    """Hold config.json and hf_quant_config.json against each other and against what is quantized."""
    try:
        config, quantization = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (CONFIG_NAME, QUANT_CONFIG_NAME)
        )
        details: dict[str, Any] = quantization["quantization"]
        said, excluded = (details["quant_algo"], details["group_size"]), list[str](details["exclude_modules"])
        in_config = config["quantization_config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"the configs cannot be read: {error!r}"]
    problems: list[str] = []
    if in_config != convert_hf_quant_config_format(quantization):
        problems.append(f"the quantization_config of {CONFIG_NAME} is not that of {QUANT_CONFIG_NAME}")
    if said != (algorithm, BLOCK_SIZE):
        problems.append(f"{QUANT_CONFIG_NAME} says {said}, expected {(algorithm, BLOCK_SIZE)}")
    for name, shape in list_expected_tensors(architecture).items():
        module = name.removesuffix(".weight")
        if len(shape) > 1 and is_quantized(name) == any(fnmatch(module, pattern) for pattern in excluded):
            problems.append(f"{module} is {'' if is_quantized(name) else 'not '}quantized, and exclude_modules differs")
    return problems


@torch.no_grad()
def check_values(
    found: ExportedTensors, student: HiddenStatesGPTModel, architecture: ArchitectureConfig, *, activations: bool
) -> list[str]:
    """Compare plain tensors and scales bit for bit with the student's, and packed weights with its quantized values.

    Of these only the sign of a zero is not compared: modelopt packs a negative weight that rounds to 0 as -0, and the
    student multiplies with +0.
    """
    problems: list[str] = []
    for part in list_parts(student, architecture):
        if isinstance(part, PlainTensor):
            problems += _name_differing(part.name, _differing_bits(found.read(part.name), part.value))
            continue
        for name, value in zip(part.names, _fake_quantized(part), strict=True):
            read = found.read_weight(name).to(value.device, value.dtype)
            problems += _name_differing(f"{name}.weight, dequantized,", read != value)
        for name, scale in zip(part.names, input_scales(part) if activations else [], strict=False):
            read = found.read(f"{name}.input_scale")
            problems += _name_differing(f"{name}.input_scale", _differing_bits(read, scale))
    return problems


def _fake_quantized(linear: QuantizedLinear) -> Iterator[Tensor]:
    """What the student multiplies with, part by part."""
    value = linear.module.weight_quantizer(linear.module.weight)
    invalidate_weight_cache(linear.module)  # it would hold the quantized value of every layer
    yield from linear.split(value)


def _differing_bits(read: Tensor, student: Tensor) -> Tensor:
    """Where two tensors of one form differ, zeros of another sign included."""
    integers = _INTEGERS[student.dtype.itemsize]
    return read.to(student.device).view(integers) != student.view(integers)


def _name_differing(name: str, differing: Tensor) -> list[str]:
    count = int(differing.sum())
    return [f"{name} differs from the student's in {count:,} of {differing.numel():,} values"] if count else []


def _words(form: TensorForm) -> str:
    return f"{str(form.dtype).removeprefix('torch.')} {list(form.shape)}"
