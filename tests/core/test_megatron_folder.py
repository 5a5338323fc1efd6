"""A Megatron checkpoint is known as weights by its folder; what is missing of it is named with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qad_core.config.architecture import student_architecture
from qad_core.config.checks import check_config
from qad_core.config.load import load_experiment
from qad_core.config.megatron_folder import find_iteration
from qad_core.config.paths import resolve_tokenizer
from qad_core.config.problems import Problem
from qad_core.errors import ConfigError
from qad_core.run.folder import TRACKER_NAME, iteration_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Iterations 100 and 200 of a model, of which the tracker names the second."""
    for number in (100, 200):
        make_iteration(iteration_folder(tmp_path / "model", number))
    (tmp_path / "model" / TRACKER_NAME).write_text("200\n")
    return tmp_path / "model"


def make_iteration(folder: Path) -> None:
    """What can be seen of a checkpoint from outside."""
    (folder / "modelopt_state").mkdir(parents=True)
    for name in (".metadata", "metadata.json"):
        (folder / name).touch()


def test_the_tracker_says_which_iteration_counts_and_a_folder_may_be_named_itself(folder: Path) -> None:
    saved = find_iteration(folder)
    assert saved is not None and (saved.folder.name, saved.iteration) == ("iter_0000200", 200)
    saved = find_iteration(folder / "iter_0000100")
    assert saved is not None and saved.iteration == 100
    make_iteration(folder / "release")
    (folder / TRACKER_NAME).write_text("release")
    saved = find_iteration(folder)
    assert saved is not None and (saved.folder.name, saved.is_trained) == ("release", False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / TRACKER_NAME).write_text("300"),
            "lacks iter_0000300, .*; there: iter_0000100, iter_",
        ),
        (lambda folder: (folder / TRACKER_NAME).write_text("newest"), "says 'newest', which is no iteration"),
        (lambda folder: (folder / TRACKER_NAME).unlink(), r"holds iter_0000100, iter_0000200, but no latest_\w+\.txt"),
        (lambda folder: (folder / "iter_0000200/.metadata").unlink(), r"lacks \.metadata\n .*--ckpt-format torch_dist"),
    ],
    ids=["missing", "no iteration", "no tracker", "cut off"],
)
def test_a_folder_without_its_iteration_says_what_to_do(
    change: Callable[[Path], object], said: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(ConfigError, match=said):
        find_iteration(folder)
    (problem,) = problems_of(folder, "model.weights")
    assert problem.where == "model.weights" and problem.hint


def test_other_folders_are_no_checkpoints(tmp_path: Path) -> None:
    assert find_iteration(tmp_path) is None
    assert find_iteration(tmp_path / "nowhere") is None


def test_a_checkpoint_is_taken_as_weights_and_its_manifest_says_the_shape(folder: Path) -> None:
    assert problems_of(folder, "model.weights", "model.teacher_weights=random") == []
    tiny = load_experiment("tiny", [], {}).config.model.architecture
    assert tiny is not None
    saved = {"step": 200, "architecture": tiny.model_dump(mode="json") | {"num_layers": 7}, "files": {}}
    (folder / "iter_0000200" / "checkpoint.json").write_text(json.dumps(saved))
    config = load_experiment("blank", ["dataset=made-text", "model.name=a", f"model.weights={folder}"], {}).config
    read = student_architecture(config)
    assert read is not None and read.num_layers == 7
    problems = problems_of(folder, "num_layers", "model.teacher_weights=random")
    assert any("7 in" in problem.what and "checkpoint.json" in problem.what for problem in problems)


def test_a_trained_student_is_refused_as_a_teacher_and_one_before_any_step_is_not(folder: Path) -> None:
    (problem,) = problems_of(folder, "student after 200 steps")
    assert problem.where == "model.teacher_weights"
    (folder / "iter_0000001").mkdir()
    make_iteration(folder / "release")
    (folder / TRACKER_NAME).write_text("release")
    assert problems_of(folder, "student after") == []


def test_an_import_of_a_trained_student_is_refused_as_a_teacher_too(folder: Path) -> None:
    make_iteration(folder / "release")
    (folder / TRACKER_NAME).write_text("release")
    (folder / "release" / "checkpoint.json").write_text('{"step": 200}')
    assert [problem.where for problem in problems_of(folder, "student after 200 steps")] == ["model.teacher_weights"]
    (folder / "release" / "checkpoint.json").write_text('{"step": "many"}')
    with pytest.raises(ConfigError, match=r"checkpoint\.json does not say after how many steps"):
        find_iteration(folder)


def test_a_tokenizer_is_found_beside_an_iteration_that_is_named_itself(folder: Path) -> None:
    (folder / "tokenizer.json").touch()
    for weights in (folder, folder / "iter_0000100"):
        config = load_experiment("tiny", [f"model.weights={weights}", "model.tokenizer=null"], {}).config
        assert resolve_tokenizer(config.model, config.paths.models_root) == folder


def problems_of(weights: Path, said: str, *overrides: str) -> list[Problem]:
    """Problems of the tiny experiment with these weights that say so."""
    config = load_experiment("tiny", [f"model.weights={weights}", *overrides], {}).config
    return [problem for problem in check_config(config) if said in str(problem)]
