"""An exported student is byte for byte what modelopt's own export writes, and computes what the student does.

The tests run on the GPU where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from modelopt.torch.export import export_mcore_gpt_to_hf
from safetensors.torch import load_file

from qad_core.config.schema import ArchitectureConfig, ParallelismConfig, QuantizationConfig
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize, scale_of_tensor
from qad_core.kernels.nvfp4_backend import enable_weight_cache
from qad_core.models.hf_export import list_exported_tensors, write_shards
from qad_core.models.hf_export_config import make_model_config, make_quantization_config, write_configs
from qad_core.models.hf_logits import compare_logits
from qad_core.models.hf_verify import ExportedTensors, check_configs, check_tensors, check_values
from qad_core.models.nvfp4_packed import dequantize, quantize_inputs
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.quantize import quantize_student
from tests.models.small_models import ARCHITECTURES, LLAMA, QWEN3, load_model, make_tokens, save_transformers_model

WeightScales = Literal["max", "mse", "four_over_six"]


@pytest.fixture
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), precision="bf16")
    shut_down_parallel()


def make_student(
    architecture: ArchitectureConfig, quantization: QuantizationConfig, context: RankContext, source: Path
) -> HiddenStatesGPTModel:
    """A quantized student of random weights, which transformers saves in `source`."""
    save_transformers_model(architecture, source)
    student = load_model(source, architecture, ParallelismConfig(), context)
    tokens = make_tokens(architecture).to(context.device)

    def run_calibration(_model: torch.nn.Module) -> None:
        student(tokens, torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens), None)

    quantize_student(student, run_calibration, quantization)
    enable_weight_cache(student)
    return student


@pytest.mark.parametrize(
    ("architecture", "weight_scales", "activations"),
    [(QWEN3, "max", True), (QWEN3, "mse", True), (LLAMA, "four_over_six", False)],
    ids=["qwen3", "qwen3, static scales", "llama, weights only, static scales"],
)
def test_files_are_those_of_modelopts_export(
    architecture: ArchitectureConfig,
    weight_scales: WeightScales,
    activations: bool,
    context: RankContext,
    tmp_path: Path,
) -> None:
    source, ours, theirs = tmp_path / "source", tmp_path / "ours", tmp_path / "theirs"
    quantization = QuantizationConfig(weight_scales=weight_scales, activations=activations)
    student = make_student(architecture, quantization, context, source)
    for folder in (ours, theirs):
        folder.mkdir()
    write_shards(student, architecture, ours, activations=activations, largest_shard_bytes=20_000)
    export_mcore_gpt_to_hf(student, str(source), dtype=torch.bfloat16, export_dir=str(theirs))
    written, expected = read_all(ours), read_all(theirs)
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        assert written[name].dtype == tensor.dtype and written[name].shape == tensor.shape, name
        assert torch.equal(written[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    assert len(list(ours.glob("*.safetensors"))) > 2
    forms = list_exported_tensors(architecture, torch.bfloat16, activations=activations)
    assert check_tensors(ours, ExportedTensors(ours), forms) == []
    details = make_quantization_config(architecture, activations=activations)
    assert details == json.loads((theirs / "hf_quant_config.json").read_text())
    config = make_model_config({}, architecture, torch.bfloat16, details)
    assert config["quantization_config"] == json.loads((theirs / "config.json").read_text())["quantization_config"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_written_model_is_the_student(name: str, context: RankContext, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    student = make_student(architecture, QuantizationConfig(weight_scales="mse"), context, tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    write_shards(student, architecture, out, activations=True)
    write_configs(out, architecture, source=None, dtype=torch.bfloat16, activations=True, eos_token_id=None)
    found = ExportedTensors(out)
    assert check_configs(out, architecture, "NVFP4") == []
    assert check_values(found, student, architecture, activations=True) == []
    result = compare_logits(out, found, student, architecture, make_tokens(architecture), activations=True)
    assert result.problems == [] and result.tokens == 48


def test_the_plain_reading_of_packed_values_and_of_inputs_is_the_kernels() -> None:
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    x[0, :16] = 0.0
    x[1, 0] = 100.0  # saturates
    amax = x[2:].abs().amax()
    assert torch.equal(quantize_inputs(x, scale_of_tensor(amax)), nvfp4_quantize_dequantize(x, amax))
    packed = torch.tensor([[0x21, 0x43, 0x65, 0x87, 0xA9, 0xCB, 0xED, 0x0F]], dtype=torch.uint8)
    values = dequantize(packed, torch.tensor([[2.0]]).to(torch.float8_e4m3fn), torch.tensor(0.5))
    ladder = [0.5, 1, 1.5, 2, 3, 4, 6]
    assert values.tolist() == [[*ladder, 0, *(-value for value in ladder), 0]]


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's safetensors files, by name."""
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
