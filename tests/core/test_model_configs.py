"""The shipped models and layouts against what their makers and the scripts' table published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qad_core.config.architecture import read_architecture
from qad_core.config.checks import check_experiment
from qad_core.config.library import find_library
from qad_core.config.load import load_experiment
from qad_core.config.schema import ArchitectureConfig, RunConfig

QWEN3: dict[str, object] = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
    "max_position_embeddings": 40960, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
QWEN3_MOE: dict[str, object] = QWEN3 | {
    "architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
    "num_experts": 128, "num_experts_per_tok": 8, "num_key_value_heads": 4,
}  # fmt: skip
QWEN3_30B: dict[str, object] = QWEN3_MOE | {
    "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_attention_heads": 32,
    "num_hidden_layers": 48,
}  # fmt: skip
LONG: dict[str, object] = {"max_position_embeddings": 262144, "rope_theta": 10000000}
LLAMA3: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "mlp_bias": False,
    "max_position_embeddings": 131072, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0, "vocab_size": 128256,
}  # fmt: skip
LLAMA3_ROPE = {
    "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3",
}  # fmt: skip


def dense(hidden: int, mlp: int, heads: int, layers: int, *, tied: bool = False) -> dict[str, object]:
    return QWEN3 | {
        "hidden_size": hidden, "intermediate_size": mlp, "num_attention_heads": heads, "num_hidden_layers": layers,
        "tie_word_embeddings": tied,
    }  # fmt: skip


PUBLISHED: dict[str, tuple[dict[str, object], float]] = {
    "qwen3-0.6b": (dense(1024, 3072, 16, 28, tied=True), 0.6),
    "qwen3-1.7b": (dense(2048, 6144, 16, 28, tied=True), 1.7),
    "qwen3-4b": (dense(2560, 9728, 32, 36, tied=True), 4.0),
    "qwen3-8b": (dense(4096, 12288, 32, 36), 8.2),
    "qwen3-14b": (dense(5120, 17408, 40, 40), 14.8),
    "qwen3-32b": (dense(5120, 25600, 64, 64), 32.8),
    "qwen3-30b-a3b": (QWEN3_30B, 30.5),
    "qwen3-30b-a3b-base": (QWEN3_30B | {"max_position_embeddings": 32768}, 30.5),
    "qwen3-30b-a3b-instruct-2507": (QWEN3_30B | LONG, 30.5),
    "qwen3-30b-a3b-thinking-2507": (QWEN3_30B | LONG, 30.5),
    "qwen3-235b-a22b": (
        QWEN3_MOE
        | {"hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_attention_heads": 64,
           "num_hidden_layers": 94},
        235.1,
    ),
    "llama-3.2-1b": (
        LLAMA3 | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
                  "tie_word_embeddings": True, "rope_scaling": {"factor": 32.0, **LLAMA3_ROPE}},
        1.24,
    ),
    "llama-3.1-8b": (
        LLAMA3 | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                  "tie_word_embeddings": False, "rope_scaling": {"factor": 8.0, **LLAMA3_ROPE}},
        8.03,
    ),
}  # fmt: skip
"""Part -> (its config.json on the Hugging Face hub, parameters in all as its model card has them, in billions)."""
MADE_HERE = {"smollm2-135m", "tiny", "tiny-moe"}
TABLE = [
    ("qwen3-8b", "dp8", 1, 1, 1, 8),
    ("qwen3-30b-a3b-thinking-2507", "tp4-ep4", 4, 4, 2, 16),
    ("qwen3-30b-a3b-thinking-2507", "tp4-ep8", 4, 8, 4, 32),
]
"""The scripts' table "GPU Requirements": model, our layout, TP, EP, nodes, GPUs in all."""
MIXTURES = ("qwen3-30b-a3b", "qwen3-30b-a3b-base", "qwen3-30b-a3b-instruct-2507", "qwen3-235b-a22b", "tiny-moe")


def config_of(*overrides: str) -> RunConfig:
    return load_experiment("tiny", overrides, {}).config


def architecture_of(model: str) -> ArchitectureConfig:
    architecture = config_of(f"model={model}").model.architecture
    assert architecture is not None
    return architecture


