from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.config.catalog import list_catalog, read_description
from qad_core.config.clone import clone_overrides
from qad_core.config.experiment_file import experiment_path, experiment_text, write_experiment
from qad_core.config.fields import FIELDS
from qad_core.config.library import SHIPPED, ConfigLibrary, find_library
from qad_core.config.load import config_values, load_experiment
from qad_core.config.problems import InvalidConfigError
from qad_core.config.value_text import value_text
from qad_core.config.values import parse_value
from qad_core.errors import ConfigError, RunError
from qad_core.launch.run_local import write_folder
from qad_core.run.folder import RunFolder

NO_VARIABLES: dict[str, str] = {}


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(working_directory: Path) -> RunFolder:
    """A run's folder, as a start leaves it."""
    resolved = load_experiment("tiny", ["train.learning_rate=2e-4", "dataset.source.max_characters=null"], NO_VARIABLES)
    folder = RunFolder(resolved.config.paths.checkpoint_root / resolved.config.run_name)
    write_folder(folder, resolved)
    return folder


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        ("tiny", []),
        ("demo", ["train.learning_rate=1e-6", "cluster=local-2-ranks", "dataset.source.max_characters=null"]),
        ("blank", ["model=tiny", "dataset=made-text", "model.architecture.num_layers=2", "tag=a b"]),
        ("qwen3-8b-slurm", ["cluster.slurm.setup=[module load cuda, 'a: b']", "train.iterations_to_skip=3-5,9"]),
        ("qwen3-8b-slurm", ["cluster=slurm-venv", "model=llama-3.2-1b", "model.tokenizer=bytes"]),
    ],
)
def test_a_saved_experiment_loads_to_what_was_saved(experiment: str, overrides: Sequence[str]) -> None:
    saved = Path("saved.yaml")
    write_experiment(experiment_text(experiment, overrides, NO_VARIABLES), saved)
    assert (
        load_experiment(str(saved), (), NO_VARIABLES).config
        == load_experiment(experiment, overrides, NO_VARIABLES).config
    )


def test_a_saved_experiment_names_its_parts_and_holds_only_what_is_laid_over_them() -> None:
    text = experiment_text("tiny", ["cluster=local-2-ranks", "parallelism=dp2", "cluster.nodes=3"], NO_VARIABLES)
    lines = text.splitlines()
    assert lines[0] == "# Saved from tiny with cluster=local-2-ranks parallelism=dp2 cluster.nodes=3."
    assert lines[1:7] == [
        "model: tiny",
        "dataset: made-text",
        "parallelism: dp2",
        "cluster:",
        "  use: local-2-ranks",
        "  nodes: 3",
    ]
    assert "processes_per_node" not in text
    assert "  train_samples: 320 # 40 steps" in lines  # comments of values that stay are kept


def test_a_part_named_by_its_path_is_found_from_wherever_the_experiment_is_saved(working_directory: Path) -> None:
    Path("near").mkdir()
    Path("near/mine.yaml").write_text("name: mine\nweights: random\ntokenizer: bytes\n")
    Path("near/run.yaml").write_text("model: ./mine.yaml\ndataset: made-text\n")
    write_experiment(experiment_text("near/run.yaml", (), NO_VARIABLES), Path("elsewhere/run.yaml"))
    assert load_experiment("elsewhere/run.yaml", (), NO_VARIABLES).config.model.name == "mine"


def test_a_run_saved_as_an_experiment_is_the_same_run(run: RunFolder) -> None:
    write_experiment(experiment_text(str(run.config), (), NO_VARIABLES), Path("again.yaml"))
    text = Path("again.yaml").read_text()
    assert text.startswith(f"# Saved from {run.name}.\n")
    assert "adam_beta1" not in text  # what is the default is not written
    again = load_experiment("again.yaml", (), NO_VARIABLES).config
    assert again == load_experiment(str(run.config), (), NO_VARIABLES).config


def test_a_file_that_is_there_is_overwritten_only_where_that_is_said() -> None:
    path = Path("mine.yaml")
    path.write_text("tag: precious\n")
    with pytest.raises(RunError, match=r"mine\.yaml is there already"):
        write_experiment("tag: other\n", path)
    assert path.read_text() == "tag: precious\n"
    write_experiment("tag: other\n", path, overwrite=True)
    assert path.read_text() == "tag: other\n"


