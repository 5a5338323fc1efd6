"""What an import has come to, as JSON between the process that makes it and the command that shows it. Light."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from qad_core.run.answer import Answer


class _Fixed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImportReport(_Fixed):
    """What was written."""

    out: str
    """What `model.weights` may name."""
    source: str
    """Where the weights came from."""
    family: str
    num_layers: int
    parameters: int
    """Numbers in the model, without padding."""
    vocab_rows: int
    """Rows of the embedding as written, padding included."""
    bytes: int
    """Of all files of the checkpoint."""
    quantization: Literal["none", "calibrated", "kept"]
    """`calibrated` here, or `kept` as the source had it."""
    tokenizer_files: tuple[str, ...]
    """Beside the checkpoint; none where the tokenizer has no files or was not there."""
    seconds: float
    """Of the import, without the process's start."""
    peak_memory_gib: float
    """Resident memory at its highest, GiB; what the imported packages took at the start is not in it."""


ImportAnswer = Answer[ImportReport]
