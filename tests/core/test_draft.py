from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from qad_core.config.checks import check_experiment
from qad_core.config.load import load_experiment
from qad_core.config.problem_keys import keys_of_problem
from qad_core.launch.detached import start_detached, wait_for_status
from qad_core.launch.draft import examine_draft
from qad_core.launch.run_local import write_folder
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job
from qad_core.run.metrics import MetricsWriter

NO_VARIABLES: dict[str, str] = {}
SLURM = "cluster=slurm-cpu-2-nodes"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.learning_rate=abc", "train.learning_rate"),
        ("train.learning_rate=[1", "train.learning_rate"),
        ("train.seed=true", "train.seed"),
        ("learning_rate=abc", "train.learning_rate"),
        ("quantization.format=nvfp5", "quantization.format"),
        ("model=tinny", "model"),
        ("cluster.slurm.time_limit=x", "cluster.slurm.time_limit"),
        ("train.global_batch_size=7", "train.global_batch_size"),
        ("parallelism.tensor_model_parallel_size=3", "parallelism.tensor_model_parallel_size"),
        ("train.iterations_to_skip=3-1", "train.iterations_to_skip"),
        ("tag=hf_" + "Zq8" * 11, "tag"),
    ],
)
def test_each_problem_is_told_with_the_field_it_is_about(override: str, key: str) -> None:
    _, problems = check_experiment("tiny", [override], NO_VARIABLES)
    assert problems and any(key in keys_of_problem(problem) for problem in problems), problems


def test_a_variable_of_the_environment_that_is_wrong_is_told_beside_its_field() -> None:
    _, problems = check_experiment("tiny", [], {"LR": "[1"})
    assert [keys_of_problem(problem) for problem in problems] == [("train.learning_rate",)]


def test_a_draft_has_the_values_before_its_changes_with_where_they_come_from() -> None:
    draft = examine_draft("tiny", ["parallelism=tp2", "train.learning_rate=oops"], {"GBS": "16"})
    assert draft.parts == {"model": "tiny", "dataset": "made-text", "parallelism": "tp2", "cluster": "local"}
    shown = {key: (value.text, value.origin) for key, value in draft.values.items()}
    assert shown["train.learning_rate"] == ("0.0003", "file configs/experiments/tiny.yaml")
    assert shown["parallelism.tensor_model_parallel_size"] == ("2", "file configs/parallelism/tp2.yaml")
    assert shown["train.global_batch_size"] == ("16", "environment GBS")
    assert shown["train.seed"] == ("1234", "default")


def test_a_draft_without_a_model_still_shows_what_is_known() -> None:
    draft = examine_draft("blank", ["dataset=made-text"], NO_VARIABLES)
    assert draft.config is None and draft.numbers is None
    assert [item.keys for item in draft.problems] == [("model",)]
    assert draft.values["dataset.valid_fraction"].text == "0.05"


def test_a_broken_part_is_named() -> None:
    Path("configs/models").mkdir(parents=True)
    Path("configs/models/broken.yaml").write_text("name: [\n")
    draft = examine_draft("tiny", ["model=broken"], NO_VARIABLES)
    broken = next(item for item in draft.problems if "is not YAML" in item.problem.what)
    assert "configs/models/broken.yaml" in broken.problem.what and broken.keys == ("model",)


def test_an_experiment_that_is_gone_is_a_problem_and_no_error() -> None:
    draft = examine_draft("configs/experiments/gone.yaml", [], NO_VARIABLES)
    assert "there is no experiment file" in draft.problems[0].problem.what


def test_the_script_of_a_slurm_run_and_the_commands_of_a_local_one_are_shown() -> None:
    slurm = examine_draft("tiny", [SLURM], NO_VARIABLES)
    assert slurm.script.startswith("#!/bin/bash\n") and "#SBATCH --nodes=2\n" in slurm.script
    assert slurm.numbers is not None and slurm.numbers.gpus == 0 and slurm.numbers.ranks == 2
    local = examine_draft("tiny", [], NO_VARIABLES)
    assert "-m qad_core.train " in local.script and "-m qad_core.data prepare" in local.script


def test_gpu_hours_follow_from_gpus_and_walltime() -> None:
    numbers = examine_draft("qwen3-8b-slurm", ["cluster.nodes=2"], NO_VARIABLES).numbers
    assert numbers is not None
    assert numbers.gpus == 16 and numbers.gpu_hours(1) == 64 and numbers.gpu_hours(3) == 192
    assert numbers.iterations == 1171 and numbers.tokens == 1171 * 256 * 4096


def test_links_are_estimated_by_the_pace_of_a_run_like_it() -> None:
    like = make_timed_run(seconds_per_iteration=60)
    numbers = examine_draft("tiny", [SLURM, "tag=other"], NO_VARIABLES, like=like.path).numbers
    assert numbers is not None and numbers.estimate is not None
    assert numbers.pace_of == like.name and numbers.seconds_per_iteration == pytest.approx(60)
    assert numbers.estimate.iterations_left == 40 and numbers.estimate.links == 2
    wider = examine_draft("tiny", [SLURM, "tag=other", "train.sequence_length=128"], NO_VARIABLES, like=like.path)
    assert wider.numbers is not None and wider.numbers.estimate is None  # its steps take another time


def test_a_run_that_is_there_is_gone_on_with_unless_it_is_to_be_fresh() -> None:
    folder = make_timed_run(seconds_per_iteration=1)
    folder.tracker("tiny").write_text("20")
    numbers = examine_draft("tiny", [SLURM], NO_VARIABLES).numbers
    assert numbers is not None and numbers.folder_is_there and numbers.checkpoint_step == 20
    other = examine_draft("tiny", [SLURM, "train.train_samples=640"], NO_VARIABLES)
    assert any("belongs to another run" in item.problem.what for item in other.problems)
    assert not examine_draft("tiny", [SLURM, "train.train_samples=640"], NO_VARIABLES, fresh=True).problems


def test_a_start_that_ends_at_once_says_why_and_where(working_directory: Path) -> None:
    folder = working_directory / "runs" / "nothing"
    start = start_detached(["train", "no-such-experiment"], folder)
    said = wait_for_status(start, folder, 60)
    assert said is not None and "'no-such-experiment' is not one of configs/experiments" in said
    assert start.log.parent == working_directory / "runs" / "logs_local" and not folder.exists()


def make_timed_run(*, seconds_per_iteration: float) -> RunFolder:
    """A run on SLURM with ten timed steps."""
    resolved = load_experiment("tiny", [SLURM], NO_VARIABLES)
    folder = RunFolder(resolved.config.paths.checkpoint_root / resolved.config.run_name)
    shutil.rmtree(folder.path, ignore_errors=True)
    write_folder(folder, resolved)
    began = time.time() - 1000
    append_job(folder.jobs, Job(id="a", kind="slurm", started=began))
    writer = MetricsWriter(folder.metrics)
    for step in range(1, 11):
        writer.write({"step": step, "time": began + step * seconds_per_iteration, "loss/kd": 1.0})
    return folder
