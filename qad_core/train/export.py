"""`python -m qad_core.train.export RUN_FOLDER --out DIR`: a run's student as modelopt's Hugging Face NVFP4 folder.

Owns the order: load a whole checkpoint into one process, whatever layout it was saved under; write beside the target;
verify what was written; rename. Names and packing are `models/hf_export.py`'s, the checks `models/hf_verify.py`'s and
`models/hf_logits.py`'s. Neither teacher nor optimizer is built. Errors are caught in `main`, once; the file of --answer
gets what came of it. On a GPU that has too little memory free, the process starts anew without GPUs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from qad_core.config.architecture import config_folder, with_architecture
from qad_core.config.load import read_resolved
from qad_core.config.paths import BYTES, resolve_tokenizer, resolve_weights
from qad_core.errors import BugError, ModelError, OutsideError, QadError, name_some
from qad_core.models.hf_export import TensorForm, is_quantized, list_exported_tensors, write_shards
from qad_core.models.hf_export_config import (
    GENERATION_NAME,
    copy_files,
    copy_tokenizer,
    name_algorithm,
    write_configs,
)
from qad_core.models.hf_logits import compare_logits
from qad_core.models.hf_tensors import list_expected_tensors
from qad_core.models.hf_verify import ExportedTensors, check_configs, check_tensors, check_values
from qad_core.models.tokenizer import load_tokenizer
from qad_core.run.answer import write_answer
from qad_core.run.export_report import ExportAnswer, ExportReport, Verification
from qad_core.run.folder import RunFolder
from qad_core.run.new_folder import new_folder, refuse_anything_at, set_aside
from qad_core.train.__main__ import explain_error, is_out_of_memory
from qad_core.train.exported_student import Student, choose_tokens, find_checkpoint, load_student
from qad_core.train.parallel import shut_down_parallel


def main() -> int:
    """Export, answer, and return the exit code."""
    arguments = _parse_arguments()
    run = RunFolder(arguments.run_folder.resolve())
    export = partial(_export_where_it_fits, run, arguments.out.absolute(), arguments.step)
    return write_answer(arguments.answer, ExportAnswer, export, _explain)


def _export_where_it_fits(run: RunFolder, out: Path, step: int | None) -> ExportReport:
    try:
        if torch.cuda.is_available() and read_resolved(run.config).config.cluster.device == "cpu":
            _start_without_gpus("the run's cluster.device is cpu")
        return export_run(run, out, step)
    except torch.OutOfMemoryError as error:
        _start_without_gpus(f"the GPU has too little memory free ({_first_line(error)})")


def _start_without_gpus(why: str) -> NoReturn:
    """Begin this process again where torch sees no GPU: megatron-core computes on every one that it sees."""
    _say(f"{why}: exporting on the CPU")
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "CUDA_VISIBLE_DEVICES": ""})


def _explain(error: Exception) -> QadError | None:
    """As `explain_error`; the machine's memory, too, may run out, also while a checkpoint is loaded."""
    if is_out_of_memory(error) or (error.__cause__ is not None and is_out_of_memory(error.__cause__)):
        return OutsideError(
            f"the machine's memory ran out: {_first_line(error) or 'MemoryError'}",
            "Export on a machine that holds the student's weights once, and some GiB more.",
        )
    return explain_error(error)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def export_run(run: RunFolder, out: Path, step: int | None = None) -> ExportReport:
    """Export a run's newest whole checkpoint, or that of `step`, to `out`, which appears once it has been verified.

    Raises RunError where there is no such checkpoint or `out` is taken, ModelError where the student is not quantized,
    OutsideError where the disk refuses, and BugError where the verification fails, which leaves what was written in
    `out` with `.failed` behind its name.
    """
    started = time.time()
    refuse_anything_at(out)
    config = with_architecture(read_resolved(run.config).config)
    checkpoint = find_checkpoint(run.checkpoints(config.model.name), step)
    try:
        with new_folder(out) as folder:
            _say(f"loading {checkpoint}")
            student = load_student(config, checkpoint)
            _say(f"writing {folder}")
            tokenizer_files = write_export(student, folder)
            written = time.time()
            _say("verifying it")
            verification = _verify_or_set_aside(student, folder, out.with_name(f"{out.name}.failed"))
    finally:
        shut_down_parallel()
    ended = time.time()
    return ExportReport(
        out=str(out),
        checkpoint=str(checkpoint),
        step=student.step,
        algorithm=name_algorithm(activations=student.activations),
        plain_dtype=str(student.dtype).removeprefix("torch."),
        tokenizer_files=tuple(tokenizer_files),
        seconds=ended - started,
        verification_seconds=ended - written,
        verification=verification,
        **_count(student, out),
    )


