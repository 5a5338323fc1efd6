"""A run's student, loaded whole into this process: the end of a training, where nothing is trained any more.

Owns which checkpoint is taken and what is built for it: neither teacher nor optimizer; and the tokens that the student
is run on to compare an export with it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from megatron.core.datasets.indexed_dataset import IndexedDataset
from torch import Tensor

from qad_core.config.data_paths import dataset_blend_path
from qad_core.config.schema import ArchitectureConfig, ParallelismConfig, RunConfig
from qad_core.data.blend import BlendEntry, read_blend
from qad_core.errors import DataError, ModelError, RunError
from qad_core.kernels.nvfp4_backend import enable_weight_cache, register_nvfp4_backend
from qad_core.models.arch import make_transformer_config
from qad_core.models.spec import HiddenStatesGPTModel, build_gpt_model
from qad_core.run.folder import iteration_folder
from qad_core.train.checkpoint import Checkpointer, is_whole, newest_whole, step_of, weights_dtype, whole_steps
from qad_core.train.parallel import RankContext, initialize_parallel
from qad_core.train.quantize import verify_quantized

_SEQUENCES, _TOKENS = 4, 32
"""Enough to send many values through every linear, few enough for a large model on a CPU."""


@dataclass(frozen=True)
class Student:
    """A student, and what is needed to write it."""

    config: RunConfig
    architecture: ArchitectureConfig
    model: HiddenStatesGPTModel
    dtype: torch.dtype
    """In which it was trained."""
    step: int
    """Optimizer steps of its checkpoint."""

    @property
    def activations(self) -> bool:
        """Whether inputs are quantized, too."""
        return self.config.quantization.activations


def load_student(config: RunConfig, checkpoint: Path) -> Student:
    """Load the student that was saved under any layout; this process becomes its only rank.

    It is on the GPU where torch sees one, and in the dtype of the checkpoint, whatever this machine prefers. Raises
    ModelError for a student that is not quantized, and as a Checkpointer, and RunError for a checkpoint that is removed
    meanwhile.
    """
    if config.quantization.format == "none":
        raise ModelError(
            "the run's student is not quantized (quantization.format is none): there is no NVFP4 to export",
            "Train with quantization.format=nvfp4.",
        )
    architecture = config.model.architecture
    assert architecture is not None
    context = initialize_parallel(ParallelismConfig(), seed=config.train.seed)
    with _explained_removal(checkpoint):
        context = replace(context, params_dtype=weights_dtype(checkpoint))
        model = _load(config, architecture, context, checkpoint)
    enable_weight_cache(model)  # the short way to our backend, which static scales need
    return Student(config, architecture, model.eval(), context.params_dtype, step_of(checkpoint))


def _load(
    config: RunConfig, architecture: ArchitectureConfig, context: RankContext, checkpoint: Path
) -> HiddenStatesGPTModel:
    shape = make_transformer_config(architecture, ParallelismConfig(), params_dtype=context.params_dtype)
    model = build_gpt_model(architecture, shape, context)
    checkpointer = Checkpointer(checkpoint.parent, architecture.model_dump(mode="json"), keep_last=1)
    register_nvfp4_backend()
    checkpointer.restore_quantizers(model, checkpoint)
    checkpointer.load_weights(model, checkpoint)
    verify_quantized(model, activations=config.quantization.activations)
    return model


@contextmanager
def _explained_removal(checkpoint: Path) -> Generator[None]:
    """Of a checkpoint that was whole when it was chosen."""
    try:
        yield
    except (ModelError, OSError) as error:
        if is_whole(checkpoint):
            raise
        raise RunError(
            f"{checkpoint} is not whole any more: the run goes on, and may have removed it (checkpoint.keep_last)",
            "Export again, which takes the newest; or raise checkpoint.keep_last.",
        ) from error


def find_checkpoint(checkpoints: Path, step: int | None) -> Path:
    """The newest whole checkpoint, or that of `step`; raises RunError with the steps that there are."""
    found = newest_whole(checkpoints) if step is None else iteration_folder(checkpoints, step)
    if found is not None and is_whole(found):
        return found
    steps = ", ".join(map(str, whole_steps(checkpoints))) or "none"
    what = "whole checkpoint" if step is None else f"whole checkpoint of step {step}"
    raise RunError(f"{checkpoints} has no {what}", f"Steps with one: {steps}.")


def choose_tokens(student: Student) -> tuple[Tensor, str]:
    """Token ids [b, s] and where they are from: the run's held-out data if it is still there, else chance."""
    config = student.config
    length = min(_TOKENS, config.train.sequence_length)
    try:
        blend = read_blend(dataset_blend_path(config.dataset, config.model, config.paths))
        tokens = _read_first(blend.valid or blend.train, _SEQUENCES * length)
    except DataError:  # the tokens are on another machine, or removed since
        tokens = np.zeros(0)
    if len(tokens) < length:
        generator = torch.Generator().manual_seed(config.train.seed)
        return torch.randint(student.architecture.vocab_size, (_SEQUENCES, length), generator=generator), "random"
    whole = len(tokens) // length * length
    return torch.from_numpy(tokens[:whole].astype(np.int64)).view(-1, length), "held-out data"


def _read_first(entries: tuple[BlendEntry, ...], count: int) -> np.ndarray:
    """The first `count` tokens, or fewer where there are no more."""
    found: list[np.ndarray] = []
    for entry in entries:
        documents = IndexedDataset(str(entry.prefix))
        for index in range(len(documents)):
            if sum(map(len, found)) >= count:
                break
            found.append(np.asarray(documents[index]))
    return np.concatenate(found)[:count] if found else np.zeros(0)
