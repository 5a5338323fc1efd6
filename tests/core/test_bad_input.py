"""What is garbage in a run folder, an argument or an output is an answer with an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.errors import ExitCode
from qad_core.run.folder import RunFolder

ROOT = Path(__file__).parents[2]
DEEP = "[" * 100_000
GARBAGE = (
    b"\xff\xfe\x00", b"", b"{", b"null", b"7", b'"text"', b"[]", DEEP.encode(), b'{"a":' * 100_000,
    b'{"step": 1e999, "phase": "training"}', b'{"phase": "failed", "error": "\\ud800\\u001b[31m", "updated": 1}',
    b'{"id": "a", "kind": "slurm", "slurm_job_id": "12; rm"}', b'{"id": "b", "kind": "slurm", "started": 1e300}',
    b'{"id": "c", "started": NaN, "pid": 99999999999999999999}', b'{"step": 1, "eval/kl": 1e308, "time": -1e308}',
    b'{"step": 2, "eval/kl": -1e308, "loss/kd": 1e308}', b'{"phase": "training", "pid": 4611686018427387904}',
)  # fmt: skip


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunFolder:
    """A run of ours, in the working directory's runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QAD_CHECKPOINT_ROOT", raising=False)
    resolved = load_experiment("tiny", [], {})
    folder = RunFolder(Path("runs") / resolved.config.run_name)
    folder.path.mkdir(parents=True)
    folder.config.write_text(dump_resolved(resolved))
    return folder


def qad_core(*arguments: str | bytes, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "qad_core.cli", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, stdout=stdout, stderr=subprocess.PIPE, env=environ, check=False)


@pytest.mark.parametrize("name", ["status", "metrics", "jobs", "identity", "config"])
def test_garbage_in_any_file_of_a_run_is_no_traceback(folder: RunFolder, name: str) -> None:
    path: Path = getattr(folder, name)
    for garbage in (*GARBAGE, b"\n".join(GARBAGE)):
        path.write_bytes(garbage)
        run = folder.name
        for arguments in (["status"], ["status", run], ["metrics", run, "--plot", "eval/kl"], ["compare", run, run]):
            assert main(arguments) in (ExitCode.DONE, ExitCode.USER_ERROR), (name, garbage[:40], arguments)


@pytest.mark.parametrize("name", ["experiment.yaml", "experiment.conf"])
def test_a_config_that_is_nested_too_deeply_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(f"model: {'[' * 5000}" if name.endswith("yaml") else f"LR={'${A:-' * 5000}")
    assert main(["check", name]) == ExitCode.USER_ERROR
    assert main(["check", "tiny", f"train.seed={'[' * 5000}"]) == ExitCode.USER_ERROR


def test_an_argument_that_is_not_utf_8_is_refused() -> None:
    done = qad_core("check", "tiny", b"tag=caf\xe9")
    assert done.returncode == ExitCode.USER_ERROR
    assert b"is not UTF-8 text" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["status"], ["config", "show", "tiny"], ["check", "tinny", "--json"]])
def test_an_output_that_takes_no_more_is_said_on_stderr(folder: RunFolder, arguments: list[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = qad_core(*arguments, stdout=full)
    os.close(full)
    assert done.returncode == ExitCode.OUTSIDE_FAILED
    assert b"error: " in done.stderr and b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_a_reader_that_leaves_early_is_no_failure(folder: RunFolder) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["config", "show", "tiny"], ["status"]):
        done = qad_core(*arguments, stdout=writer)
        assert (done.returncode, done.stderr) == (ExitCode.DONE, b"")
    os.close(writer)


def test_an_error_of_the_status_is_shown_without_secrets_and_in_time(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    token = "hf_AbCdEfGhIjKlMnOpQrStUv"
    error = f"401 for https://me:s3cr3t@host with {token} " + "x" * 10_000_000
    status = {"phase": "failed", "error": error, "hint": f"HF_TOKEN={token}", "reason": token, "exit_code": 2}
    folder.status.write_text(json.dumps(status))
    began = time.monotonic()
    for arguments in (["status"], ["status", folder.name], ["status", folder.name, "--json"]):
        assert main(arguments) == ExitCode.DONE
        shown = capsys.readouterr().out
        assert "401 for https://me:***@host with hf_***" in shown
        assert token not in shown and "s3cr3t" not in shown and len(shown) < 50_000
    assert time.monotonic() - began < 10