def count_parameters(shape: ArchitectureConfig) -> int:
    attention = 2 * shape.hidden_size * shape.kv_channels * (shape.num_attention_heads + shape.num_query_groups)
    norms = 2 * shape.hidden_size + (0 if shape.family == "llama" else 2 * shape.kv_channels)
    experts, router = shape.num_moe_experts or 1, shape.hidden_size * (shape.num_moe_experts or 0)
    mlp = experts * 3 * shape.hidden_size * (shape.moe_ffn_hidden_size or shape.ffn_hidden_size) + router
    embeddings = (1 if shape.tie_word_embeddings else 2) * shape.vocab_size * shape.hidden_size
    return shape.num_layers * (attention + norms + mlp) + embeddings + shape.hidden_size


def test_every_shipped_model_is_held_against_its_published_numbers() -> None:
    assert set(find_library({}).names("models")) >= set(PUBLISHED) | MADE_HERE


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_models_numbers_are_those_of_its_config_json(model: str, tmp_path: Path) -> None:
    published, billions = PUBLISHED[model]
    (tmp_path / "config.json").write_text(json.dumps(published))
    architecture = architecture_of(model)
    assert architecture == read_architecture(tmp_path)
    assert count_parameters(architecture) / 1e9 == pytest.approx(billions, rel=0.02)


def test_a_model_is_found_by_the_name_that_the_scripts_gave_it() -> None:
    for name in ("Qwen3-8B", "Qwen3-30B-A3B", "Qwen3-30B-A3B-Instruct-2507", "Qwen3-30B-A3B-Thinking-2507"):
        config = load_experiment("tiny", (), {"STUDENT_MODEL": name}).config
        assert (config.model.name, config.model.weights) == (name, name)


@pytest.mark.parametrize(("model", "layout", "tensor", "experts", "nodes", "gpus"), TABLE)
def test_every_row_of_the_scripts_table_is_a_layout(
    model: str, layout: str, tensor: int, experts: int, nodes: int, gpus: int
) -> None:
    config = config_of(f"model={model}", f"parallelism={layout}", "cluster=slurm-h100x8", f"cluster.nodes={nodes}")
    assert config.parallelism.tensor_model_parallel_size == tensor
    assert config.parallelism.expert_model_parallel_size == experts
    assert config.cluster.world_size == gpus
    assert config.parallelism.sequence_parallel is (tensor > 1)


@pytest.mark.parametrize("model", MIXTURES)
@pytest.mark.parametrize(("layout", "nodes"), [("ep8", 1), ("tp2-ep4", 1), ("tp4-ep2", 1), ("tp4-ep4", 2),
                                               ("tp4-ep8", 4)])  # fmt: skip
def test_the_mixtures_of_experts_fit_the_layouts_made_for_them(model: str, layout: str, nodes: int) -> None:
    overrides = (f"model={model}", f"parallelism={layout}", "cluster=slurm-venv", f"cluster.nodes={nodes}",
                 "train.micro_batch_size=1")  # fmt: skip
    found = [problem.what for problem in check_experiment("tiny", overrides, {})[1]]
    assert [what for what in found if not what.startswith("there are no weights")] == []


def test_the_30b_experiments_follow_the_scripts_settings() -> None:
    config = load_experiment("qwen3-30b-a3b-slurm", (), {}).config
    assert config.run_name.startswith("Qwen3-30B-A3B-Thinking-2507-Teacher-Qwen3-30B-A3B-Thinking-2507")
    assert (config.parallelism.name, config.cluster.nodes, config.cluster.world_size) == ("tp4-ep8", 4, 32)
    local = load_experiment("qwen3-30b-a3b", (), {}).config
    assert (local.train, local.cluster.gpu) == (
        config.train.model_copy(update={"exit_duration_minutes": 230.0}),
        "h200",
    )
    assert (config.train.micro_batch_size, config.train.global_batch_size) == (1, 256)
    assert (config.train.learning_rate, config.train.sequence_length, config.train.recompute) == (1e-6, 4096, "full")
