"""`qad_core data`: the datasets that configs name, and their preparation into tokens."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.listing import Group, print_groups
from qad_core.commands.output import console, print_json
from qad_core.config.conf_samples import SCRIPT_SAMPLES
from qad_core.config.data_paths import dataset_blend_path
from qad_core.config.library import find_library
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.config.schema import ModelConfig, RunConfig, SourceConfig, WeightedSource
from qad_core.errors import ConfigError
from qad_core.launch.plan import prepare_argv
from qad_core.launch.requirements import require_trainer

ANY_EXPERIMENT = "blank"
"""A dataset is prepared for a model; the scripts' sequence length and samples, which it is counted in, are here."""
ANY_MODEL, ANY_DATASET = "tiny", "made-text"
"""To load the one without the other."""
COLUMNS = ("source", "taken", "template", ">weight")
"""Of a dataset's sources, where they are listed."""
RECORD_SUFFIXES = (".jsonl", ".parquet")
TEXT_SUFFIXES = (".txt", ".md", ".py")


@dataclass(frozen=True)
class SourceSummary:
    """One source of a dataset."""

    name: str
    kind: str
    """Kind of raw text, `hub` for a dataset on the Hugging Face hub."""
    place: str
    """The hub's dataset with subset and splits, or files and folders."""
    percentage: float
    """Share of the records that is taken, by chance."""
    template: str
    """How chats become text."""
    reasoning: bool
    """Whether think blocks stay in."""
    weight: float
    """Share of the samples drawn from it, relative to the other sources."""


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of configs/datasets."""

    name: str
    sources: tuple[SourceSummary, ...]
    blend: str | None
    """Datablend, where the tokens are given."""
    script_samples: int | None
    """What the scripts trained on by default, a count of documents; None for a dataset that they did not know."""
    prepared: tuple[str, ...]
    """Models whose tokens of it are in the data cache."""


def prepare_data(name: str, overrides: Sequence[str], *, model: str | None, source: Path | None) -> int:
    """Turn a dataset's text into tokens of a model; returns the exit code of the preparation.

    `name` is a dataset of configs/datasets, with `model` a model of configs/models, or an experiment,
    which names both. `source` is read instead of what the dataset names; for a hub dataset it holds
    copies of the hub's files. Raises ConfigError when the model is not said.
    """
    resolved = load_experiment(*_experiment_of(name, overrides, model=model))
    if source is not None:
        resolved = dataclasses.replace(resolved, config=_with_source(resolved.config, source.absolute()))
    require_trainer()
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / "config.yaml"
        config_file.write_text(dump_resolved(resolved), encoding="utf-8")
        return subprocess.run(prepare_argv(config_file), check=False).returncode


def list_data(*, as_json: bool) -> None:
    """Print the datasets of configs/datasets and where their raw text comes from."""
    rows = describe_datasets()
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    print_groups(console(), "dataset", COLUMNS, data_groups(rows))


def data_groups(rows: Sequence[DatasetSummary]) -> list[Group]:
    """The datasets as they are listed: a row a source."""
    return [Group(row.name, tuple(_source_cells(row)), _note(row)) for row in rows]


def describe_datasets() -> list[DatasetSummary]:
    """Every dataset, and the models of configs/models that its tokens have been prepared for."""
    library = find_library(os.environ)
    models = {name: _load(f"model={name}", f"dataset={ANY_DATASET}").model for name in library.names("models")}
    return [
        _describe(_load(f"model={ANY_MODEL}", f"dataset={name}"), models, name) for name in library.names("datasets")
    ]


def _load(*overrides: str) -> RunConfig:
    return load_experiment(ANY_EXPERIMENT, overrides).config


def _describe(config: RunConfig, models: Mapping[str, ModelConfig], name: str) -> DatasetSummary:
    dataset = config.dataset
    return DatasetSummary(
        name=name,
        sources=tuple(_describe_source(*item) for item in dataset.named_sources.items()),
        blend=dataset.blend,
        script_samples=SCRIPT_SAMPLES.get(dataset.name),
        prepared=tuple(
            model_name
            for model_name, model in models.items()
            if dataset_blend_path(dataset, model, config.paths).is_file()
        ),
    )


def _describe_source(name: str, source: SourceConfig) -> SourceSummary:
    of_hub = [source.repository or "", *([source.subset] if source.subset else []), ", ".join(source.splits)]
    return SourceSummary(
        name=name,
        kind=source.kind,
        place=" ".join(of_hub) if source.kind == "hub" else " ".join(source.paths),
        percentage=source.percentage,
        template=source.template,
        reasoning=source.reasoning,
        weight=source.weight if isinstance(source, WeightedSource) else 1.0,
    )


def _source_cells(row: DatasetSummary) -> list[tuple[str, str, str, str]]:
    """Cells of each source: where from, share, template, weight."""
    if row.blend is not None:
        return [(f"datablend {row.blend}", "", "", "")]
    return [
        (
            f"{source.kind} {source.place}".strip(),
            f"{source.percentage:g} %",
            f"{source.template}{', reasoning' if source.reasoning else ''}" if source.kind in ("hub", "jsonl") else "",
            f"{source.weight:g}" if len(row.sources) > 1 else "",
        )
        for source in row.sources
    ]


def _note(row: DatasetSummary) -> str:
    """What the scripts took of a dataset, and for whom it is prepared."""
    samples = [f"{row.script_samples:,} documents in the scripts"] if row.script_samples else []
    prepared = [f"prepared for {', '.join(row.prepared)}"] if row.prepared else []
    return "; ".join([*samples, *prepared])


def _with_source(config: RunConfig, source: Path) -> RunConfig:
    """The config with the raw text of `source` in place of what its dataset names."""
    dataset = config.dataset
    copies = {"paths": (str(source),)}
    if any(of_dataset.kind == "hub" for of_dataset in dataset.named_sources.values()):
        changed: dict[str, object] = {
            "source": dataset.source and dataset.source.model_copy(update=copies),
            "sources": {name: of_dataset.model_copy(update=copies) for name, of_dataset in dataset.sources.items()},
        }
    elif dataset.sources:
        raise ConfigError(f"{dataset.name} has several sources of its own", "Leave --source out.")
    else:
        of_records = source.suffix in RECORD_SUFFIXES or (dataset.source and dataset.source.kind == "jsonl")
        kind = "jsonl" if of_records and source.suffix not in TEXT_SUFFIXES else "text"
        base = dataset.source or SourceConfig(kind=kind)
        changed = {"source": base.model_copy(update={"kind": kind, **copies})}
    return config.model_copy(update={"dataset": dataset.model_copy(update=changed)})


def _experiment_of(name: str, overrides: Sequence[str], *, model: str | None) -> tuple[str, list[str]]:
    library = find_library(os.environ)
    texts = [*([f"model={model}"] if model else []), *overrides]
    if name not in library.names("datasets"):
        return name, texts
    if model is None and not any(text.startswith("model=") for text in overrides):
        raise ConfigError(
            f"The tokens of {name} depend on the model's tokenizer, and no model is named.",
            f"Add --model, one of: {', '.join(library.names('models'))}.",
        )
    return ANY_EXPERIMENT, [f"dataset={name}", *texts]
