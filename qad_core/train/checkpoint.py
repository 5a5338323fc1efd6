"""Checkpoints of a run: whole or not there, resumable under another layout, weights and quantizers together.

Layout: `iter_0000200/` holds megatron-core's distributed checkpoint, modelopt's quantizer state in
`modelopt_state/`, and `checkpoint.json` with the sizes of all files, written last. The tracker file
`latest_checkpointed_iteration.txt` is replaced after that. A folder without a matching
`checkpoint.json` was cut off while it was written and is never loaded.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from modelopt.torch.opt.plugins import restore_sharded_modelopt_state, save_sharded_modelopt_state
from pydantic import BaseModel, ConfigDict, ValidationError
from torch.distributed.checkpoint.api import CheckpointException

from qad_core.config.megatron_folder import MANIFEST
from qad_core.config.schema import ArchitectureConfig
from qad_core.errors import ModelError, OutsideError, explain_os_error
from qad_core.models.megatron_writer import CONTENT
from qad_core.models.saving import explained_disk, first_cause, first_line
from qad_core.run.folder import TRACKER_NAME, iteration_folder
from qad_core.train.block_scales import fit_block_scales
from qad_core.train.distill import unwrap
from qad_core.train.optim import load_optimizer

Answer = TypeVar("Answer")
log = logging.getLogger("qad")
_SAVE_HINT = "free disk space or mend the folder and start again; the older checkpoints are untouched"
_FINAL_NORM = "decoder.final_layernorm.weight"
_DEFAULT_SHAPE = {
    name: field.default for name, field in ArchitectureConfig.model_fields.items() if not field.is_required()
}
# The optimizer's shards are stored as whole tensors, so that TP, PP, EP and DP may change on resume.
_SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}


class _Manifest(BaseModel):
    """checkpoint.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: int
    architecture: dict[str, Any]
    files: dict[str, int]


@dataclass
class Progress:
    """How far a run is; saved with the weights."""

    step: int = 0
    """Optimizer steps done, skipped ones included."""
    consumed_samples: int = 0
    """Sequences taken from the training data."""


@dataclass(frozen=True)
class Checkpointer:
    """Saves and loads one run's training state; every method is a collective."""

    folder: Path
    """`RUN/checkpoints/MODEL`."""
    architecture: dict[str, Any]
    """Shape of the student, to refuse the checkpoint of another model."""
    keep_last: int
    """Newest checkpoints that stay."""

    def newest(self) -> Path | None:
        """The newest whole checkpoint, or None; the first rank looks, so that all ranks load the same."""
        return from_first_rank(lambda: newest_whole(self.folder))

    def save(self, model: Any, optimizer: Any, scheduler: Any, progress: Progress) -> Path:
        """Write one checkpoint, unless this step's is there whole; returns its folder.

        On a failure the older ones stay and `OutsideError` is raised.
        """
        _collect_results_in_process()
        target = iteration_folder(self.folder, progress.step)
        if from_first_rank(lambda: is_whole(target)):
            return target
        try:
            with explained_disk(target, _SAVE_HINT):
                _on_first_rank(lambda: _make_empty(target))
                dist_checkpointing.save(_state(model, optimizer, scheduler, progress, loading=False), str(target))
                save_sharded_modelopt_state([unwrap(model)], target)
                _on_first_rank(lambda: finish_checkpoint(target, progress.step, self.architecture))
        except OutsideError:
            if torch.distributed.get_rank() == 0:
                shutil.rmtree(target, ignore_errors=True)
            raise
        if torch.distributed.get_rank() == 0:
            self._remove_old(target)
        return target

    def restore_quantizers(self, student: Any, checkpoint: Path) -> None:
        """Give a plain student the quantizers that were saved with the weights of this very checkpoint."""
        self._refuse_another_model(checkpoint)
        with _explained_damage(checkpoint):
            restore_sharded_modelopt_state([student], checkpoint)
        fit_block_scales(student)

    def load(self, model: Any, optimizer: Any, scheduler: Any, checkpoint: Path) -> Progress:
        """Load weights, optimizer and schedule; the layout over ranks may differ from the saved one."""
        self._refuse_another_model(checkpoint)
        template = _state(model, optimizer, scheduler, Progress(), loading=True)
        with _explained_damage(checkpoint):
            loaded: Any = dist_checkpointing.load(template, str(checkpoint))
            unwrap(model).load_state_dict(loaded["model"])
            load_optimizer(optimizer, loaded["optimizer"])
            scheduler.load_state_dict(loaded["scheduler"])
            return Progress(**loaded["progress"])

    def load_weights(self, student: Any, checkpoint: Path) -> None:
        """Load the weights alone, and the quantizers' values, into a student that is not to be trained."""
        self._refuse_another_model(checkpoint)
        template = {"model": student.sharded_state_dict()}
        with _explained_damage(checkpoint):
            loaded: Any = dist_checkpointing.load(template, str(checkpoint))
            student.load_state_dict(loaded["model"])

    def _remove_old(self, newest: Path) -> None:
        """Remove whole checkpoints beyond `keep_last`, and what cut-off saves before `newest` have left."""
        older = [path for path in _iteration_folders(self.folder) if path < newest]
        whole = [path for path in older if is_whole(path)]
        kept = whole[len(whole) - (self.keep_last - 1) :]
        try:
            for path in older:
                if path not in kept:
                    # The manifest goes first: a removal that is cut off leaves nothing that looks whole.
                    (path / MANIFEST).unlink(missing_ok=True)
                    shutil.rmtree(path)
        except OSError as error:
            log.warning("an old checkpoint could not be removed: %s", error)

    def _refuse_another_model(self, checkpoint: Path) -> None:
        saved = _read_manifest(checkpoint).architecture
        saved = {**_DEFAULT_SHAPE, **saved}  # a field that was added later had its default's meaning before
        differing = {key: saved.get(key) for key, value in self.architecture.items() if saved.get(key) != value}
        if differing:
            ours = {key: self.architecture[key] for key in differing}
            raise ModelError(
                f"checkpoint {checkpoint} is of another model: it has {differing}, the config has {ours}",
                "name the right model, or start over with --fresh or another tag",
            )


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that was written to its end."""
    whole = [path for path in _iteration_folders(folder) if is_whole(path)]
    return whole[-1] if whole else None


def save_student(student: Any, target: Path) -> None:
    """Write a student's weights and quantizers alone into an empty folder; `finish_checkpoint` makes it count.

    Raises OutsideError where the disk does not take them.
    """
    _collect_results_in_process()
    with explained_disk(target, "free disk space and start again"):
        dist_checkpointing.save(student.sharded_state_dict(), str(target), content_metadata=CONTENT)
    save_modes(student, target)


def save_modes(student: Any, target: Path) -> None:
    """Write what modelopt has made of a student beside its weights, without what it knows of single layers.

    Raises as `save_student`.
    """
    _collect_results_in_process()
    with explained_disk(target, "free disk space and start again"):
        save_sharded_modelopt_state([student], target)


def finish_checkpoint(target: Path, step: int, architecture: dict[str, Any], tracked: str | None = None) -> None:
    """Write down what is in a checkpoint, by which it counts as whole, and name it in the tracker file beside it.

    `tracked` is the tracker's word for it, its step unless given.
    """
    sizes = {str(path.relative_to(target)): path.stat().st_size for path in _files(target)}
    manifest = _Manifest(step=step, architecture=architecture, files=sizes)
    _write_durably(target / MANIFEST, manifest.model_dump_json(indent=1))
    _write_durably(target.parent / TRACKER_NAME, str(step) if tracked is None else tracked)


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done at a whole checkpoint."""
    return _read_manifest(checkpoint).step


