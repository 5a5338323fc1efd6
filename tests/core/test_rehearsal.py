"""A run shrunken for a rehearsal has the same structure over the same ranks, and nothing that `check` would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qad_core.config.architecture import teacher_architecture
from qad_core.config.checks import check_values
from qad_core.config.load import load_experiment, read_resolved
from qad_core.config.rehearsal import STEPS, STOP_STEP, Rehearsal, shrink_run, shrink_shape
from qad_core.config.schema import ArchitectureConfig, ParallelismConfig, RunConfig
from qad_core.launch.rehearsal import write_folder
from tests.train.tiny_run import REPOSITORY

SHARED = ("num_layers", "num_attention_heads", "num_query_groups", "ffn_hidden_size")
FOLDER = Path("/rehearsal")
SIZES = (*SHARED, "hidden_size", "kv_channels", "num_moe_experts", "moe_router_topk", "moe_ffn_hidden_size")


@pytest.fixture(autouse=True)
def shipped_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAD_CONFIGS", str(REPOSITORY / "configs"))


def config_of(experiment: str, *overrides: str) -> RunConfig:
    return load_experiment(experiment, overrides, {"QAD_CONFIGS": str(REPOSITORY / "configs")}).config


def shrunken(config: RunConfig, folder: Path = FOLDER) -> Rehearsal:
    student, teacher = config.model.architecture, teacher_architecture(config)
    assert student is not None and teacher is not None
    return shrink_run(config, student, teacher, folder)


@pytest.mark.parametrize("experiment", ["tiny", "qwen3-8b", "qwen3-8b-slurm", "qwen3-30b-a3b", "qwen3-30b-a3b-slurm"])
def test_a_shipped_experiment_keeps_its_ranks_layout_and_recipe(experiment: str) -> None:
    config = config_of(experiment)
    small = shrunken(config).config
    assert check_values(small) == []
    assert small.cluster.world_size == config.cluster.world_size
    assert small.data_parallel_size == config.data_parallel_size
    assert (small.cluster.kind, small.cluster.nodes, small.cluster.device) == ("local", 1, "cpu")
    for kept in ("parallelism", "loss"):
        assert getattr(small, kept) == getattr(config, kept)
    assert small.train.recompute == config.train.recompute
    assert small.quantization.model_copy(update={"calibration_sequences": 1}) == config.quantization.model_copy(
        update={"calibration_sequences": 1}
    )
    assert small.train.train_iterations == STEPS > STOP_STEP
    assert small.num_micro_batches == min(config.num_micro_batches, 2)


@given(
    tensor=st.sampled_from([1, 2, 3, 4, 8]),
    stages=st.sampled_from([1, 2, 4]),
    expert_ranks=st.sampled_from([1, 2, 3, 8]),
    shares=st.tuples(*[st.integers(1, 9)] * 6),
    chosen=st.integers(1, 12),
    is_mixture=st.booleans(),
    micro=st.integers(1, 5),
    passes=st.integers(1, 6),
    top_k=st.sampled_from([0, 1, 40, 700]),
)
@settings(max_examples=150, deadline=None)
def test_any_run_without_a_problem_stays_without_one_and_keeps_what_ranks_share(
    tensor: int,
    stages: int,
    expert_ranks: int,
    shares: tuple[int, ...],
    chosen: int,
    is_mixture: bool,
    micro: int,
    passes: int,
    top_k: int,
) -> None:
    layers, groups, queries, ffn, hidden, experts = shares
    assume(not is_mixture or chosen <= experts * expert_ranks)
    mixture = {
        "family": "qwen3_moe", "num_moe_experts": experts * expert_ranks, "moe_router_topk": chosen,
        "moe_ffn_hidden_size": 16 * tensor * ffn,
    }  # fmt: skip
    shape = ArchitectureConfig.model_validate(
        {
            "family": "qwen3", "num_layers": stages * layers, "hidden_size": 16 * hidden,
            "ffn_hidden_size": 16 * tensor * ffn, "num_attention_heads": tensor * groups * queries,
            "num_query_groups": tensor * groups, "kv_channels": 64, "vocab_size": 704 * tensor,
            **(mixture if is_mixture else {}),
        }
    )  # fmt: skip
    layout = ParallelismConfig(
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=stages,
        expert_model_parallel_size=expert_ranks if is_mixture else 1,
        sequence_parallel=tensor > 1,
    )
    replicas = 2 * layout.expert_model_parallel_size
    config = config_of("tiny", f"cluster.processes_per_node={tensor * stages * replicas}")
    config = config.model_copy(
        update={
            "model": config.model.model_copy(update={"architecture": shape}),
            "parallelism": layout,
            "distillation": config.distillation.model_copy(update={"top_k": top_k, "chunk_tokens": 30}),
            "train": config.train.model_copy(
                update={
                    "micro_batch_size": micro, "global_batch_size": micro * replicas * passes,
                    "train_samples": micro * replicas * passes * 10, "sequence_length": 24 * tensor,
                }
            ),
        }
    )  # fmt: skip
    assume(not check_values(config))
    rehearsal = shrunken(config)
    assert check_values(rehearsal.config) == []
    assert rehearsal.teacher is None
    small = rehearsal.config.model.architecture
    assert small is not None
    for name, ranks in zip(SHARED, (stages, tensor, tensor, tensor), strict=True):
        assert getattr(small, name) % ranks == 0
        assert min(getattr(small, name), 2 * ranks) <= getattr(shape, name)
    is_grouped = shape.num_attention_heads > shape.num_query_groups
    assert (small.num_attention_heads > small.num_query_groups) == is_grouped
    if is_mixture:
        assert (small.num_moe_experts or 0) % expert_ranks == 0
        assert (small.moe_router_topk == small.num_moe_experts) == (shape.moe_router_topk == shape.num_moe_experts)
    assert rehearsal.config.num_micro_batches == min(passes, stages + 1)


@pytest.mark.parametrize("teacher", ["qwen3-32b", "qwen3-0.6b", "qwen3-14b", "qwen3-8b"])
def test_a_size_that_differs_from_the_teachers_goes_on_doing_so_in_the_same_direction(teacher: str) -> None:
    ours, theirs = (config_of("qwen3-8b", f"model={name}").model.architecture for name in ("qwen3-8b", teacher))
    assert ours is not None and theirs is not None
    layout = ParallelismConfig(tensor_model_parallel_size=2, pipeline_model_parallel_size=2)
    small, small_teacher = shrink_shape(ours, theirs, layout), shrink_shape(theirs, ours, layout)
    for name in ("num_layers", "hidden_size", "ffn_hidden_size"):
        before, after = getattr(ours, name) - getattr(theirs, name), getattr(small, name) - getattr(small_teacher, name)
        assert (before > 0, before < 0) == (after > 0, after < 0)
    assert (small == small_teacher) == (ours == theirs)


def test_a_teacher_of_another_size_is_written_in_its_own_file_and_read_back(tmp_path: Path) -> None:
    larger = tmp_path / "larger.yaml"
    larger.write_text("num_layers: 8\nhidden_size: 256\nrotary_base: 5000.0\n")
    rehearsal = shrunken(config_of("tiny", f"model.teacher_config={larger}"), tmp_path / "rehearsal")
    run = write_folder(rehearsal, tmp_path / "rehearsal")
    written = read_resolved(run.config).config
    assert written == rehearsal.config
    assert teacher_architecture(written) == rehearsal.teacher
    assert rehearsal.teacher is not None and rehearsal.teacher.rotary_base == 5000
    assert rehearsal.teacher.hidden_size > (written.model.architecture or rehearsal.teacher).hidden_size


SCALED = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}
MIXTURE = {
    "family": "qwen3_moe", "num_moe_experts": 8, "moe_router_topk": 2, "moe_ffn_hidden_size": 64,
    "moe_normalize_topk": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"family": "llama", "rope_scaling": SCALED}, {"family": "llama", "rope_scaling": SCALED | {"factor": 8.0}}),
        ({"family": "llama"}, {"family": "llama", "rope_scaling": SCALED, "tie_word_embeddings": True}),
        ({}, MIXTURE),
        (MIXTURE, {}),
        ({"family": "llama"}, {}),
        (MIXTURE, MIXTURE | {"moe_normalize_topk": True}),
    ],
    ids=["other scaling", "scaling", "mixture teaches dense", "dense teaches mixture", "family", "normalization"],
)
def test_a_teacher_of_another_family_or_rotary_scaling_is_rehearsed(
    ours: dict[str, object], theirs: dict[str, object], tmp_path: Path
) -> None:
    config = config_of("tiny")
    assert config.model.architecture is not None
    dense = config.model.architecture
    student, teacher = dense.model_copy(update=ours), dense.model_copy(update=theirs | {"num_layers": 8})
    rehearsal = shrink_run(config, student, teacher, tmp_path / "rehearsal")
    written = read_resolved(write_folder(rehearsal, tmp_path / "rehearsal").config).config
    assert check_values(written) == []
    read = teacher_architecture(written)
    assert read is not None and read == rehearsal.teacher
    assert (read.family, read.moe_normalize_topk) == (teacher.family, teacher.moe_normalize_topk)
    assert read.rope_scaling == student.rope_scaling


def test_compared_layers_stay_as_near_to_the_end() -> None:
    pairs = '[["decoder.layers.35","decoder.layers.35","mse"],["decoder.layers.20","decoder.layers.25"]]'
    small = shrunken(config_of("qwen3-8b", f"distillation.intermediate_layers={pairs}")).config
    assert small.distillation.intermediate_layers == (
        ("decoder.layers.1", "decoder.layers.1", "mse"),
        ("decoder.layers.0", "decoder.layers.0"),
    )
    assert check_values(small) == []


def test_answers_alone_are_asked_of_made_chats(tmp_path: Path) -> None:
    config = config_of("tiny", "dataset=local-jsonl", "dataset.answer_loss_only=true")
    folder = tmp_path / "rehearsal"
    rehearsal = shrunken(config, folder)
    write_folder(rehearsal, folder)
    source = rehearsal.config.dataset.source
    assert source is not None and Path(source.paths[0]).is_file()


def test_nothing_of_the_runs_own_is_written_or_needed() -> None:
    config = config_of("qwen3-8b", "train.iterations_to_skip=[5]", "train.exit_iteration=7", "tag=mine")
    small = shrunken(config).config
    assert (small.train.iterations_to_skip, small.train.exit_iteration) == ((), None)
    assert (small.model.weights, small.model.tokenizer, small.dataset.blend) == ("random", "bytes", None)
    assert all(FOLDER in path.parents or path == FOLDER for path in dict(small.paths).values())
