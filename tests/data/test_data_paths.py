from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.data_paths import dataset_blend_path, prepared_blend_path
from qad_core.config.schema import DatasetConfig, ModelConfig, PathsConfig, SourceConfig

DATASET = DatasetConfig(name="stem", source=SourceConfig(kind="text", paths=("a",)))
MODEL = ModelConfig(name="m", weights="Qwen3-8B")
PATHS = PathsConfig(data_cache=Path("cache"), models_root=Path("models"))


def test_prepared_tokens_lie_in_the_data_cache_under_the_datasets_name() -> None:
    path = prepared_blend_path(DATASET, MODEL, PATHS)
    assert path.name == "datablend_stem.json"
    assert path.parent.parent == Path("cache") and path.parent.name.startswith("stem-")


@pytest.mark.parametrize(
    ("dataset", "model", "paths"),
    [
        ({"split_seed": 7}, {}, {}),
        ({"append_eod": False}, {}, {}),
        ({"valid_fraction": 0.1}, {}, {}),
        ({"source": SourceConfig(kind="text", paths=("a",), max_characters=5)}, {}, {}),
        ({}, {"tokenizer": "bytes"}, {}),
        ({}, {"weights": "Qwen3-14B"}, {}),
        ({}, {}, {"models_root": Path("other")}),
    ],
)
def test_settings_that_change_the_tokens_change_the_folder(
    dataset: dict[str, object], model: dict[str, object], paths: dict[str, object]
) -> None:
    changed = prepared_blend_path(
        DATASET.model_copy(update=dataset), MODEL.model_copy(update=model), PATHS.model_copy(update=paths)
    )
    assert changed != prepared_blend_path(DATASET, MODEL, PATHS)


def test_settings_of_the_model_that_do_not_touch_the_tokens_keep_the_folder() -> None:
    student = MODEL.model_copy(update={"name": "other", "teacher_weights": "Qwen3-32B"})
    assert prepared_blend_path(DATASET, student, PATHS) == prepared_blend_path(DATASET, MODEL, PATHS)


def test_a_datablend_that_the_config_names_is_the_one_that_is_read() -> None:
    dataset = DATASET.model_copy(update={"blend": "blends/datablend_mine.json"})
    assert dataset_blend_path(dataset, MODEL, PATHS) == Path("blends/datablend_mine.json")