def weights_dtype(checkpoint: Path) -> torch.dtype:
    """Dtype in which the student's weights were trained and saved; the machine that loads them may prefer another."""
    with _explained_damage(checkpoint):
        metadata: Any = dist_checkpointing.load_tensors_metadata(str(checkpoint))
        return metadata[_FINAL_NORM].dtype


def whole_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder` that were written to their end."""
    return [step_of(path) for path in _iteration_folders(folder) if is_whole(path)]


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is there in the size that the manifest, written last, says."""
    try:
        sizes = _read_manifest(checkpoint).files
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, ValidationError):
        return False


def _read_manifest(checkpoint: Path) -> _Manifest:
    return _Manifest.model_validate_json((checkpoint / MANIFEST).read_bytes())


@contextmanager
def _explained_damage(checkpoint: Path) -> Generator[None]:
    """Name the checkpoint that cannot be loaded: torch and modelopt raise anything on a file with wrong bytes in it.

    Raises RunError that names the file where it may not be opened.
    """
    try:
        yield
    except (torch.OutOfMemoryError, torch.distributed.DistError):
        raise  # no fault of the file
    except (Exception, CheckpointException) as error:  # the latter is no Exception
        cause = first_cause(error)
        if isinstance(cause, PermissionError):
            raise explain_os_error(cause) from error
        raise ModelError(
            f"checkpoint {checkpoint} cannot be loaded: {first_line(error)}",
            "it is damaged: move it out of the run folder, and the run goes on from the one before",
        ) from error


def _state(model: Any, optimizer: Any, scheduler: Any, progress: Progress, *, loading: bool) -> dict[str, Any]:
    weights = unwrap(model).sharded_state_dict()
    return {
        "model": weights,
        "optimizer": optimizer.sharded_state_dict(weights, is_loading=loading, metadata=_SHARDING),
        "scheduler": scheduler.state_dict(),
        "progress": {"step": progress.step, "consumed_samples": progress.consumed_samples},
    }


def from_first_rank(read: Callable[[], Answer]) -> Answer:
    """What the first rank reads, on every rank: file systems of several machines do not change at once for all."""
    answer: list[Any] = [read() if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(answer, src=0)
    return answer[0]


def _collect_results_in_process() -> None:
    """Keep megatron-core's writer from starting a manager process for its results.

    In a synchronous save they never leave this process, while the manager takes seconds to start and
    outlives a trainer that is killed.
    """
    filesystem_async._results_queue = filesystem_async._results_queue or queue.Queue()


def _on_first_rank(act: Callable[[], None]) -> None:
    """Act on rank 0 while the others wait; its failure is raised on every rank."""
    failure: list[str | None] = [None]
    if torch.distributed.get_rank() == 0:
        try:
            act()
        except OSError as error:
            failure = [str(error)]
    torch.distributed.broadcast_object_list(failure, src=0)
    if failure[0] is not None:
        raise OSError(failure[0])


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _write_durably(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _iteration_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("iter_*") if path.is_dir())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
