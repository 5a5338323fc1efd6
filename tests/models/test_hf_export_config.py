"""What lies beside exported tensors: a config.json that transformers reads as the student's shape, and a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from qad_core.config.architecture import read_architecture
from qad_core.models.hf_export_config import (
    copy_tokenizer,
    make_model_config,
    make_quantization_config,
    write_configs,
)
from qad_core.models.tokenizer import BytesTokenizer
from tests.models.small_models import ARCHITECTURES, QWEN3, save_transformers_model


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("has_source", [True, False], ids=["of a folder", "of the shape alone"])
def test_config_json_says_the_students_shape(name: str, has_source: bool, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    source, out = tmp_path / "source", tmp_path / "out"
    save_transformers_model(architecture, source)
    out.mkdir()
    write_configs(
        out,
        architecture,
        source=source if has_source else None,
        dtype=torch.bfloat16,
        activations=True,
        eos_token_id=7,
    )
    values = json.loads((out / "config.json").read_text())
    assert values["eos_token_id"] == (None if has_source else 7)
    assert values["quantization_config"]["quant_method"] == "modelopt"
    assert AutoConfig.from_pretrained(out).dtype == torch.bfloat16
    del values["quantization_config"]  # such a model cannot be trained, which is what the shape is read for
    (out / "config.json").write_text(json.dumps(values))
    assert read_architecture(out) == architecture


def test_what_the_source_says_beyond_the_shape_stays() -> None:
    base = {"bos_token_id": 1, "rope_parameters": {"rope_theta": 5.0}, "torch_dtype": "float16", "vocab_size": 1}
    quantization = make_quantization_config(QWEN3, activations=False)
    config = make_model_config(base, QWEN3, torch.bfloat16, quantization)
    assert config["bos_token_id"] == 1 and config["torch_dtype"] == "bfloat16" and config["vocab_size"] == 96
    assert "rope_parameters" not in config and config["rope_theta"] == QWEN3.rotary_base
    assert "input_activations" not in config["quantization_config"]["config_groups"]["group_0"]


def test_the_tokenizers_files_and_its_chat_template_are_copied(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    for name in ("tokenizer.json", "chat_template.jinja", "model.safetensors"):
        (source / name).write_text(name)
    assert copy_tokenizer(out, source, BytesTokenizer()) == ["tokenizer.json", "chat_template.jinja"]
    assert sorted(path.name for path in out.iterdir()) == ["chat_template.jinja", "tokenizer.json"]
    assert copy_tokenizer(tmp_path, None, BytesTokenizer()) == []
