"""`python -m qad_core.train.import_model CONFIG --out CKPT`: a model as a Megatron `torch_dist` checkpoint.

Owns the order: open the source, write or build, copy the tokenizer, and name what is there last, so that an import
that was cut off leaves nothing that looks whole. Weights, plain or quantized before, are streamed and never held all at
once; to be calibrated, the student is built in this process. Errors are caught in `main`, once; the file of --answer
gets what came of it.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from qad_core.config.architecture import with_architecture
from qad_core.config.data_paths import prepared_blend_path
from qad_core.config.load import read_resolved
from qad_core.config.megatron_folder import RELEASE, find_iteration, list_places_beside
from qad_core.config.parameters import count_parameters
from qad_core.config.paths import BYTES, resolve_tokenizer, resolve_weights
from qad_core.config.schema import ArchitectureConfig, ParallelismConfig, RunConfig
from qad_core.data.prepare import prepare_dataset
from qad_core.errors import ConfigError, ModelError
from qad_core.models.hf_import import check_tensors, load_hf_weights
from qad_core.models.hf_tensors import layer_prefix
from qad_core.models.hub_model import download_model
from qad_core.models.megatron_source import MegatronSource
from qad_core.models.megatron_writer import write_weights
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.models.tensor_sources import TensorSource, open_tensor_source
from qad_core.models.tokenizer import load_tokenizer
from qad_core.run.answer import write_answer
from qad_core.run.import_report import ImportAnswer, ImportReport
from qad_core.run.new_folder import new_folder, refuse_taken
from qad_core.train.__main__ import explain_error
from qad_core.train.batches import BatchLayout
from qad_core.train.checkpoint import finish_checkpoint, save_student
from qad_core.train.kept_student import write_kept_student
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.report import log
from qad_core.train.session import build_plain_model, calibrate_student, open_datasets

Quantization = Literal["none", "calibrated", "kept"]
_EXAMPLE = f"{layer_prefix(0)}self_attn.o_proj.weight"
"""A weight whose dtype is that of a model."""


def main() -> int:
    """Import, answer, and return the exit code."""
    arguments = _parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

    def work() -> ImportReport:
        config = read_resolved(arguments.config).config
        return import_model(
            config, arguments.out, hub=arguments.hub, quantize=arguments.quantize, pad_vocab_to=arguments.pad_vocab_to
        )

    return write_answer(arguments.answer, ImportAnswer, work, explain_error)


def import_model(
    config: RunConfig, out: Path, *, hub: str | None = None, quantize: bool = False, pad_vocab_to: int = 1
) -> ImportReport:
    """Write the model of a config to `out`, a new or empty folder, in which nothing appears before it is whole.

    `hub` is fetched from the Hugging Face hub in place of the config's weights. With `quantize` the student is
    calibrated on the config's dataset. Raises RunError for a folder that is not empty, ConfigError or ModelError for a
    model that does not fit.
    """
    started, at_start = time.monotonic(), _resident_gib()
    refuse_taken(out)
    if hub is not None:
        config = _with_hub_model(config, hub)
    architecture, source = _open_source(config)
    with new_folder(out) as folder:
        target = folder / RELEASE
        target.mkdir()
        quantization, rows = _write(config, source, architecture, target, quantize=quantize, multiple=pad_vocab_to)
        tokenizer_files = _copy_tokenizer(config, folder)
        step = 0 if quantization == "calibrated" else _steps_of(source)
        finish_checkpoint(target, step, architecture.model_dump(mode="json"), tracked=RELEASE)
    return ImportReport(
        out=str(out),
        source=hub or source.description,
        family=architecture.family,
        num_layers=architecture.num_layers,
        parameters=count_parameters(architecture),
        vocab_rows=rows,
        bytes=sum(path.stat().st_size for path in (out / RELEASE).rglob("*") if path.is_file()),
        quantization=quantization,
        tokenizer_files=tuple(tokenizer_files),
        seconds=time.monotonic() - started,
        peak_memory_gib=max(0.0, _peak_gib() - at_start),
    )


def _with_hub_model(config: RunConfig, hub: str) -> RunConfig:
    log.info("fetching %s from the Hugging Face hub", hub)
    folder = download_model(hub, log.info)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": str(folder)})})


def _open_source(config: RunConfig) -> tuple[ArchitectureConfig, TensorSource]:
    architecture = with_architecture(config).model.architecture
    weights = resolve_weights(config.model, config.paths.models_root)
    if architecture is None:
        if isinstance(weights, Path):
            find_iteration(weights)  # what is wrong with a checkpoint is the better word
        raise ConfigError(
            f"{weights} does not say its model's shape",
            "Name a model of configs/models and its weights, model.weights=..., or put its config.json beside them.",
        )
    source = open_tensor_source(weights, architecture, config.model.random_seed)
    check_tensors(source, architecture)
    return architecture, source


def _steps_of(source: TensorSource) -> int:
    """Optimizer steps that a checkpoint of weights went through, so that an import is no way to forget them."""
    return source.saved.iteration if isinstance(source, MegatronSource) and source.saved.is_trained else 0


def _write(
    config: RunConfig,
    source: TensorSource,
    architecture: ArchitectureConfig,
    target: Path,
    *,
    quantize: bool,
    multiple: int,
) -> tuple[Quantization, int]:
    """Write the checkpoint's own files; how it is quantized, and its vocabulary's rows."""
    quantized = source if isinstance(source, MegatronSource) and source.is_quantized else None
    rows = -(-architecture.vocab_size // multiple) * multiple
    if quantize and quantized is not None:
        raise ConfigError(f"{source.description} is quantized already", "Leave --quantize out to keep its quantizers.")
    if not quantize and quantized is None:
        log.info("writing %s parameters of %s", f"{count_parameters(architecture):,}", source.description)
        write_weights(source, architecture, target, rows)
        return "none", rows
    if rows != architecture.vocab_size:
        raise ConfigError(
            "a quantized student's vocabulary cannot be padded here", "Leave --make-vocab-size-divisible-by out."
        )
    _write_student(config, source, architecture, target, quantized)
    return "calibrated" if quantized is None else "kept", rows


def _write_student(
    config: RunConfig,
    source: TensorSource,
    architecture: ArchitectureConfig,
    target: Path,
    quantized: MegatronSource | None,
) -> None:
    """Write a student with the quantizers of its source `quantized`, or with those of calibration here.

    It is saved in its source's dtype, whatever this machine would train in, unless calibration took a narrower one.
    """
    changes = {
        "model": config.model.model_copy(update={"architecture": architecture}),
        "parallelism": ParallelismConfig(),
        "quantization": config.quantization.model_copy(update={"format": "nvfp4"}),
    }
    config = config.model_copy(update=changes)
    context = initialize_parallel(
        config.parallelism, device=config.cluster.device, precision=config.train.precision, seed=config.train.seed
    )
    stored = source.read(_EXAMPLE).dtype
    try:
        if quantized is None:
            save_student(_calibrate(config, source, architecture, context, stored), target)
            return
        log.info("writing %s parameters of %s", f"{count_parameters(architecture):,}", source.description)
        context = replace(context, params_dtype=stored)  # nothing is computed in it
        write_kept_student(quantized, config, architecture, context, target)
    finally:
        shut_down_parallel()


def _calibrate(
    config: RunConfig,
    source: TensorSource,
    architecture: ArchitectureConfig,
    context: RankContext,
    stored: torch.dtype,
) -> HiddenStatesGPTModel:
    """A whole student, calibrated on the config's dataset and then no wider than `stored`."""
    student = build_plain_model(config, context, architecture)
    load_hf_weights(student, source, architecture, context)
    _prepare_tokens(config)
    log.info("calibrating on %d sequences of %s", config.quantization.calibration_sequences, config.dataset.name)
    layout = BatchLayout(config.train.micro_batch_size, data_parallel_rank=0, data_parallel_size=1)
    calibrate_student(student, config, context, open_datasets(config), layout, lambda done, sequences: None)
    if stored.itemsize < context.params_dtype.itemsize:
        for parameter in student.parameters():
            parameter.data = parameter.data.to(stored)
    return student