def test_a_place_that_cannot_be_written_is_named(working_directory: Path) -> None:
    Path("file").write_text("")
    with pytest.raises(RunError, match="file"):
        write_experiment("tag: x\n", Path("file/below.yaml"))


def test_a_secret_is_not_saved() -> None:
    token = "hf_" + "Zq8" * 11
    with pytest.raises(InvalidConfigError) as refused:
        experiment_text("tiny", [f"tag={token}"], NO_VARIABLES)
    assert token not in str(refused.value)


def test_a_bare_name_is_saved_among_the_experiments() -> None:
    assert experiment_path("mine", ConfigLibrary((SHIPPED,))) == Path("configs/experiments/mine.yaml")
    assert experiment_path("mine", ConfigLibrary((Path("/own"), SHIPPED))) == Path("/own/experiments/mine.yaml")
    assert experiment_path("here/mine", ConfigLibrary(())) == Path("here/mine.yaml")
    with pytest.raises(ConfigError, match="no name for a file"):
        experiment_path("  ", ConfigLibrary(()))


def test_the_text_of_each_value_reads_back_as_the_value() -> None:
    seen = 0
    for experiment in ("tiny", "demo", "qwen3-8b-slurm"):
        for key, value in config_values(load_experiment(experiment, (), NO_VARIABLES).config):
            if FIELDS[key].section is not None:
                continue
            read = parse_value(value_text(value), FIELDS[key])
            plain = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            assert read == plain, key
            seen += 1
    assert seen > 250
    for text in ("a b", "", " a", '"a"', "a\nb", "it's"):
        assert parse_value(value_text(text), FIELDS["tag"]) == text


def test_a_clone_without_changes_gets_a_tag_of_its_own(run: RunFolder) -> None:
    assert clone_overrides(run.config, [], NO_VARIABLES) == ["tag=copy"]
    run.path.with_name(f"{run.name}-copy").mkdir()
    assert clone_overrides(run.config, [], NO_VARIABLES) == ["tag=copy-2"]


def test_a_change_that_leaves_the_run_what_it_is_goes_on_in_its_folder(run: RunFolder) -> None:
    assert clone_overrides(run.config, ["train.recompute=full"], NO_VARIABLES) == ["train.recompute=full"]


def test_a_change_that_makes_it_another_run_gets_another_folder(run: RunFolder) -> None:
    longer = ["train.train_samples=640"]
    assert clone_overrides(run.config, longer, NO_VARIABLES) == [*longer, "tag=copy"]
    other_rate = ["train.learning_rate=1e-4"]  # is part of the folder's name
    assert clone_overrides(run.config, other_rate, NO_VARIABLES) == other_rate


def test_the_files_to_pick_from_say_what_they_are(working_directory: Path) -> None:
    Path("configs/models").mkdir(parents=True)
    Path("configs/models/tiny.yaml").write_text("# My own\n# tiny model.\nname: mine\n")
    Path("configs/models/odd.yaml").write_bytes(b"\xff\xfe")
    catalog = list_catalog(find_library(NO_VARIABLES))
    own = {entry.name: entry.description for entry in catalog["model"]}
    assert own["tiny"] == "My own tiny model."  # hides the one that is shipped
    assert own["odd"].startswith("cannot be read")
    assert own["qwen3-8b"] and {entry.name for entry in catalog["experiment"]} >= {"blank", "demo", "tiny"}
    assert read_description(Path("configs/models/none.yaml")) == "cannot be read: No such file or directory"


def test_the_commands_save_clone_and_list(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "save", "tiny", "tag=mine", "--out", "mine", "--description", "Mine.", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["path"] == "configs/experiments/mine.yaml"
    assert Path("configs/experiments/mine.yaml").read_text().startswith("# Mine.\ntag: mine\nmodel: tiny\n")
    assert main(["config", "save", "tiny", "--out", "mine"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["config", "clone", run.name, "--out", "again", "--json"]) == 0
    cloned = json.loads(capsys.readouterr().out)["data"]
    assert cloned["overrides"] == ["tag=copy"] and cloned["run_folder"].endswith("-copy") and not cloned["goes_on"]
    assert main(["config", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["data"]
    assert {"name": "mine", "path": "configs/experiments/mine.yaml", "description": "Mine."} in listed["experiment"]
