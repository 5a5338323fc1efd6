"""Builds everything that a training loop needs: teacher, student, data, optimizer, from a config.

Owns the order of construction, fresh or from a checkpoint; it trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qad_core.config.architecture import teacher_architecture, with_architecture
from qad_core.config.data_paths import dataset_blend_path
from qad_core.config.megatron_folder import quantized_teacher_problem
from qad_core.config.paths import resolve_teacher_weights, resolve_tokenizer, resolve_weights
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.data.blend import read_blend
from qad_core.data.gpt_datasets import build_gpt_datasets
from qad_core.errors import ModelError
from qad_core.kernels.nvfp4_backend import enable_weight_cache, register_nvfp4_backend
from qad_core.models.arch import make_transformer_config
from qad_core.models.hf_import import load_hf_weights
from qad_core.models.megatron_source import MegatronSource
from qad_core.models.spec import HiddenStatesGPTModel, build_gpt_model
from qad_core.models.tensor_sources import TensorSource, open_tensor_source
from qad_core.models.tokenizer import check_tokenizer_fits, load_tokenizer
from qad_core.run.calibration import UnseenLayer, unseen_words
from qad_core.run.folder import RunFolder
from qad_core.train.batches import BatchLayout, follow, iterate_batches
from qad_core.train.checkpoint import Checkpointer, Progress, step_of
from qad_core.train.distill import convert_to_distillation_model, plain_forward_step, unwrap
from qad_core.train.evaluate import run_schedule
from qad_core.train.layer_graphs import record_layers
from qad_core.train.optim import build_optimizer, build_scheduler, wrap_data_parallel
from qad_core.train.parallel import RankContext
from qad_core.train.quantize import quantize_student, verify_quantized
from qad_core.train.quantized_linears import shorten_linears
from qad_core.train.report import Reporter, log
from qad_core.train.saved_quantizers import take_saved_quantizers, tell_origins
from qad_core.train.teacher_graph import can_record


@dataclass(frozen=True)
class Datasets:
    """Packed blocks of `sequence_length` tokens."""

    train: Sequence[Any]
    valid: Sequence[Any]


@dataclass
class Session:
    """One run, ready to step."""

    config: RunConfig
    context: RankContext
    reporter: Reporter
    checkpointer: Checkpointer
    datasets: Datasets
    layout: BatchLayout
    model: Any
    optimizer: Any
    scheduler: Any
    progress: Progress


def build_session(config: RunConfig, context: RankContext, folder: RunFolder, reporter: Reporter) -> Session:
    """Build a session; it stands where the newest whole checkpoint does, or at step 0."""
    config = with_architecture(config)
    reporter.phase("data")
    datasets = open_datasets(config)
    layout = BatchLayout(config.train.micro_batch_size, context.data_parallel_rank, context.data_parallel_size)
    checkpointer = Checkpointer(
        folder.checkpoints(config.model.name),
        _architecture(config).model_dump(mode="json"),
        config.checkpoint.keep_last,
    )
    checkpoint = checkpointer.newest()
    if checkpoint is not None:
        reporter.stands_at(step_of(checkpoint))
    reporter.phase("teacher", config.model.teacher_name or config.model.name)
    teacher = _build_teacher(config, context)
    reporter.phase("student", config.model.name)
    student = build_plain_model(config, context, _architecture(config))
    if checkpoint is None:
        source = _open(resolve_weights(config.model, config.paths.models_root), _architecture(config), config)
        load_hf_weights(student, source, _architecture(config), context)
        _quantize(student, source, config, context, datasets, layout, reporter)
    elif config.quantization.format == "nvfp4":
        register_nvfp4_backend()
        checkpointer.restore_quantizers(student, checkpoint)
    records = config.train.cuda_graphs
    model = convert_to_distillation_model(
        student, teacher, objective=config.loss, distillation=config.distillation, records_teacher=records
    )
    enable_weight_cache(model)
    shorten_linears(model)
    wrapped = wrap_data_parallel(model, context)
    if records and can_record(student) and config.train.recompute == "none":
        record_layers(wrapped, list(student.decoder.layers))
    optimizer = build_optimizer(wrapped, config.train, context.params_dtype)
    scheduler = build_scheduler(optimizer, config.train)
    session = Session(
        config, context, reporter, checkpointer, datasets, layout, wrapped, optimizer, scheduler, Progress()
    )
    if checkpoint is not None:
        reporter.phase("loading", str(checkpoint))
        session.progress = checkpointer.load(wrapped, optimizer, scheduler, checkpoint)
        if config.quantization.format == "nvfp4":
            verify_quantized(unwrap(wrapped), activations=config.quantization.activations)
    wrapped.train()
    return session


def open_datasets(config: RunConfig) -> Datasets:
    """The packed blocks of a config whose architecture is known, of tokens that are there."""
    weights = resolve_weights(config.model, config.paths.models_root)
    tokenizer = load_tokenizer(resolve_tokenizer(config.model, config.paths.models_root), weights)
    check_tokenizer_fits(tokenizer, _architecture(config).vocab_size)
    blend = read_blend(dataset_blend_path(config.dataset, config.model, config.paths))
    train, valid, _ = build_gpt_datasets(
        blend,
        sequence_length=config.train.sequence_length,
        train_samples=config.train.train_samples,
        valid_samples=config.evaluation.sequences,
        test_samples=0,
        seed=config.train.seed,
        tokenizer=tokenizer,
        cache_dir=config.paths.data_cache / "index",
        masked=config.dataset.answer_loss_only,
    )
    return Datasets(train, valid)


def build_plain_model(
    config: RunConfig, context: RankContext, architecture: ArchitectureConfig
) -> HiddenStatesGPTModel:
    """This rank's shard of an unquantized model, with zeros for weights."""
    transformer_config = make_transformer_config(
        architecture, config.parallelism, params_dtype=context.params_dtype, recompute=config.train.recompute
    )
    return build_gpt_model(architecture, transformer_config, context)


