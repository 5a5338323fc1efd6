"""Runs side by side: what came of each, and in what their configs differ. Reads configs, draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.config.load import config_values, read_resolved
from qad_core.errors import QadError
from qad_core.run.metrics import Number
from qad_core.run.show import show_number, show_won_back
from qad_core.run.store import RunSummary
from qad_core.seen import is_there

EVALUATIONS = (
    ("KL", "eval/kl"),
    ("cross-entropy", "eval/ce"),
    ("perplexity", "eval/perplexity"),
    ("top-1 agreement", "eval/top1_agreement"),
)
"""Names and keys of what is compared before and after."""


@dataclass(frozen=True)
class Differences:
    """Config keys in which some runs are not alike."""

    values: dict[str, tuple[object, ...]]
    """Dotted key -> its value in each run; None where a run has no such key, or no config."""
    unknown: dict[str, str]
    """Name of a run whose config cannot be read -> why."""


def result_rows(runs: Sequence[RunSummary]) -> list[tuple[str, tuple[str, ...]]]:
    """(what, its words in each run), from the state to the share of the gap won back."""
    rows = [
        ("state", tuple(run.state for run in runs)),
        ("step", tuple(f"{run.step}/{run.train_iterations or '?'}" for run in runs)),
        ("training loss", tuple(show_number(run.loss) for run in runs)),
        ("tokens/s", tuple(show_number(run.tokens_per_s) for run in runs)),
    ]
    rows += [
        (f"{label}, first -> last", tuple(_first_and_last(run, key) for run in runs)) for label, key in EVALUATIONS
    ]
    return [*rows, ("KL gap won back", tuple(show_won_back(run.recovered) for run in runs))]


def find_differences(runs: Sequence[RunSummary]) -> Differences:
    """In what the runs' configs differ; a run without a readable config is named and left out."""
    configs: list[dict[str, object]] = []
    unknown: dict[str, str] = {}
    for run in runs:
        if not is_there(run.folder.config):
            configs.append({})
            unknown[run.name] = "there is no config.yaml"
            continue
        try:
            configs.append(dict(config_values(read_resolved(run.folder.config).config)))
        except QadError as error:
            configs.append({})
            unknown[run.name] = error.message.splitlines()[0].rstrip(":")
        except OSError as error:
            configs.append({})
            unknown[run.name] = error.strerror or str(error)
    known = [config for config in configs if config]
    keys = dict.fromkeys(key for config in known for key in config)
    values = {key: tuple(config.get(key) for config in configs) for key in keys if _differs(key, known)}
    return Differences(values, unknown)


def _differs(key: str, configs: Sequence[dict[str, object]]) -> bool:
    first = configs[0].get(key)
    return any(config.get(key) != first for config in configs)


def _first_and_last(run: RunSummary, key: str) -> str:
    if not run.evaluations:
        return "-"
    first: Number = run.evaluations[0].get(key)
    return f"{show_number(first)} -> {show_number(run.evaluations[-1].get(key))}"
