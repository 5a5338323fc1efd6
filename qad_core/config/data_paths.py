"""Where a dataset's prepared tokens lie, computable by light code; it neither reads nor writes them.

The folder's name carries a key of everything that decides the tokens, so that a changed setting
never meets the tokens of another one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import JsonValue

from qad_core.config.schema import DatasetConfig, ModelConfig, PathsConfig

KEY_LENGTH = 10


def dataset_blend_path(dataset: DatasetConfig, model: ModelConfig, paths: PathsConfig) -> Path:
    """The datablend JSON that a run reads: `dataset.blend` where it is given, else the prepared one."""
    if dataset.blend is not None:
        return Path(dataset.blend)
    return prepared_blend_path(dataset, model, paths)


def prepared_blend_path(dataset: DatasetConfig, model: ModelConfig, paths: PathsConfig) -> Path:
    """`<data_cache>/<name>-<key>/datablend_<name>.json`, which `data prepare` writes last."""
    folder = paths.data_cache / f"{dataset.name}-{token_key(dataset, model, paths)}"
    return folder / f"datablend_{dataset.name}.json"


def token_key(dataset: DatasetConfig, model: ModelConfig, paths: PathsConfig) -> str:
    """Short hash of the settings that decide the tokens: tokenizer, source and split."""
    settings = {"dataset": token_settings(dataset), "tokenizer": _tokenizer_place(model, paths)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]


def token_settings(dataset: DatasetConfig) -> dict[str, JsonValue]:
    """The dataset's settings that decide the tokens.

    Where copies of a hub dataset lie is none of them: they hold what the hub has, so that a run finds
    the tokens whatever they were prepared from. Nor is how many bad records may be passed over.
    """
    settings = dataset.model_dump(mode="json", exclude={"name", "blend", "source", "sources"})
    settings["sources"] = {
        "" if dataset.source is not None else name: source.model_dump(
            mode="json",
            exclude={"max_bad_records", *(("paths",) if source.kind == "hub" else ())},
        )
        for name, source in dataset.named_sources.items()
    }
    return settings


def _tokenizer_place(model: ModelConfig, paths: PathsConfig) -> str:
    """Where the tokenizer comes from; a relative path means another file below another models_root."""
    place = model.tokenizer or model.weights
    if place == "bytes" or "://" in place:
        return place
    return str(paths.models_root / place)
