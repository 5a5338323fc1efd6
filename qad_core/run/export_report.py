"""What an export has come to, as JSON between the process that makes it and the command that shows it. Light."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from qad_core.run.answer import Answer


class _Fixed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Verification(_Fixed):
    """What was read back from the files and held against the student; an export with a difference does not appear."""

    tensors: int
    """In the files: those that the model demands, and no other; every value is the student's, bit for bit."""
    tokens: int
    """That the exported model and the student were run on."""
    token_source: str
    """Where these tokens are from."""
    input_difference: float
    """Largest difference of a quantized linear's inputs, relative to the largest of the student's."""
    logits_difference: float
    """Largest difference of the logits, relative to the largest of the student's."""
    bound: float
    """The most of these that is taken: what float32's rounding may make."""


class ExportReport(_Fixed):
    """What was written."""

    out: str
    checkpoint: str
    step: int
    """Optimizer steps of the checkpoint."""
    algorithm: str
    """modelopt's word for the quantization."""
    plain_dtype: str
    """Of the tensors that are not quantized: that of the run."""
    files: int
    """Safetensors shards."""
    bytes: int
    """Of the shards."""
    quantized_linears: int
    plain_tensors: int
    weights: int
    """Numbers in the model."""
    bits_per_weight: float
    """Over all weights, scales included."""
    quantized_bits_per_weight: float
    """Over those of the quantized linears, scales included."""
    compression: float
    """Bytes in bfloat16 over bytes in the shards."""
    tokenizer_files: tuple[str, ...]
    seconds: float
    """Of the whole export, without the process's start."""
    verification_seconds: float
    verification: Verification


ExportAnswer = Answer[ExportReport]
