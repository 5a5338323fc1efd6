"""Megatron `torch_dist` checkpoints as weights, seen from outside: which iteration, whether quantized, of what shape.

Looks at names and reads small files; it opens no weights. What is inside is `models/megatron_source.py`'s.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ConfigError
from qad_core.run.folder import TRACKER_NAME, iteration_folder
from qad_core.seen import is_file, is_folder, is_locked

METADATA = ".metadata"
"""torch.distributed.checkpoint's list of what is where; written after the tensors."""
MANIFEST = "checkpoint.json"
"""Our own list of files, with the shape of the model; written last."""
MODELOPT_STATE = "modelopt_state"
"""Folder of modelopt's modes, beside quantized weights."""
RELEASE = "release"
"""Tracker's word, and folder, of weights that no training of Megatron's has made."""
_ITERATION = re.compile(r"iter_(\d{7,})")
_MOST_DIGITS = 18
_UNTRAINED = 1
"""Megatron-LM's convert.sh and quantize.sh save as iteration 0, 1 or release."""


@dataclass(frozen=True)
class SavedIteration:
    """One checkpoint of a model."""

    folder: Path
    """`iter_0000200/` or `release/`."""
    iteration: int
    """Optimizer steps that the weights went through: by our manifest where there is one, else by the folder's name,
    which says 0 for a release."""

    @property
    def has_modelopt_state(self) -> bool:
        """Whether modelopt has changed the model: quantized it, as a rule."""
        return is_folder(self.folder / MODELOPT_STATE)

    @property
    def is_trained(self) -> bool:
        """Whether an optimizer has changed the weights since they were converted."""
        return self.iteration > (0 if is_file(self.folder / MANIFEST) else _UNTRAINED)


def find_iteration(path: Path) -> SavedIteration | None:
    """The checkpoint at `path`, a folder with a tracker file or an iteration's folder; None for anything else.

    Raises ConfigError when the tracker names no iteration that is there, and for one that is not in the format
    `torch_dist` or was cut off.
    """
    if is_file(path / TRACKER_NAME):
        return _whole(_tracked(path))
    if is_file(path / METADATA) or _ITERATION.fullmatch(path.name):
        return _whole(path)
    found = _iterations(path) if is_folder(path) else []
    if found:
        raise ConfigError(
            f"{path} holds {', '.join(found)}, but no {TRACKER_NAME} that says which counts", "Name one of them."
        )
    return None


def list_places_beside(weights: Path) -> list[Path]:
    """Folders in which the files that go with weights, such as a tokenizer's, may lie; raises as `find_iteration`."""
    saved = find_iteration(weights)
    return [weights] if saved is None else [saved.folder, saved.folder.parent]


def quantized_teacher_problem(saved: SavedIteration) -> tuple[str, str] | None:
    """Why a checkpoint cannot be a teacher, and what to do; None when it can.

    Quantizers are set aside, and the weights under them are those of the original until somebody trains them.
    """
    if not (saved.has_modelopt_state and saved.is_trained):
        return None
    return (
        f"{saved.folder} is a quantized student after {saved.iteration} steps, and a teacher must be the original",
        "Let model.teacher_weights name the unquantized weights that the student was made from.",
    )


def read_manifest_architecture(manifest: Path) -> ArchitectureConfig:
    """The shape that our own checkpoint was saved with; raises ConfigError when it cannot be read."""
    try:
        values: object = json.loads(manifest.read_bytes())
        saved = cast("dict[str, object]", values)["architecture"]
        return ArchitectureConfig.model_validate(saved)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"{manifest} does not say the model's shape: {what}", "Take another checkpoint.") from error


def _tracked(path: Path) -> Path:
    text = (path / TRACKER_NAME).read_text(encoding="utf-8", errors="replace").strip()
    if text != RELEASE and not (text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ConfigError(
            f"{path / TRACKER_NAME} says {text[:40]!r}, which is no iteration", "Write a number or release."
        )
    folder = path / RELEASE if text == RELEASE else iteration_folder(path, int(text))
    if not is_folder(folder):
        there = ", ".join(_iterations(path)) or "none"
        raise ConfigError(
            f"{path} lacks {folder.name}, which its {TRACKER_NAME} names; there: {there}",
            "Name an iteration's folder that is there, or fetch the one that is missing.",
        )
    return folder


def _whole(folder: Path) -> SavedIteration:
    lacking = [name for name in (METADATA, "metadata.json") if not is_file(folder / name)]
    if lacking and is_locked(folder / lacking[0]):
        raise ConfigError(f"{folder} may not be looked into: permission denied", "Ask its owner, or name another.")
    if lacking:
        raise ConfigError(
            f"{folder} is no whole torch_dist checkpoint: it lacks {' and '.join(lacking)}",
            "Name one that Megatron-LM saved with --ckpt-format torch_dist; one that was cut off must be saved again.",
        )
    match = _ITERATION.fullmatch(folder.name)
    number = int(match[1]) if match else 0
    return SavedIteration(folder, _read_step(folder / MANIFEST) if is_file(folder / MANIFEST) else number)


def _read_step(manifest: Path) -> int:
    """Optimizer steps by our own list; an import keeps those of its source, and is called release."""
    try:
        step = cast("dict[str, object]", json.loads(manifest.read_bytes()))["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        step = error
    if type(step) is not int or step < 0:
        raise ConfigError(
            f"{manifest} does not say after how many steps it was saved: {step}", "Take another checkpoint."
        )
    return step


def _iterations(path: Path) -> list[str]:
    return sorted(
        child.name
        for child in path.iterdir()
        if child.is_dir() and (_ITERATION.fullmatch(child.name) or _is_release(child))
    )


def _is_release(folder: Path) -> bool:
    return folder.name == RELEASE and is_file(folder / METADATA)
