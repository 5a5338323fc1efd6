from __future__ import annotations

import json
from pathlib import Path

import pytest

from qad_core.commands.data import list_data, prepare_data
from qad_core.config.data_paths import prepared_blend_path
from qad_core.config.load import ResolvedConfig, dump_resolved
from qad_core.config.schema import DatasetConfig, ModelConfig, PathsConfig, RunConfig
from qad_core.data.__main__ import main
from qad_core.data.blend import read_blend
from tests.data.hub_records import write_hub_copy


def write_config(tmp_path: Path, dataset: DatasetConfig) -> tuple[Path, RunConfig]:
    config = RunConfig(
        model=ModelConfig(name="m", weights="random", tokenizer="bytes"),
        dataset=dataset,
        paths=PathsConfig(data_cache=tmp_path / "cache"),
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump_resolved(ResolvedConfig(config, {})))
    return path, config


def test_a_resolved_config_is_enough_to_prepare_its_dataset(
    tmp_path: Path, made_dataset: DatasetConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = write_config(tmp_path, made_dataset)
    assert main(["prepare", str(path)]) == 0
    blend_path = prepared_blend_path(config.dataset, config.model, config.paths)
    assert len(read_blend(blend_path).valid) == 1
    output = capsys.readouterr().out
    assert str(blend_path) in output and "tokens" in output
    assert main(["prepare", str(path)]) == 0
    assert "was prepared already" in capsys.readouterr().out


def test_a_users_mistake_is_one_message_and_exit_2(
    tmp_path: Path, made_dataset: DatasetConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = made_dataset.model_copy(update={"source": None})
    assert main(["prepare", str(write_config(tmp_path, dataset)[0])]) == 2
    assert capsys.readouterr().err.startswith("error: dataset made has no source to prepare from\n")


def test_a_data_cache_that_cannot_be_made_is_exit_2_without_a_traceback(
    tmp_path: Path, made_dataset: DatasetConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = write_config(tmp_path, made_dataset)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert main(["prepare", str(path)]) == 2
    assert "paths.data_cache" in capsys.readouterr().err


def test_a_hub_dataset_is_prepared_from_copies_and_listed_as_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATACACHE_DIR", str(tmp_path / "cache"))
    write_hub_copy(tmp_path / "hub", 600)
    assert prepare_data("nemotron_v2_stem", [], model="tiny", source=tmp_path / "hub") == 0
    output = capfd.readouterr().out
    assert "nemotron_v2_stem: 600 records read, " in output and " sequences of 4,096 tokens" in output
    assert output.rstrip().splitlines()[-2].endswith("; the scripts took 101,175, a count of documents")
    list_data(as_json=True)
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)["data"]}
    assert "tiny" in rows["nemotron_v2_stem"]["prepared"]
    assert rows["nemotron_v2_stem"]["script_samples"] == 101_175
    (science, *_, last) = rows["combined_v2_cot_chat"]["sources"]
    assert (science["place"], science["weight"]) == ("nvidia/OpenScience OS-Q3-235B-4 train", 0.2)
    assert (last["percentage"], last["template"], last["reasoning"]) == (30.0, "chat", True)
