"""`qad_core export` refuses in words before anything is built, and shows what was written and how to serve it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.commands.export import serve_command, show_report
from qad_core.commands.output import console
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.errors import ExitCode
from qad_core.run.export_report import ExportReport, Verification
from qad_core.run.folder import RunFolder

REPORT = ExportReport(
    out="/models/student",
    checkpoint="/runs/one/checkpoints/tiny/iter_0000008",
    step=8,
    algorithm="NVFP4",
    plain_dtype="bfloat16",
    files=2,
    bytes=5 * 2**30,
    quantized_linears=28,
    plain_tensors=19,
    weights=9_000_000_000,
    bits_per_weight=4.77,
    quantized_bits_per_weight=4.5,
    compression=3.35,
    tokenizer_files=("tokenizer.json",),
    seconds=61.5,
    verification_seconds=20.5,
    verification=Verification(
        tensors=131,
        tokens=128,
        token_source="held-out data",
        input_difference=1e-6,
        logits_difference=2e-6,
        bound=3e-5,
    ),
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has trained nothing yet."""
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.logs.mkdir(parents=True)
    folder.config.write_text(dump_resolved(load_experiment("tiny", [], {})), encoding="utf-8")
    return folder


def test_a_place_that_is_taken_is_refused(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run.path), "--out", str(tmp_path), "--json"]) == ExitCode.USER_ERROR
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["what"] == f"{tmp_path} is there already."


def test_a_run_without_a_checkpoint_is_refused_by_the_exporting_process_in_words(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")  # as in a job of several ranks, which this process is none of
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert main(["export", str(run.path), "--out", str(tmp_path / "out"), "--json"]) == ExitCode.USER_ERROR
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["what"] == f"{run.checkpoints('tiny')} has no whole checkpoint"
    assert not (tmp_path / "out").exists()


def test_the_report_says_what_was_written_and_how_to_serve_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a student"
    out.mkdir()
    (out / "config.json").write_text('{"dtype": "bfloat16"}')
    show_report(REPORT.model_copy(update={"out": str(out)}), console())
    said = capsys.readouterr().out
    for promised in (
        "5.00 GiB in 2 safetensors files, 3.35 times less than in bfloat16",
        "28 linears in NVFP4: 4.50 bits a weight",
        "4.77 bits for each of 9,000,000,000 weights",
        "all 131 tensors, read back, are the student's bit for bit",
        "differ by 2e-06 of the largest",
        f"vllm serve '{out}' --quantization modelopt_fp4",
    ):
        assert promised in said
    (out / "config.json").write_text('{"dtype": "float32"}')
    assert serve_command(out).endswith("--quantization modelopt_fp4 --dtype bfloat16")
