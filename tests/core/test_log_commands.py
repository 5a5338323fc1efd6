from __future__ import annotations

import json
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.errors import ExitCode

LINES = ["step 1", "step 2", "ERROR  RuntimeError: CUDA out of memory", "step 3", "Step 12"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run with a log of each of two ranks, and one of its SLURM job."""
    run = tmp_path / "runs" / "a-run"
    (run / "logs").mkdir(parents=True)
    (run / "config.yaml").write_text("loss: qad\n")
    (run / "logs" / "student_qad_2026-01-01_12-00-00.log").write_text("\n".join(LINES) + "\n")
    (run / "logs" / "student_qad_2026-01-01_12-00-00_rank1.log").write_text("all is well\n")
    (tmp_path / "job_77.log").write_text("the job speaks\n")
    job = {"id": "slurm-a", "kind": "slurm", "slurm_job_id": "77", "started": 1.0, "log": str(tmp_path / "job_%j.log")}
    (run / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    return run.parent


def test_logs_finds_lines_and_the_first_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(*options: str) -> str:
        assert main(["logs", "a-run", "--root", str(root), *options]) == ExitCode.DONE
        return capsys.readouterr().out

    assert say("--search", r"step \d+") == "1:step 1\n2:step 2\n4:step 3\n5:Step 12\n"
    assert say("--search", "STEP 2") == "2:step 2\n"
    assert say("--search", "nowhere") == ""
    assert say("--first-error", "-n", "2") == f"3:{LINES[2]}\n4:step 3\n"
    assert say("--first-error", "--rank", "1") == ""
    found = json.loads(say("--search", "step 3", "--json"))["data"]
    assert found["lines"] == [{"number": 4, "offset": 54, "text": "step 3"}]
    assert json.loads(say("--first-error", "--json"))["data"]["line"]["number"] == 3


def test_logs_lists_every_log_and_prints_that_of_a_job(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "a-run", "--root", str(root), "--list", "--json"]) == ExitCode.DONE
    listed = json.loads(capsys.readouterr().out)["data"]
    assert [(one["kind"], one["rank"], one["start"]) for one in listed] == [
        ("rank", 0, 1),
        ("rank", 1, 1),
        ("job", 0, 1),
    ]
    assert main(["logs", "a-run", "--root", str(root), "--job", "77"]) == ExitCode.DONE
    assert capsys.readouterr().out == "the job speaks\n"
    assert main(["logs", "a-run", "--root", str(root), "--job", "78"]) == ExitCode.USER_ERROR
    assert "has no log of job 78" in capsys.readouterr().err
