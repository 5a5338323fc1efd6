"""Checks of the recipe: samples, schedule, iterations and lengths against each other.

Pure functions of the config and the student's shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qad_core.config.paths import BYTES
from qad_core.config.problems import Problem
from qad_core.config.schema import (
    ArchitectureConfig,
    DatasetConfig,
    DistillationConfig,
    ModelConfig,
    QuantizationConfig,
    RunConfig,
    TrainConfig,
)

BYTES_VOCABULARY = 257
"""Tokens of the `bytes` tokenizer: 256 bytes and the end of a document."""
_FOLDER_NAME = re.compile(r"(?!\.)[\w.+=@-]+")
_LONGEST_RUN_NAME = 200
"""In bytes: file systems take 255, and an older run is moved aside under a longer name."""


def check_recipe(config: RunConfig, architecture: ArchitectureConfig | None) -> Iterator[Problem]:
    """Problems of the recipe; those of the shape only where it is known."""
    yield from _check_samples(config.train)
    yield from _check_calibration(config)
    yield from _check_weight_scales(config.quantization)
    yield from _check_schedule(config.train)
    yield from _check_held_out(config.dataset)
    yield from _check_names(config)
    yield from _check_teacher(config.model)
    yield from _check_distillation(config.distillation)
    if architecture is not None:
        yield from _check_lengths(config, architecture)


def _check_samples(train: TrainConfig) -> Iterator[Problem]:
    if train.train_samples < train.global_batch_size:
        what = f"train_samples {train.train_samples} is less than one global batch of {train.global_batch_size}"
        keys = "train.train_samples, train.global_batch_size"
        yield Problem(what, keys, "Take more samples or a smaller batch.")
        return
    last = train.train_iterations
    if train.exit_iteration is not None and train.exit_iteration > last:
        what = f"exit_iteration {train.exit_iteration} is beyond the last iteration, {last}"
        yield Problem(what, "train.exit_iteration, train.train_samples, train.global_batch_size", "Leave it out.")
    beyond = [iteration for iteration in train.iterations_to_skip if iteration > last]
    if beyond:
        what = f"iterations_to_skip names {_shorten(beyond)}, beyond the last iteration, {last}"
        keys = "train.iterations_to_skip, train.train_samples, train.global_batch_size"
        yield Problem(what, keys, "They are single 1-based iterations, not a count.")


def _check_calibration(config: RunConfig) -> Iterator[Problem]:
    """Calibration takes the first training sequences, in whole micro-batches of all replicas."""
    together = config.train.micro_batch_size * max(config.data_parallel_size, 1)
    taken = -(-config.quantization.calibration_sequences // together) * together
    there = config.train.train_samples
    if config.quantization.format != "none" and config.train.global_batch_size <= there < taken:
        what = f"calibration takes {taken} sequences, and the training has {there}"
        keys = "quantization.calibration_sequences, train.train_samples, train.micro_batch_size"
        yield Problem(what, keys, "Calibrate on fewer, or train on more.")


def _check_weight_scales(quantization: QuantizationConfig) -> Iterator[Problem]:
    if quantization.format == "none" and quantization.weight_scales != "max":
        what = f"weight_scales {quantization.weight_scales} does nothing where the format is none"
        keys = "quantization.weight_scales, quantization.format"
        yield Problem(what, keys, "Take format nvfp4, or leave weight_scales out.")


def _check_schedule(train: TrainConfig) -> Iterator[Problem]:
    if train.warmup_fraction >= train.decay_fraction:
        what = f"warmup_fraction {train.warmup_fraction:g} is not below decay_fraction {train.decay_fraction:g}"
        keys = "train.warmup_fraction, train.decay_fraction"
        yield Problem(what, keys, "The warm-up has to end before the decay has.")
    if train.min_learning_rate > train.learning_rate:
        what = f"min_learning_rate {train.min_learning_rate:g} is above learning_rate {train.learning_rate:g}"
        yield Problem(what, "train.min_learning_rate, train.learning_rate", "Take a smaller one, such as 0.")
    for name, beta in (("adam_beta1", train.adam_beta1), ("adam_beta2", train.adam_beta2)):
        if beta == 1:
            yield Problem(f"{name} 1 never moves", f"train.{name}", "Take a number below 1.")


def _check_held_out(dataset: DatasetConfig) -> Iterator[Problem]:
    if dataset.blend is not None or not dataset.named_sources:
        return
    if dataset.valid_fraction == 0:
        yield Problem("valid_fraction 0 holds nothing out to judge by", "dataset.valid_fraction", "Take 0.025 or so.")
    held_out = dataset.valid_fraction + dataset.test_fraction
    if held_out >= 1:
        what = f"valid_fraction and test_fraction hold out {held_out:g} of the documents, and leave none to train on"
        yield Problem(what, "dataset.valid_fraction, dataset.test_fraction", "Take 0.025 each or so.")


def _check_names(config: RunConfig) -> Iterator[Problem]:
    """The names that make up the run folder's."""
    names = {
        "model.name": config.model.name,
        "model.teacher_name": config.model.teacher_name or "none",
        "dataset.name": config.dataset.name,
        "tag": config.tag or "none",
    }
    for key, name in names.items():
        if not _FOLDER_NAME.fullmatch(name):
            hint = "Take letters, digits and . _ + = @ - only, and no dot first."
            yield Problem(f"{key} {name!r} cannot be part of a folder's name", key, hint)
    size = len(config.run_name.encode("utf-8", errors="replace"))
    if size > _LONGEST_RUN_NAME:
        what = f"the run's name, {config.run_name[:40]}..., has {size} bytes, more than {_LONGEST_RUN_NAME}"
        yield Problem(what, ", ".join(names), "Take shorter names or a shorter tag.")


