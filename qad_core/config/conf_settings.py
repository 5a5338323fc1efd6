"""What the variables of a `.conf` mean as settings of an experiment, with the values that the scripts themselves added.

Owns the mapping and its notes. Which variables the file sets is `bash_assignments.py`; those that nothing
here stands for are `conf_notes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.bash_assignments import Assignments
from qad_core.config.conf_samples import FALLBACK_SAMPLES, SCRIPT_SAMPLES
from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.library import PART_FOLDERS, SUFFIXES, ConfigLibrary
from qad_core.config.problems import Problem
from qad_core.errors import ConfigError

SCRIPT_DATASET = "openscience"
SCRIPT_GPUS = "8"
_MODEL_HINT = "Put the model's config.json beside STUDENT_CKPT (model.weights), or add a file to configs/models."
_DATASET_HINT = "Set BLEND_PATH (dataset.blend), or add a file to configs/datasets that says how to prepare it."


@dataclass(frozen=True)
class ConfEntry:
    """One setting that a `.conf` makes."""

    variable: str
    """The variable that it comes from."""
    key: str
    """Dotted key, or the section whose part it names."""
    text: str
    line: int | None
    """1-based; None for what the scripts added where the file says nothing."""


def place_of(name: str, line: int | None) -> str:
    """A line of a file, as problems show it."""
    return name if line is None else f"{name} line {line}"


class ConfSettings:
    """The settings that the variables of a file make."""

    def __init__(self, name: str, found: Assignments, library: ConfigLibrary, stronger: Mapping[str, str]) -> None:
        self.notes: list[Problem] = []
        """On settings that stand for something else than the file's words."""
        self._name = name
        self._found = found
        self._library = library
        self._stronger = stronger  # settings of the environment, which will count more than the file's
        self.entries: tuple[ConfEntry, ...] = tuple(self._read())

    def _read(self) -> Iterator[ConfEntry]:
        for variable, key in ENVIRONMENT_KEYS.items():
            text = self._text(variable)
            if text:
                yield self._entry(variable, key, text, self._line(variable))
        if self._text("CONTAINER_IMAGE"):  # the scripts knew srun --container-image alone
            yield ConfEntry("CONTAINER_IMAGE", "cluster.container.runtime", "pyxis", self._line("CONTAINER_IMAGE"))
        yield from self._defaults()
        yield from self._fixed()

    def _text(self, variable: str) -> str:
        """The file's own text of a variable; an empty one counts as not set, as in the environment."""
        found = self._found.variables.get(variable)
        return (found.text or "").strip() if found else ""

    def _line(self, variable: str) -> int:
        return self._found.variables[variable].line

    def _in_force(self, variable: str) -> str:
        return self._stronger.get(variable, "").strip() or self._text(variable)

    def _is_open(self, variable: str) -> bool:
        """Whether neither the file nor the environment says anything about a variable."""
        found = self._found.variables.get(variable)
        return not self._in_force(variable) and (found is None or found.text is not None)

    def _note(self, what: str, hint: str, line: int | None = None) -> None:
        self.notes.append(Problem(what, place_of(self._name, line), hint))

    def _entry(self, variable: str, key: str, text: str, line: int | None) -> ConfEntry:
        if key not in PART_FOLDERS or self._has_part(key, text):
            return ConfEntry(variable, key, text, line)
        what = f"there is no {key} {text!r} in configs/{PART_FOLDERS[key]}"
        if key == "model":
            self._note(f"{what}: its shape is read from the config.json of its weights", _MODEL_HINT, line)
        elif not self._in_force("BLEND_PATH"):
            self._note(f"{what}, and BLEND_PATH names no datablend", _DATASET_HINT, line)
        return ConfEntry(variable, f"{key}.name", text, line)

    def _has_part(self, section: str, name: str) -> bool:
        try:
            self._library.find_part(section, name, Path())
        except ConfigError:
            return False
        return not name.endswith(SUFFIXES)  # the scripts named no files here

    def _defaults(self) -> Iterator[ConfEntry]:
        """What the scripts took for variables that were not set."""
        if self._is_open("NUM_GPUS"):
            self._note(f"NUM_GPUS is not set: {SCRIPT_GPUS} GPUs a node, as in the scripts", "Set NUM_GPUS.")
            yield ConfEntry("NUM_GPUS", ENVIRONMENT_KEYS["NUM_GPUS"], SCRIPT_GPUS, None)
        dataset = self._in_force("DATASET_NAME")
        if self._is_open("DATASET_NAME"):
            dataset = SCRIPT_DATASET
            self._note(f"DATASET_NAME is not set: {dataset}, as in the scripts", "Set DATASET_NAME.")
            yield self._entry("DATASET_NAME", ENVIRONMENT_KEYS["DATASET_NAME"], dataset, None)
        if dataset and self._is_open("TRAIN_SAMPLES"):
            yield self._samples(dataset)

    def _samples(self, dataset: str) -> ConfEntry:
        samples = SCRIPT_SAMPLES.get(dataset, FALLBACK_SAMPLES)
        known = "for" if dataset in SCRIPT_SAMPLES else "for a dataset that they did not know, as"
        self._note(
            f"TRAIN_SAMPLES is not set: {samples}, which the scripts took {known} {dataset}",
            "Set TRAIN_SAMPLES to train for longer or shorter.",
        )
        return ConfEntry("TRAIN_SAMPLES", ENVIRONMENT_KEYS["TRAIN_SAMPLES"], str(samples), None)

    def _fixed(self) -> Iterator[ConfEntry]:
        """What the scripts always passed to Megatron, for the memory that a conf's MBS counts on."""
        tensor = self._in_force("TP_SIZE")
        shards = tensor.isdecimal() and tensor.lstrip("0") not in ("", "1")
        fixed = {"train.recompute": "full", **({"parallelism.sequence_parallel": "true"} if shards else {})}
        listed = ", ".join(f"{key}={text}" for key, text in fixed.items())
        self._note(f"as the scripts always had it: {listed}", "Override it to have it otherwise.")
        yield from (ConfEntry("", key, text, None) for key, text in fixed.items())
