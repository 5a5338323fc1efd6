"""`qad_core import`: a model from anywhere as a Megatron checkpoint that our runs can start from.

megatron-core's `dist_checkpointing` loads the same files into a dense model of its own; the experts of a mixture have
names of ours, which its models do not know.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.output import console, print_json
from qad_core.config.checks import check_values
from qad_core.config.library import ConfigLibrary, find_library
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.config.paths import expand_user
from qad_core.config.problems import InvalidConfigError, Problem
from qad_core.config.value_text import value_text
from qad_core.errors import ConfigError, ExitCode
from qad_core.launch.alone import STANDARD_ERROR, STANDARD_OUTPUT, run_alone
from qad_core.launch.requirements import require_trainer
from qad_core.run.import_report import ImportAnswer, ImportReport
from qad_core.run.new_folder import refuse_taken
from qad_core.run.show import count_of, show_count
from qad_core.seen import is_folder, is_locked, is_there

_EXPERIMENT, _DATASET = "blank", "made-text"
"""What an import is resolved within; the dataset is read for calibration alone."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ImportOptions:
    """How a model is written."""

    quantize: str | None
    """`nvfp4` calibrates a student's quantizers; None keeps what the source has."""
    dataset: str | None
    """Dataset of configs/datasets that calibration sees."""
    pad_vocab_to: int
    """The vocabulary's rows become a multiple of it."""
    as_json: bool


def import_model(model: str, out: Path, overrides: Sequence[str], options: ImportOptions) -> ExitCode:
    """Write the checkpoint in a process of its own and show what it is.

    `model` is a name of configs/models, a transformers folder, a GGUF file, a Megatron checkpoint, or `owner/name` on
    the Hugging Face hub. Raises ConfigError for any other, and as the import itself.
    """
    out = expand_user(out).absolute()
    _check(out, options)
    _refuse_inside(out, model)
    source, hub = _source_overrides(model, find_library(os.environ))
    settings = [*source, f"dataset={options.dataset or _DATASET}", *overrides]
    resolved = load_experiment(_EXPERIMENT, settings)
    if problems := [problem for problem in check_values(resolved.config) if _concerns_import(problem, options)]:
        raise InvalidConfigError(problems)
    require_trainer()
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / "config.yaml"
        config_file.write_text(dump_resolved(resolved), encoding="utf-8")
        arguments = [str(config_file), "--out", str(out), "--pad-vocab-to", str(options.pad_vocab_to)]
        arguments += ["--hub", hub] if hub else []
        arguments += ["--quantize"] if options.quantize else []
        # What is told on the way is no part of a JSON answer.
        output = STANDARD_ERROR if options.as_json else STANDARD_OUTPUT
        report = run_alone("The import", "qad_core.train.import_model", arguments, ImportAnswer, output=output)
    if options.as_json:
        print_json(report.model_dump())
    else:
        _print_report(report, source)
    return ExitCode.DONE


def _concerns_import(problem: Problem, options: ImportOptions) -> bool:
    """Whether it is of what is imported, or calibrated, and not of a run that the model is resolved within."""
    keys = problem.where.split(", ")
    if options.quantize:
        return any(key.startswith(("model.", "quantization.")) for key in keys)
    return all(key.startswith("model.") for key in keys)


def _check(out: Path, options: ImportOptions) -> None:
    if options.quantize not in (None, "nvfp4"):
        raise ConfigError(f"--quantize {options.quantize} is no format", "Write --quantize nvfp4, or leave it out.")
    if options.quantize and options.dataset is None:
        raise ConfigError(
            "calibration needs text, and no dataset is named", "Add --dataset, a name of `qad_core data list`."
        )
    if options.dataset and not options.quantize:
        raise ConfigError("the dataset is for calibration, and nothing is calibrated", "Add --quantize nvfp4.")
    refuse_taken(out)


def _refuse_inside(out: Path, model: str) -> None:
    if not model:
        raise ConfigError("the model's name is empty", "Name a folder, a file, or a model of configs/models.")
    source = expand_user(model).resolve()
    if is_folder(source) and out.resolve().is_relative_to(source):
        raise ConfigError(f"{out} lies in the model's own folder {source}", "Name a folder elsewhere for --out.")


def _source_overrides(model: str, library: ConfigLibrary) -> tuple[list[str], str | None]:
    """Overrides that name the model, and its name on the hub where it is to be fetched."""
    path = expand_user(model)
    if model in library.names("models"):
        return [f"model={model}"], None
    if is_there(path):
        found = path.absolute()
        return [f"model.name={value_text(_name_of(found))}", f"model.weights={value_text(str(found))}"], None
    if _HUB_NAME.fullmatch(model):
        return [f"model.name={model.rpartition('/')[2]}", f"model.weights={model}"], model
    if is_locked(path):
        raise ConfigError(f"{path} may not be looked at: permission denied", "Ask its owner, or name another model.")
    raise ConfigError(
        f"there is no model {model}: neither a file or folder nor a name of configs/models",
        f"Name a transformers folder, a .gguf file, a Megatron checkpoint, owner/name on the Hugging Face hub, or one "
        f"of: {', '.join(library.names('models'))}.",
    )


def _name_of(path: Path) -> str:
    """The model's name by its file: a config wants one."""
    return re.sub(r"[^\w.-]", "-", path.stem if path.is_file() else path.name) or "model"


def _print_report(report: ImportReport, source: Sequence[str]) -> None:
    out = console()
    how = {"none": "not quantized", "calibrated": "NVFP4, calibrated", "kept": "NVFP4, as it was"}[report.quantization]
    out.print(
        f"{report.family} of {count_of(report.num_layers, 'layer')}, {show_count(report.parameters)} parameters, "
        f"{how}: {report.bytes / 2**30:.2f} GiB in {report.seconds:.1f} s, {report.peak_memory_gib:.2f} GiB of memory",
        markup=False,
    )
    if report.quantization == "calibrated":
        out.print("the student was held in memory whole, as calibration wants it", markup=False)
    tokenizer = ", ".join(report.tokenizer_files) or "none; set model.tokenizer"
    out.print(f"tokenizer: {tokenizer}", markup=False)
    named = [f"{each} " for each in source if each.startswith("model=")]
    out.print(f"use it: {''.join(named)}model.weights={report.out}", markup=False, soft_wrap=True)
