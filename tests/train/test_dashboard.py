"""`qad_core dashboard` against a real TensorBoard: it answers on loopback with a run's scalars, and Ctrl-C ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from qad_core.config.load import load_experiment
from qad_core.run.folder import RunFolder
from qad_core.run.tfrecord import Scalar, ScalarParser
from qad_core.train.report import Reporter
from tests.ranks import find_free_port

STEP = {
    "step": 1, "time": 1.0, "loss/kd": 0.5, "learning_rate": 1e-6, "grad_norm": 2.0, "skipped": 0,
    "step_ms": 1500.0, "tokens_per_s": 100.0, "memory_gib": 2.0,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs" / "one")


def make_run(path: Path) -> RunFolder:
    """A run folder whose trainer has told one step."""
    folder = RunFolder(path)
    path.mkdir(parents=True)
    reporter = Reporter(folder, load_experiment("tiny", [], {}).config, rank=0, started=time.time())
    reporter.open_metrics(0)
    reporter.step(dict(STEP))
    reporter.ended("done", exit_code=0)
    return folder


def test_event_files_have_the_scripts_places_names_and_units(run: RunFolder) -> None:
    (events,) = run.path.glob("tensorboard/tiny/events.out.tfevents.*")
    scalars: list[Scalar] = []
    ScalarParser().parse(events.read_bytes(), scalars)
    values = {tag: value for _step, _time, tag, value in scalars}
    assert values["logits distillation loss"] == 0.5
    assert values["iteration-time"] == 1.5  # seconds
    assert values["mem-allocated-bytes"] == 2 * 2**30
    assert values["learning-rate"] == pytest.approx(1e-6)
    assert values["grad-norm"] == 2


def test_a_run_is_shown_on_loopback_until_ctrl_c(run: RunFolder) -> None:
    port = find_free_port()
    process = start(str(run.path), "--port", str(port), environment={"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"})
    try:
        url = first_url(process)
        assert url == f"http://127.0.0.1:{port}/"
        assert f"ssh -N -L {port}:127.0.0.1:{port} " in process.stdout.readline()
        assert tags(url) >= {"tiny/logits distillation loss", "tiny/iteration-time"}
        query = urllib.parse.urlencode({"run": "tiny", "tag": "logits distillation loss"})
        assert [row[1:] for row in ask(f"{url}data/plugin/scalars/scalars?{query}")] == [[1, 0.5]]
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=2)


def test_several_runs_are_shown_by_their_names_on_the_next_free_port(run: RunFolder) -> None:
    other = make_run(run.path.parent / "two")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 6006))
            taken.listen()
        except OSError:
            pass  # somebody else's, which is as well taken
        process = start("one", "two", "--root", str(other.path.parent))
        try:
            url = first_url(process)
            assert int(url.rstrip("/").rpartition(":")[2]) > 6006
            assert tags(url) >= {"one/tiny/grad-norm", "two/tiny/grad-norm"}
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_named_port_that_is_taken_is_said(run: RunFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(str(run.path), "--port", str(port))
        assert process.wait(60) == 2
    assert f"Port {port} is taken" in process.stdout.read()


def start(*arguments: str, environment: dict[str, str] | None = None) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "qad_core.cli", "dashboard", *arguments],
        env={**os.environ, "SSH_CONNECTION": "", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def first_url(process: Any) -> str:
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + (process.stdout.read() if process.poll() is not None else "")
    return found[0]


def tags(url: str) -> set[str]:
    """`RUN/TAG` of every scalar that TensorBoard has read, once it has read any."""
    deadline = time.monotonic() + 60
    while not (found := ask(f"{url}data/plugin/scalars/tags")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return {f"{name}/{tag}" for name, of_run in found.items() for tag in of_run}


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)
