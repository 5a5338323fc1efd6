from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.data_paths import prepared_blend_path
from qad_core.config.load import ResolvedConfig, dump_resolved
from qad_core.config.schema import DatasetConfig, ModelConfig, PathsConfig, RunConfig
from qad_core.data.__main__ import main
from qad_core.data.blend import read_blend


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