def _check_teacher(model: ModelConfig) -> Iterator[Problem]:
    if model.teacher_name not in (None, model.name) and model.teacher_weights is None:
        what = f"the teacher is named {model.teacher_name}, but its weights are the student's, {model.name}"
        hint = "Set model.teacher_weights (TEACHER_CKPT), or leave the name out."
        yield Problem(what, "model.teacher_name, model.teacher_weights", hint)


def _check_distillation(distillation: DistillationConfig) -> Iterator[Problem]:
    if distillation.skip_lm_loss and distillation.kd_loss_scale != 1:
        scale = distillation.kd_loss_scale
        what = f"kd_loss_scale {scale:g} weighs KL against the cross-entropy, which skip_lm_loss leaves out"
        keys = "distillation.kd_loss_scale, distillation.skip_lm_loss"
        yield Problem(what, keys, "Set kd_loss_scale to 1, or skip_lm_loss to false.")


def _check_lengths(config: RunConfig, architecture: ArchitectureConfig) -> Iterator[Problem]:
    longest = architecture.max_position_embeddings
    if config.train.sequence_length > longest:
        what = f"sequence_length {config.train.sequence_length} is longer than the model's {longest} positions"
        keys = "train.sequence_length, model.architecture.max_position_embeddings"
        yield Problem(what, keys, f"Take at most {longest}.")
    if config.distillation.top_k >= architecture.vocab_size:
        what = f"top_k {config.distillation.top_k} leaves none of the model's {architecture.vocab_size} tokens out"
        keys = "distillation.top_k, model.architecture.vocab_size"
        yield Problem(what, keys, "Take 0 for the whole vocabulary.")
    if config.model.tokenizer == BYTES and architecture.vocab_size < BYTES_VOCABULARY:
        what = f"vocab_size {architecture.vocab_size} is less than the {BYTES_VOCABULARY} tokens of `bytes`"
        yield Problem(what, "model.architecture.vocab_size, model.tokenizer", "Take another tokenizer or vocabulary.")


def _shorten(numbers: list[int]) -> str:
    first = ", ".join(map(str, numbers[:5]))
    return first if len(numbers) <= 5 else f"{first} and {len(numbers) - 5} more"
