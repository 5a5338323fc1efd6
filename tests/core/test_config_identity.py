from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import qad_core
from qad_core.config.fields import FIELDS
from qad_core.config.load import load_experiment
from qad_core.config.schema import RunConfig
from qad_core.run.folder import RunFolder
from qad_core.run.identity import FREE_KEYS, IDENTITY_SECTIONS, differing_keys, fingerprint, git_state, write_identity

FREE_SECTIONS = {"tag", "parallelism", "cluster", "evaluation", "checkpoint", "paths"}


def config_of(*overrides: str) -> RunConfig:
    return load_experiment("tiny", overrides, {}).config


def test_every_section_is_said_to_count_or_not() -> None:
    assert {key for key in FIELDS if "." not in key} == FREE_SECTIONS | set(IDENTITY_SECTIONS)
    assert set(FIELDS) >= FREE_KEYS


DIFFERENT = (
    "loss=qat", "learning_rate=1", "train.seed=5", "quantization.format=none", "temperature=2", "random_seed=3",
    "global_batch_size=16", "precision=fp32", "split_seed=1", "model.teacher_name=b", "sequence_length=32",
    "weight_scales=mse",
    "divergence=reverse", "top_k=8",
)  # fmt: skip
SAME = (
    "parallelism=tp2", "cluster=local-2-ranks", "micro_batch_size=2", "checkpoint.interval=7", "tag=x",
    "paths.checkpoint_root=y", "exit_iteration=3", "iterations_to_skip=4", "chunk_tokens=8",
)  # fmt: skip


@pytest.mark.parametrize("override", DIFFERENT)
def test_what_makes_two_runs_different_is_in_the_fingerprint(override: str) -> None:
    assert fingerprint(config_of()) != fingerprint(config_of(override))


@pytest.mark.parametrize("override", SAME)
def test_where_and_how_often_are_not_in_the_fingerprint(override: str) -> None:
    assert fingerprint(config_of()) == fingerprint(config_of(override))


def test_the_identity_reads_back_equal_and_names_what_differs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert differing_keys(folder, config_of()) == []
    write_identity(folder, config_of("dataset.source.paths=a,b"))
    assert differing_keys(folder, config_of("dataset.source.paths=a,b")) == []
    other = config_of("dataset.source.paths=a,b", "learning_rate=2e-6", "model.architecture=null")
    found = {key: (theirs, ours) for key, theirs, ours in differing_keys(folder, other)}
    assert found["train.learning_rate"] == (3e-4, 2e-6)
    assert found["model.architecture.num_layers"] == (4, None)


def test_a_field_that_an_older_run_lacks_counts_as_its_default(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_identity(folder, config_of())
    identity = json.loads(folder.identity.read_text())
    for key in ("distillation.temperature", "dataset.append_eod", "dataset.source.paths"):
        del identity["fingerprint"][key]
    folder.identity.write_text(json.dumps(identity))
    assert differing_keys(folder, config_of()) == []
    assert differing_keys(folder, config_of("temperature=2")) == [("distillation.temperature", 1.0, 2.0)]


def test_the_identity_names_the_versions(tmp_path: Path) -> None:
    write_identity(RunFolder(tmp_path), config_of())
    identity = json.loads(RunFolder(tmp_path).identity.read_text())
    assert identity["version"] == qad_core.__version__
    assert identity["packages"]["torch"]
    assert identity["python"].startswith("3.")


def test_git_is_asked_only_for_code_that_it_tracks(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    code = tmp_path / "package"
    code.mkdir()
    (code / "__init__.py").write_text("one = 1\n")
    git("init")
    git("commit", "--allow-empty", "-m", "empty")
    assert git_state(code) is None, "a folder installed inside somebody's checkout is not that checkout's code"
    git("add", "package")
    git("commit", "-m", "code")
    clean = git_state(code)
    assert clean is not None
    assert (len(clean["commit"]), clean["dirty_patch"]) == (40, "")
    (code / "__init__.py").write_text("one = 2\n")
    dirty = git_state(code)
    assert dirty is not None
    assert "+one = 2" in dirty["dirty_patch"]
