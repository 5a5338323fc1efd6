"""Runs of other scripts in the list: their step, loss and health come from their event files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.run.store import RunStore
from tests.core.made_events import write_events

LOSS = "lm loss"


def falling(count: int) -> list[float]:
    return [float(count - place) for place in range(count)]


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files of a few kilobytes are large."""
    monkeypatch.setattr("qad_core.run.metrics_digest.WHOLE_BYTES", 10_000)
    monkeypatch.setattr("qad_core.run.events.SAMPLE_BYTES", 500)
    monkeypatch.setattr("qad_core.run.events.SAMPLES", 20)
    yield


def test_status_shows_their_step_loss_and_last_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_events(tmp_path / "old", {LOSS: falling(4), "iteration-time": [1.5] * 4})
    os.utime(path, (1e9, 1e9))
    assert main(["status", "--root", str(tmp_path), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["data"]
    assert (run["state"], run["step"], run["loss"], run["updated"]) == ("foreign", 4, 1.0, 1e9)


def test_their_health_is_looked_at(tmp_path: Path) -> None:
    write_events(tmp_path / "old", {LOSS: [2.0, float("nan")]})
    (finding,) = RunStore([]).summarize(tmp_path / "old").findings
    assert (finding.rule, finding.step) == ("non-finite", 2)


def test_a_look_takes_what_is_new_and_changes_nothing_where_nothing_is(tmp_path: Path) -> None:
    path = write_events(tmp_path / "old", {LOSS: falling(10), "grad-norm": falling(10)})
    whole, store = path.read_bytes(), RunStore([])
    path.write_bytes(whole[:-40])  # the last step without its gradient norm
    before = store.summarize(tmp_path / "old")
    assert before.last_training is not None and "grad_norm" not in before.last_training
    assert store.summarize(tmp_path / "old") is before
    path.write_bytes(b"x" * 100 + whole[100:])  # what was read is not read again
    after = store.summarize(tmp_path / "old")
    assert after.last_training is not None and after.last_training["grad_norm"] == 1.0
    assert (after.step, after.loss, len(after.loss_history)) == (10, 1.0, 10)


def test_a_later_start_goes_on_and_takes_back_the_evaluations_that_it_does_again(tmp_path: Path) -> None:
    store, validation = RunStore([]), f"{LOSS} validation"
    write_events(tmp_path / "old", {LOSS: falling(9), validation: falling(9)})
    assert store.summarize(tmp_path / "old").step == 9
    write_events(tmp_path / "old", {LOSS: [5.5], validation: [5.25]}, first_step=5, start=2)
    run = store.summarize(tmp_path / "old")
    assert (run.step, run.loss, len(run.evaluations), run.evaluations[-1]["eval/ce"]) == (5, 5.5, 5, 5.25)


@pytest.mark.usefixtures("small_samples")
def test_of_large_files_the_newest_step_is_right_and_the_loss_is_that_of_all_of_it(tmp_path: Path) -> None:
    write_events(tmp_path / "old", {LOSS: [9e9] * 100})
    path = write_events(tmp_path / "old", {LOSS: falling(2000), f"{LOSS} validation": [1.0]}, start=2)
    whole, store = path.read_bytes(), RunStore([])
    path.write_bytes(whole[:-70])
    run = store.summarize(tmp_path / "old")
    assert (run.step, run.loss, run.evaluations) == (1998, 3.0, ())
    assert run.loss_history[0] > 1900 and run.loss_history[-1] < 100
    assert list(run.loss_history) == sorted(run.loss_history, reverse=True) and len(run.loss_history) >= 24
    path.write_bytes(whole)
    write_events(tmp_path / "old", {f"{LOSS} validation": [0.5]}, first_step=2000, start=3)
    run = store.summarize(tmp_path / "old")
    assert (run.step, [line["eval/ce"] for line in run.evaluations]) == (2000, [0.5])


@pytest.mark.usefixtures("small_samples")
def test_a_large_file_whose_end_is_no_record_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = write_events(tmp_path / "old", {LOSS: falling(500)})
    path.write_bytes(path.read_bytes() + b"x" * 1000)
    assert RunStore([]).summarize(tmp_path / "old").step == 500


def test_a_folder_without_event_files_is_listed_with_nothing_known(tmp_path: Path) -> None:
    for name in ("checkpoints", "tensorboard"):
        (tmp_path / "old" / name).mkdir(parents=True)
    run = RunStore([]).summarize(tmp_path / "old")
    assert (run.state, run.step, run.loss, run.updated) == ("foreign", 0, None, 0)