def _prepare_tokens(config: RunConfig) -> None:
    """Make the tokens that calibration sees, or find them made."""
    if config.dataset.blend is not None:
        return
    models_root = config.paths.models_root
    weights = resolve_weights(config.model, models_root)
    tokenizer = load_tokenizer(resolve_tokenizer(config.model, models_root), weights)
    folder = prepared_blend_path(config.dataset, config.model, config.paths).parent
    log.info("%s: preparing into %s", config.dataset.name, folder)
    prepare_dataset(config.dataset, tokenizer, folder, tell=log.info)


def _copy_tokenizer(config: RunConfig, out: Path) -> list[str]:
    """Copy the tokenizer and config.json beside the checkpoint, so that it can do without its source."""
    # Imported here: it brings modelopt's export, which takes seconds, and memory that is no part of the weights'.
    from qad_core.models.hf_export_config import CONFIG_NAME, GENERATION_NAME, copy_files, copy_tokenizer

    weights = resolve_weights(config.model, config.paths.models_root)
    if isinstance(weights, Path) and weights.is_dir():
        for place in reversed(list_places_beside(weights)):  # the nearest last: it counts
            copy_files(out, place, (CONFIG_NAME, GENERATION_NAME))
    try:
        place = resolve_tokenizer(config.model, config.paths.models_root)
        if place == BYTES:
            return []
        return copy_tokenizer(out, Path(place), load_tokenizer(place, weights))
    except (ConfigError, ModelError) as error:
        if config.model.tokenizer is not None:
            raise
        log.warning("no tokenizer is copied: %s", error.message)
        return []


def _resident_gib() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**30


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qad_core.train.import_model", description=__doc__)
    parser.add_argument("config", type=Path, help="a config.yaml as resolved, whose model is imported")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--answer", type=Path, required=True, help="JSON file to write what came of it to")
    parser.add_argument("--hub", help="owner/name on the Hugging Face hub, in place of the config's weights")
    parser.add_argument("--quantize", action="store_true", help="calibrate NVFP4 quantizers on the config's dataset")
    parser.add_argument("--pad-vocab-to", type=int, default=1, help="pad the vocabulary to a multiple of this")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