def write_export(student: Student, folder: Path) -> list[str]:
    """Write every file of an export; the names of the tokenizer's."""
    write_shards(student.model, student.architecture, folder, activations=student.activations)
    model, root = student.config.model, student.config.paths.models_root
    named, weights = resolve_tokenizer(model, root), resolve_weights(model, root)
    tokenizer = load_tokenizer(named, weights)
    source = config_folder(weights) if isinstance(weights, Path) and weights.is_dir() else None
    write_configs(
        folder,
        student.architecture,
        source=source,
        dtype=student.dtype,
        activations=student.activations,
        eos_token_id=tokenizer.eod_id,
    )
    if source is not None:
        copy_files(folder, source, [GENERATION_NAME])
    return copy_tokenizer(folder, None if named == BYTES else Path(named), tokenizer)


def verify_export(student: Student, folder: Path) -> Verification:
    """Hold what lies in `folder` against the student; raises ModelError that names what is wrong with it."""
    forms, activations = _list_forms(student), student.activations
    found = ExportedTensors(folder)
    problems = check_tensors(folder, found, forms)
    problems += check_configs(folder, student.architecture, name_algorithm(activations=activations))
    _refuse(problems, folder)
    _refuse(check_values(found, student.model, student.architecture, activations=activations), folder)
    tokens, source = choose_tokens(student)
    result = compare_logits(folder, found, student.model, student.architecture, tokens, activations=activations)
    _refuse(result.problems, folder)
    return Verification(
        tensors=len(forms),
        tokens=result.tokens,
        token_source=source,
        input_difference=result.inputs,
        logits_difference=result.logits,
        bound=result.bound,
    )


def _verify_or_set_aside(student: Student, folder: Path, failed: Path) -> Verification:
    try:
        return verify_export(student, folder)
    except ModelError as error:
        set_aside(folder, failed)
        hint = f"Do not use it. What was written lies in {failed}: either a disk has changed it, or this is a bug."
        raise BugError(error.message, hint) from error


def _refuse(problems: list[str], folder: Path) -> None:
    if problems:
        raise ModelError(f"the export in {folder} is not the student: {name_some(problems)}", "Do not use it.")


def _count(student: Student, out: Path) -> dict[str, Any]:
    """Files, tensors, weights and bits."""
    counts = {name: math.prod(shape) for name, shape in list_expected_tensors(student.architecture).items()}
    sizes = {name: math.prod(form.shape) * form.dtype.itemsize for name, form in _list_forms(student).items()}
    quantized = sum(count for name, count in counts.items() if is_quantized(name))
    packed = sum(size for name, size in sizes.items() if is_quantized(name))
    weights, size = sum(counts.values()), sum(sizes.values())
    shards = list(out.glob("*.safetensors"))
    return {
        "files": len(shards),
        "bytes": sum(path.stat().st_size for path in shards),
        "quantized_linears": sum(map(is_quantized, counts)),
        "plain_tensors": sum(not is_quantized(name) for name in counts),
        "weights": weights,
        "bits_per_weight": 8 * size / weights,
        "quantized_bits_per_weight": 8 * packed / quantized,
        "compression": 2 * weights / size,
    }


def _list_forms(student: Student) -> dict[str, TensorForm]:
    return list_exported_tensors(student.architecture, student.dtype, activations=student.activations)


def _say(line: str) -> None:
    """Progress: standard output is the answer's."""
    print(line, file=sys.stderr, flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qad_core.train.export", description=__doc__)
    parser.add_argument("run_folder", type=Path, help="run folder with a resolved config.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must not be there")
    parser.add_argument("--step", type=int, help="the checkpoint's optimizer steps; the newest unless given")
    parser.add_argument("--answer", type=Path, required=True, help="file for the answer, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
