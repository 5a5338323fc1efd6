"""What lies beside an exported student's tensors: config.json, hf_quant_config.json, tokenizer, generation settings.

Owns these files' contents; modelopt's own functions make the quantization's. Sources of config.json: the run's model
folder where it has one, with the run's shape laid over it, else the shape alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from modelopt import __version__ as modelopt_version
from modelopt.torch.export.convert_hf_config import convert_hf_quant_config_format
from modelopt.torch.export.model_config import QUANTIZATION_NVFP4, QUANTIZATION_W4A16_NVFP4
from modelopt.torch.export.quant_utils import process_layer_quant_config

from qad_core.config.paths import TOKENIZER_FILES
from qad_core.config.schema import ArchitectureConfig
from qad_core.models.hf_export import is_quantized
from qad_core.models.hf_tensors import EMBEDDING, OUTPUT, ROUTER, list_expected_tensors
from qad_core.models.nvfp4_packed import BLOCK_SIZE
from qad_core.models.tokenizer import Tokenizer, TransformersTokenizer

CONFIG_NAME, QUANT_CONFIG_NAME = "config.json", "hf_quant_config.json"
GENERATION_NAME = "generation_config.json"
_CLASSES = {
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "qwen3_moe"),
    "llama": ("LlamaForCausalLM", "llama"),
}


def write_configs(
    folder: Path,
    architecture: ArchitectureConfig,
    *,
    source: Path | None,
    dtype: torch.dtype,
    activations: bool,
    eos_token_id: int | None,
) -> None:
    """Write config.json and hf_quant_config.json.

    `source` is the folder of the model that the run started from, or None, where `eos_token_id` stands in for what
    its config.json says.
    """
    quantization = make_quantization_config(architecture, activations=activations)
    _write_json(folder / QUANT_CONFIG_NAME, quantization)
    base: dict[str, Any] = {"eos_token_id": eos_token_id, "bos_token_id": None}
    if source is not None and (source / CONFIG_NAME).is_file():
        base = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
    _write_json(folder / CONFIG_NAME, make_model_config(base, architecture, dtype, quantization))


def make_model_config(
    base: dict[str, Any], architecture: ArchitectureConfig, dtype: torch.dtype, quantization: dict[str, Any]
) -> dict[str, Any]:
    """Contents of config.json: `base` with the student's shape, dtype and quantization.

    The rotary embedding is in the spelling of transformers 4, which version 5 and inference engines read too.
    """
    kept = {key: value for key, value in base.items() if key not in ("rope_parameters", "torch_dtype")}
    name = str(dtype).removeprefix("torch.")
    kept |= _shape(architecture) | {"dtype": name, "torch_dtype": name}
    return kept | {"quantization_config": convert_hf_quant_config_format(quantization)}


def make_quantization_config(architecture: ArchitectureConfig, *, activations: bool) -> dict[str, Any]:
    """Contents of hf_quant_config.json, as modelopt's export of such a student writes them."""
    form = QUANTIZATION_NVFP4 if activations else QUANTIZATION_W4A16_NVFP4
    layers: dict[str, Any] = {}
    for name in list_expected_tensors(architecture):
        if is_quantized(name):
            layers[name.removesuffix("weight") + "quantization"] = form
            layers[name.removesuffix("weight") + "awq_block_size"] = BLOCK_SIZE
    details = process_layer_quant_config(layers) | {"exclude_modules": list_excluded_modules(architecture)}
    return {"producer": {"name": "modelopt", "version": modelopt_version}, "quantization": details}


def name_algorithm(*, activations: bool) -> str:
    """modelopt's word for weights in NVFP4 with quantized inputs or without, as hf_quant_config.json has it."""
    return "NVFP4" if activations else "W4A16_NVFP4"


def list_excluded_modules(architecture: ArchitectureConfig) -> list[str]:
    """Modules with a matrix that is not quantized. The head is named also where it is the embedding once more: an
    inference engine builds it before it ties the two."""
    names = [*list_expected_tensors(architecture), OUTPUT]
    return sorted({name.removesuffix(".weight") for name in names if name in (EMBEDDING, OUTPUT) or ROUTER in name})


def copy_tokenizer(folder: Path, source: Path | None, tokenizer: Tokenizer) -> list[str]:
    """Copy the tokenizer's files from its folder, or make them from a GGUF file's; the names of what is there now."""
    if source is not None and source.is_dir():
        return copy_files(folder, source, TOKENIZER_FILES)
    if isinstance(tokenizer, TransformersTokenizer):
        tokenizer.save(folder)
        _name_tokenizer_class_as_before(folder / "tokenizer_config.json")
    return [name for name in TOKENIZER_FILES if (folder / name).is_file()]


def copy_files(folder: Path, source: Path, names: Iterable[str]) -> list[str]:
    """Copy those of the named files that are in `source`; their names."""
    found = [name for name in names if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, folder / name)
    return found


def _name_tokenizer_class_as_before(path: Path) -> None:
    """transformers 5 has a new name for the class that reads tokenizer.json; version 4 knows only the old, and both
    take that."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'), encoding="utf-8")


def _shape(architecture: ArchitectureConfig) -> dict[str, Any]:
    class_name, model_type = _CLASSES[architecture.family]
    shape: dict[str, Any] = {
        "architectures": [class_name],
        "model_type": model_type,
        "attention_bias": False,
        "hidden_act": "silu",
        "num_hidden_layers": architecture.num_layers,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.ffn_hidden_size,
        "num_attention_heads": architecture.num_attention_heads,
        "num_key_value_heads": architecture.num_query_groups,
        "head_dim": architecture.kv_channels,
        "vocab_size": architecture.vocab_size,
        "max_position_embeddings": architecture.max_position_embeddings,
        "rms_norm_eps": architecture.rms_norm_epsilon,
        "rope_theta": architecture.rotary_base,
        "rope_scaling": architecture.rope_scaling,
        "tie_word_embeddings": architecture.tie_word_embeddings,
    }
    if architecture.family != "qwen3_moe":
        return shape
    return shape | {
        "num_experts": architecture.num_moe_experts,
        "num_experts_per_tok": architecture.moe_router_topk,
        "moe_intermediate_size": architecture.moe_ffn_hidden_size,
        "norm_topk_prob": architecture.moe_normalize_topk,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
