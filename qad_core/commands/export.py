"""`qad_core export`: a run's student as a Hugging Face NVFP4 folder that has passed its own verification."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qad_core.commands.output import console, make_table, print_json
from qad_core.commands.runs import find_run
from qad_core.errors import ExitCode, RunError
from qad_core.launch.alone import DROPPED, run_alone
from qad_core.launch.requirements import require_trainer
from qad_core.run.export_report import ExportAnswer, ExportReport
from qad_core.run.folder import RunFolder
from qad_core.run.new_folder import refuse_anything_at
from qad_core.run.show import count_of

_GIB, _MIB = 2**30, 2**20


def export(run: str, roots: Sequence[Path], out: Path, *, step: int | None, as_json: bool) -> int:
    """Export a run's newest whole checkpoint, or that of `step`, into the new folder `out`, and show what it holds."""
    folder = find_run(run, roots).folder
    report = run_export(folder, out, step=step)
    if as_json:
        print_json({**report.model_dump(), "vllm": serve_command(Path(report.out))})
    else:
        show_report(report, console())
    return ExitCode.DONE


def run_export(run: RunFolder, out: Path, *, step: int | None = None) -> ExportReport:
    """Export in a process of its own, whose progress goes to standard error; what the libraries print is dropped.

    Raises RunError for what can be seen from here, and as `run_alone`.
    """
    out = out.expanduser().absolute()
    refuse_anything_at(out)
    if not run.config.is_file():
        raise RunError(
            f"The run {run.name} has no config.yaml.", "Only runs that this program has made can be exported."
        )
    require_trainer()
    arguments = [str(run.path.absolute()), "--out", str(out), *([] if step is None else ["--step", str(step)])]
    return run_alone("The export", "qad_core.train.export", arguments, ExportAnswer, output=DROPPED)


def serve_command(exported: Path) -> str:
    """The command line that serves an exported folder with vLLM.

    vLLM also finds the method by itself; one that is too old for it refuses the name in words.
    """
    argv = ["vllm", "serve", str(exported), "--quantization", "modelopt_fp4"]
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    if config["dtype"] == "float32":
        argv += ["--dtype", "bfloat16"]  # it has no NVFP4 products in float32, and would take float16 for it
    return shlex.join(argv)


def show_report(report: ExportReport, out: Console) -> None:
    """What was written, what it was held against, and how to serve it."""
    checks = report.verification
    table = make_table("", "")
    table.add_row("exported", report.out)
    table.add_row("from", f"{report.checkpoint} (step {report.step:,})")
    shards = count_of(report.files, "safetensors file")
    table.add_row("size", f"{_size(report.bytes)} in {shards}, {report.compression:.2f} times less than in bfloat16")
    packed = f"{report.quantized_bits_per_weight:.2f} bits a weight"
    table.add_row("quantized", f"{report.quantized_linears:,} linears in {report.algorithm}: {packed}")
    table.add_row("plain", f"{report.plain_tensors:,} tensors in {report.plain_dtype}")
    table.add_row("over all", f"{report.bits_per_weight:.2f} bits for each of {report.weights:,} weights")
    table.add_row("tokenizer", ", ".join(report.tokenizer_files) or "none: the run's has no files")
    table.add_row("verified", f"all {checks.tensors:,} tensors, read back, are the student's bit for bit")
    table.add_row(
        "",
        f"logits on {checks.tokens:,} tokens ({checks.token_source}): differ by {checks.logits_difference:.1g} of the "
        f"largest, inputs of the linears by {checks.input_difference:.1g}; float32 may by {checks.bound:.1g}",
    )
    table.add_row("took", f"{report.seconds:.1f} s, {report.verification_seconds:.1f} s of it the verification")
    out.print(table)
    out.print(f"\nServe it:  {serve_command(Path(report.out))}", markup=False, soft_wrap=True)


def _size(count: int) -> str:
    return f"{count / _GIB:.2f} GiB" if count >= _GIB else f"{count / _MIB:.1f} MiB"
