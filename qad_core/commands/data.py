"""`qad_core data`: the datasets that configs name, and their preparation into tokens."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.output import console, make_table, print_json
from qad_core.config.data_paths import dataset_blend_path
from qad_core.config.library import find_library
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.errors import ConfigError
from qad_core.launch.plan import prepare_argv
from qad_core.launch.requirements import require_trainer

ANY_EXPERIMENT = "tiny"
"""A dataset is prepared for a model; all else of a run comes from here and does not matter."""


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of configs/datasets."""

    name: str
    source: str
    """Kind of raw text, or `datablend` where the tokens are given."""
    paths: tuple[str, ...]
    prepared: tuple[str, ...]
    """Models whose tokens of it are in the data cache."""


def prepare_data(name: str, overrides: Sequence[str], *, model: str | None, source: Path | None) -> int:
    """Turn a dataset's text into tokens of a model; returns the exit code of the preparation.

    `name` is a dataset of configs/datasets, with `model` a model of configs/models, or an experiment,
    which names both. Raises ConfigError when the model is not said.
    """
    resolved = load_experiment(*_experiment_of(name, overrides, model=model, source=source))
    require_trainer()
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / "config.yaml"
        config_file.write_text(dump_resolved(resolved), encoding="utf-8")
        return subprocess.run(prepare_argv(config_file), check=False).returncode


def list_data(*, as_json: bool) -> None:
    """Print the datasets of configs/datasets and where their raw text comes from."""
    rows = [describe_dataset(name) for name in find_library(os.environ).names("datasets")]
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    table = make_table("dataset", "raw text", "paths", "prepared for")
    for row in rows:
        table.add_row(row.name, row.source, " ".join(row.paths), " ".join(row.prepared))
    console().print(table)


def describe_dataset(name: str) -> DatasetSummary:
    """A dataset, and the models of configs/models that its tokens have been prepared for."""
    models = find_library(os.environ).names("models")
    configs = {model: load_experiment(ANY_EXPERIMENT, [f"dataset={name}", f"model={model}"]).config for model in models}
    dataset = next(iter(configs.values())).dataset
    return DatasetSummary(
        name=name,
        source=dataset.source.kind if dataset.source else "datablend",
        paths=dataset.source.paths if dataset.source else (dataset.blend or "",),
        prepared=tuple(
            model
            for model, config in configs.items()
            if dataset_blend_path(config.dataset, config.model, config.paths).is_file()
        ),
    )


def _experiment_of(
    name: str, overrides: Sequence[str], *, model: str | None, source: Path | None
) -> tuple[str, list[str]]:
    library = find_library(os.environ)
    texts = [*([f"model={model}"] if model else []), *_source_overrides(source), *overrides]
    if name not in library.names("datasets"):
        return name, texts
    if model is None and not any(text.startswith("model=") for text in overrides):
        raise ConfigError(
            f"The tokens of {name} depend on the model's tokenizer, and no model is named.",
            f"Add --model, one of: {', '.join(library.names('models'))}.",
        )
    return ANY_EXPERIMENT, [f"dataset={name}", *texts]


def _source_overrides(source: Path | None) -> list[str]:
    if source is None:
        return []
    kind = "jsonl" if source.suffix == ".jsonl" else "text"
    return [f"dataset.source.kind={kind}", f'dataset.source.paths=["{source.absolute()}"]']
