from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from qad_core.config.catalog import BLANK
from qad_core.config.checks import check_config, check_experiment
from qad_core.config.library import EXPERIMENTS, find_library
from qad_core.config.load import load_experiment
from qad_core.run.folder import RunFolder
from qad_core.run.identity import write_identity

QWEN = {
    "architectures": ["Qwen3ForCausalLM"], "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512,
    "max_position_embeddings": 2048, "rope_theta": 10000.0,
}  # fmt: skip


@dataclass(frozen=True)
class Wrong:
    """Overrides of configs/experiments/tiny.yaml that break one promise."""

    overrides: str
    named: str
    """In the problem's text."""
    where: str
    """A key in the problem's place."""
    others: int = 0
    """Further problems that the same overrides cannot help."""


MODEL, LAYOUT, TRAIN = "model.architecture", "parallelism", "train"
TABLE = [
    Wrong("parallelism=tp2", "1 rank cannot be shared by replicas of TP 2", "cluster.processes_per_node"),
    Wrong("parallelism=tp2 cluster.processes_per_node=3", "3 ranks", "cluster.nodes"),
    Wrong("train.micro_batch_size=3", "global_batch_size 8 is no multiple", "train.global_batch_size"),
    Wrong("micro_batch_size=4 cluster=local-4-ranks", "4 x 4 replicas = 16", "train.global_batch_size"),
    Wrong("parallelism.sequence_parallel=true", "with TP 1", f"{LAYOUT}.sequence_parallel"),
    Wrong(
        "parallelism=tp2 cluster=local-2-ranks parallelism.sequence_parallel=true train.sequence_length=63",
        "sequence_length 63 is no multiple of TP 2",
        "train.sequence_length",
    ),
    Wrong(
        "parallelism.context_parallel_size=2 cluster=local-2-ranks",
        "not supported",
        f"{LAYOUT}.context_parallel_size",
    ),
    Wrong("parallelism.expert_model_parallel_size=2", "dense", f"{LAYOUT}.expert_model_parallel_size"),
    Wrong("model=tiny-moe parallelism=ep8", "EP 8 cannot be made of 1 rank:", "cluster.processes_per_node"),
    Wrong("model=tiny-moe cluster=local-4-ranks parallelism.expert_model_parallel_size=3",
          "num_moe_experts 16 cannot be shared by EP 3", f"{MODEL}.num_moe_experts", others=1),
    Wrong("model=tiny-moe cluster=local-2-ranks parallelism=tp2", "experts with TP 2 need sequence_parallel",
          f"{LAYOUT}.sequence_parallel"),
    Wrong("model=tiny-moe cluster=local-2-ranks parallelism=tp2 parallelism.sequence_parallel=true"
          " model.architecture.moe_ffn_hidden_size=33", "moe_ffn_hidden_size 33 cannot be shared by TP 2",
          f"{MODEL}.moe_ffn_hidden_size"),
    Wrong("model=tiny-moe model.architecture.moe_ffn_hidden_size=72", "linear_fc2, 72 wide", "moe_ffn_hidden_size"),
    Wrong("model=tiny-moe model.architecture.moe_router_topk=17", "more than num_moe_experts 16", "moe_router_topk"),
    Wrong("model=tiny-moe model.architecture.moe_router_topk=null", "lacks moe_router_topk", MODEL),
    Wrong("model.architecture.num_moe_experts=4", "family qwen3 has no experts", f"{MODEL}.family"),
    Wrong("model=tiny-moe model.teacher_weights=qwen cluster=local-2-ranks parallelism.expert_model_parallel_size=2",
          "but the teacher is dense", f"{LAYOUT}.expert_model_parallel_size"),
    Wrong("parallelism.virtual_pipeline_model_parallel_size=2", "virtual_pipeline_model_parallel_size", "command line"),
    Wrong("parallelism.tensor_model_parallel_size=4 cluster=local-4-ranks", "num_query_groups 2", f"{MODEL}.num_query"),
    Wrong(
        "parallelism.tensor_model_parallel_size=8 cluster=h100x8", "num_attention_heads 4", f"{MODEL}.num_att", others=1
    ),
    Wrong("parallelism=tp2 cluster=local-2-ranks model.architecture.vocab_size=513", "vocab_size 513", "vocab_size"),
    Wrong("parallelism=pp2 cluster=local-2-ranks train.micro_batch_size=4 model.architecture.num_layers=3",
          "num_layers 3 cannot be shared by PP 2", f"{MODEL}.num_layers"),
    Wrong("model.architecture.num_query_groups=3", "4 query heads cannot be shared by 3", f"{MODEL}.num_query_groups"),
    Wrong("model.architecture.kv_channels=34", "NVFP4: the input of linear_proj, 136", "quantization.format"),
    Wrong("model.architecture.kv_channels=33 quantization.format=none", "is odd", f"{MODEL}.kv_channels"),
    Wrong("model.architecture.hidden_size=136", "linear_qkv and linear_fc1, 136 wide", f"{MODEL}.hidden_size"),
    Wrong("parallelism=tp2 cluster=local-2-ranks model.architecture.ffn_hidden_size=272",
          "linear_fc2, 272 / TP 2 = 136 wide", "parallelism.tensor_model_parallel_size"),
    Wrong("parallelism=tp2 cluster=local-2-ranks model.architecture.kv_channels=12",
          "linear_proj, 48 / TP 2 = 24 wide", "parallelism.tensor_model_parallel_size"),
    Wrong("train.train_samples=7", "less than one global batch of 8", "train.train_samples"),
    Wrong("train.exit_iteration=41", "beyond the last iteration, 40", "train.exit_iteration"),
    Wrong("train.iterations_to_skip=3,41", "names 41, beyond", "train.iterations_to_skip"),
    Wrong("train.warmup_fraction=0.6 train.decay_fraction=0.5", "not below decay_fraction", "train.warmup_fraction"),
    Wrong("train.min_learning_rate=1", "above learning_rate", "train.min_learning_rate"),
    Wrong("train.adam_beta2=1", "never moves", "train.adam_beta2"),
    Wrong("train.sequence_length=2049", "longer than the model's 2048", "train.sequence_length"),
    Wrong("distillation.top_k=512", "leaves none of the model's 512 tokens out", "distillation.top_k"),
    Wrong("model.architecture.vocab_size=256", "less than the 257 tokens", "model.architecture.vocab_size"),
    Wrong("dataset.valid_fraction=0", "holds nothing out", "dataset.valid_fraction"),
    Wrong("dataset.valid_fraction=0.6 dataset.test_fraction=0.4", "leave none to train on", "dataset.test_fraction"),
    Wrong("tag=a/b", "cannot be part of a folder's name", "tag"),
    Wrong("model.teacher_name=Big", "its weights are the student's", "model.teacher_weights"),
    Wrong("model.weights=nowhere", "no weights at", "model.weights"),
    Wrong("model.weights=package://no_such_package/a.gguf", "not installed", "model.weights"),
    Wrong("model.weights=package://json", "names no file of a package", "model.weights"),
    Wrong("model.weights=not.gguf", "is not a GGUF file", "model.weights"),
    Wrong("model.weights=empty", "lacks config.json and *.safetensors", "model.weights"),
    Wrong("model.weights=gpt2", "architecture GPT2LMHeadModel", "model.weights"),
    Wrong("model.weights=qwen model.architecture.num_layers=2", "num_layers is 2 in the config, but 4", "num_layers"),
    Wrong("model.teacher_weights=qwen-big", "teacher's vocab_size is 1024, the student's 512", "model.teacher_weights"),
    Wrong("model.teacher_weights=qwen-deep parallelism=pp2 cluster=local-2-ranks train.micro_batch_size=4",
          "the teacher's num_layers 5 cannot be shared by PP 2", "model.teacher_weights"),
    Wrong("model.teacher_weights=nowhere", "no weights at", "model.teacher_weights"),
    Wrong("model.architecture=null", "no config.json to read the shape from", "model.architecture"),
    Wrong("model.tokenizer=null", "no tokenizer beside them", "model.tokenizer"),
    Wrong("model.tokenizer=nowhere", "no tokenizer at", "model.tokenizer"),
    Wrong("model.tokenizer=not.gguf", "not a GGUF file", "model.tokenizer"),
    Wrong("model.tokenizer=empty", "holds no tokenizer", "model.tokenizer"),
    Wrong("dataset.source=null", "neither blend nor source", "dataset.source"),
    Wrong("dataset.source.kind=text", "has no paths", "dataset.source.paths"),
    Wrong("dataset.source.kind=text dataset.source.paths=nowhere", "no text source at", "dataset.source.paths"),
    Wrong("dataset.source.paths=nowhere", "not read by the source made", "dataset.source.paths"),
    Wrong("quantization.format=none weight_scales=mse", "weight_scales mse does nothing", "quantization.weight_scales"),
    Wrong("calibration_sequences=321", "calibration takes 322 sequences", "quantization.calibration_sequences"),
    Wrong("model.name=..", "model.name '..' cannot be part", "model.name"),
    Wrong(f"tag={'x' * 200}", "bytes, more than 200", "tag"),
    Wrong("paths.checkpoint_root=~nobody-here/runs", "home folder that is not known", "paths"),
    Wrong("dataset.blend=nowhere.json", "nowhere.json cannot be read", "dataset.blend"),
    Wrong("dataset.blend=models/not.gguf", "is not JSON", "dataset.blend"),
    Wrong("dataset.blend=blend.json", "b_text_document.idx", "dataset.blend"),
    Wrong("paths.checkpoint_root=blend.json/runs", "is a file", "paths.checkpoint_root"),
    Wrong("paths.data_cache=blend.json/cache", "is a file", "paths.data_cache"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with models of several kinds of wrongness."""
    monkeypatch.chdir(tmp_path)
    make_folder("qwen", QWEN)
    make_folder("qwen-big", QWEN | {"vocab_size": 1024})
    make_folder("qwen-deep", QWEN | {"num_hidden_layers": 5})
    make_folder("gpt2", QWEN | {"architectures": ["GPT2LMHeadModel"]})
    Path("models/empty").mkdir()
    Path("models/not.gguf").write_bytes(b"something else")
    Path("blend.json").write_text(json.dumps({"train": [1.0, "a"], "valid": "1.0 b_text_document", "test": []}))
    for name in ("a.bin", "a.idx", "b_text_document.bin"):
        Path(name).touch()
    return tmp_path


def make_folder(name: str, config: Mapping[str, object]) -> Path:
    folder = Path("models", name)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for file in ("model.safetensors", "tokenizer.json"):
        (folder / file).touch()
    return folder


def problems_of(*overrides: str) -> list[tuple[str, str, str]]:
    _, problems = check_experiment("tiny", overrides, {})
    return [(problem.what, problem.where, problem.hint) for problem in problems]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.overrides)
def test_each_mistake_is_found_and_named(wrong: Wrong) -> None:
    found = problems_of(*wrong.overrides.split())
    ((_, where, hint),) = [item for item in found if wrong.named in item[0]]
    assert wrong.where in where
    assert hint
    assert len(found) == 1 + wrong.others, found


@pytest.mark.usefixtures("place")
def test_unrelated_mistakes_are_all_found_at_once() -> None:
    found = problems_of("train.seeed=1", "train.clip_grad=x", "train.micro_batch_size=3", "model.weights=nowhere")
    assert len(found) == 4


@pytest.mark.usefixtures("place")
def test_nothing_is_said_that_only_follows_from_a_refused_value() -> None:
    ((what, _, _),) = problems_of("train.train_samples=many")  # the default would be far more than 40 steps
    assert "'many'" in what
    ((what, _, _),) = problems_of("train.global_batch_size=many")  # the default, 256, is less than the samples
    assert "'many'" in what


@pytest.mark.usefixtures("place")
def test_a_problem_says_where_each_value_came_from() -> None:
    (problem,) = check_experiment("tiny", ("train.micro_batch_size=3",), {"GBS": "10"})[1]
    assert "train.global_batch_size (environment GBS), train.micro_batch_size (command line)" in problem.where


@pytest.mark.usefixtures("place")
def test_a_folder_without_write_permission_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write anywhere, so the answer of the system is stood in for.
    real: Callable[..., bool] = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: False if Path(path).name == "locked" else real(path, mode))
    Path("locked").mkdir()
    ((what, where, _),) = problems_of("paths.checkpoint_root=locked/runs")
    assert "no permission" in what
    assert where == "paths.checkpoint_root (command line)"


@pytest.mark.usefixtures("place")
def test_a_whole_folder_of_a_known_model_has_no_problem() -> None:
    assert problems_of("model.weights=qwen", "model.tokenizer=null", "model.architecture=null") == []


@pytest.mark.usefixtures("place")
def test_a_folder_of_another_run_is_refused_with_the_keys() -> None:
    first = load_experiment("tiny", ("train.seed=1",), {}).config
    folder = RunFolder(first.paths.checkpoint_root / first.run_name)
    folder.path.mkdir(parents=True)
    write_identity(folder, first)
    assert problems_of("train.seed=1", "train.micro_batch_size=4", "train.exit_iteration=3") == []
    ((what, where, hint),) = problems_of("train.seed=2")
    assert "belongs to another run: train.seed is 1 there, 2 here" in what
    assert where == "train.seed (command line)"
    assert "--fresh" in hint
    assert problems_of("train.seed=2", "tag=second") == []
    assert check_experiment("tiny", ("train.seed=2",), {}, fresh=True)[1] == []


@pytest.mark.usefixtures("place")
def test_checkpoints_of_nobody_known_are_refused() -> None:
    config = load_experiment("tiny", (), {}).config
    folder = RunFolder(config.paths.checkpoint_root / config.run_name)
    (folder.checkpoints("tiny") / "iter_0000200").mkdir(parents=True)
    ((what, _, _),) = problems_of()
    assert "checkpoints but no run.json" in what
    folder.identity.write_text("{}")
    ((what, _, _),) = problems_of()
    assert "no fingerprint" in what


def test_every_shipped_experiment_loads_and_the_two_whose_files_are_here_pass(tmp_path: Path) -> None:
    names = find_library({}).names(EXPERIMENTS)
    assert {"tiny", "demo"} <= set(names)
    for name in names:
        # It names none; a GPU, because the machine that tests may have too little memory of its own.
        blank = ("model=qwen3-1.7b", "dataset=python-stdlib", "cluster.device=cuda", "cluster.gpu=h100")
        parts = blank if name == BLANK else ()
        config = load_experiment(name, (*parts, f"paths.checkpoint_root={tmp_path}"), {}).config
        found = [problem for problem in check_config(config) if not problem.what.startswith("there ")]
        assert found == [], name  # but for files that are not here
        if name in ("tiny", "demo"):
            assert check_config(config) == []


@pytest.mark.parametrize("layout", ["dp2 local-2-ranks", "tp2 local-2-ranks", "pp2 local-2-ranks",
                                    "tp2-pp2 local-4-ranks"])  # fmt: skip
@pytest.mark.usefixtures("place")
def test_tiny_fits_every_small_layout(layout: str) -> None:
    parallelism, cluster = layout.split()
    assert problems_of(f"parallelism={parallelism}", f"cluster={cluster}", "train.micro_batch_size=4") == []


@pytest.mark.usefixtures("place")
def test_the_dense_models_fit_every_layout_of_eight_gpus() -> None:
    for model in ("qwen3-0.6b", "qwen3-1.7b", "qwen3-8b", "qwen3-14b", "qwen3-32b", "llama-3.2-1b", "llama-3.1-8b"):
        for layout in ("dp8", "tp2-dp4", "tp4-dp2", "tp8"):
            found = problems_of(f"model={model}", f"parallelism={layout}", "cluster=h100x8", "train.micro_batch_size=1")
            others = [what for what, _, _ in found if "no weights" not in what and "GiB (predicted" not in what]
            assert others == [], (model, layout)