def calibrate_student(
    student: HiddenStatesGPTModel,
    config: RunConfig,
    context: RankContext,
    datasets: Datasets,
    layout: BatchLayout,
    tell: Callable[[int, int], None],
) -> list[UnseenLayer]:
    """Quantize a student that has its weights by what `calibration_sequences` training sequences do in it.

    `tell(done, sequences)` hears how far it is. Returns the experts that saw none of them.
    """
    stride = layout.micro_batch_size * layout.data_parallel_size
    num_micro_batches = -(-config.quantization.calibration_sequences // stride)

    def run_calibration(model: torch.nn.Module) -> None:
        model.eval()
        batches = iterate_batches(
            datasets.train,
            layout,
            first_sample=0,
            num_micro_batches=num_micro_batches,
            device=context.device,
            end_sample=config.quantization.calibration_sequences,  # so that amax does not depend on the layout
        )
        batches = follow(batches, layout, config.quantization.calibration_sequences, tell)
        run_schedule(model, batches, num_micro_batches, train=config.train, forward_step=plain_forward_step)

    unseen = quantize_student(student, run_calibration, config.quantization)
    if unseen:
        log.warning("%s", unseen_words(unseen))
    return unseen


def take_student_quantizers(
    student: HiddenStatesGPTModel, source: MegatronSource, config: RunConfig, context: RankContext
) -> None:
    """Quantize a student that has its weights by the amax saved with them, and say what was not saved."""
    recomputed = take_saved_quantizers(student, source, config.quantization, _architecture(config), context)
    tell_origins(recomputed, source, config.quantization)


def _build_teacher(config: RunConfig, context: RankContext) -> HiddenStatesGPTModel:
    architecture = teacher_architecture(config)
    assert architecture is not None
    source = _open(resolve_teacher_weights(config.model, config.paths.models_root), architecture, config)
    if isinstance(source, MegatronSource) and source.is_quantized:
        problem = quantized_teacher_problem(source.saved)
        if problem is not None:
            raise ModelError(*problem)
        log.info("the teacher's quantizers in %s are set aside: it runs in the original precision", source.description)
    teacher = build_plain_model(config, context, architecture)
    load_hf_weights(teacher, source, architecture, context)
    return teacher


def _open(weights: Path | str, architecture: ArchitectureConfig, config: RunConfig) -> TensorSource:
    return open_tensor_source(weights, architecture, config.model.random_seed)


def _quantize(
    student: HiddenStatesGPTModel,
    source: TensorSource,
    config: RunConfig,
    context: RankContext,
    datasets: Datasets,
    layout: BatchLayout,
    reporter: Reporter,
) -> None:
    if config.quantization.format == "none":
        return
    if isinstance(source, MegatronSource) and source.is_quantized:
        reporter.phase("calibrating", f"done before: amax from {source.description}")
        if source.has_block_scales and config.quantization.weight_scales == "max":
            raise ModelError(
                f"{source.description} holds static block scales, and quantization.weight_scales is max",
                "Set it to what they were made with, mse or four_over_six, and they are held as they were saved.",
            )
        take_student_quantizers(student, source, config, context)
        return
    reporter.phase("calibrating", f"{config.quantization.calibration_sequences} sequences")
    reporter.keep_unseen(calibrate_student(student, config, context, datasets, layout, reporter.progress))


def _architecture(config: RunConfig) -> ArchitectureConfig:
    assert config.model.architecture is not None
    return config.model.architecture
