"""Event files as TensorBoard's own writer makes them, and what is read of them without TensorBoard."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from qad_core.cli import main
from qad_core.run.events import EventReader, read_event_lines, read_run_lines
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, MetricsWriter
from qad_core.run.tfrecord import masked_crc32c, parse_event

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write `tag=values` from a first step on into a new event file, the later the `start`; its path."""

    def write_file(start: int, first_step: int, folder: str = "tensorboard/model", **tags: list[float]) -> Path:
        writer = SummaryWriter(str(tmp_path / folder), filename_suffix=f".{start}")
        for place in range(max(map(len, tags.values()))):
            for tag, values in tags.items():
                if place < len(values):
                    writer.add_scalar(tag.replace("_", "-"), values[place], first_step + place, walltime=1e9 + place)
        writer.close()
        (made,) = (tmp_path / folder).glob(f"*.{start}")
        return made.rename(made.with_name(f"events.out.tfevents.{1_700_000_000 + start}.host"))

    yield write_file


def values_of(lines: list[MetricsLine], key: str) -> dict[int, float | int | None]:
    return {int(line["step"] or 0): line[key] for line in lines if key in line}


def test_every_kind_of_scalar_is_read_as_it_was_written_and_all_else_is_passed_over(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    writer.add_text("words", "no number", 1)
    writer.add_histogram("weights", torch.arange(10.0), 1)
    writer.add_scalar("zero", 0.5, 0, walltime=12.25)
    writer.add_scalar("plain", 1.5, 3, walltime=13.25)
    writer.add_scalar("new style", 2.5, 3, walltime=14.25, new_style=True)
    writer.add_scalar("double", 3.5, 4, new_style=True, double_precision=True)
    writer.add_scalar("far", math.nan, 2**40)
    writer.close()
    lines = read_event_lines(tmp_path)
    assert lines[0] == {"step": 0, "time": 12.25, "zero": 0.5}
    assert lines[1] == {"step": 3, "time": 14.25, "plain": 1.5, "new style": 2.5}
    assert (lines[2]["step"], lines[2]["double"]) == (4, 3.5)
    assert lines[3]["step"] == 2**40 and math.isnan(lines[3]["far"] or 0)
    assert len(lines) == 4


def test_megatron_s_tags_are_our_metrics_and_those_over_samples_are_left_out(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    writer.add_scalar("lm loss", 2.0, 7)
    writer.add_scalar("lm loss vs samples", 2.0, 7000)
    writer.add_scalar("iteration-time", 1.5, 7)
    writer.add_scalar("lm loss validation", 2.25, 7)
    writer.close()
    training, evaluation = read_event_lines(tmp_path)
    assert {key: value for key, value in training.items() if key != "time"} == {
        "step": 7, "loss/ce": 2.0, "step_ms": 1500.0,
    }  # fmt: skip
    assert evaluation["eval/ce"] == 2.25


def test_files_of_later_starts_replace_the_steps_that_they_did_again_and_all_after(
    tmp_path: Path, write: Write
) -> None:
    write(1, 1, loss=[10.0, 11.0, 12.0, 13.0], other=[1.0, 1.0, 1.0, 1.0])
    write(2, 3, loss=[22.0])
    lines = read_event_lines(tmp_path / "tensorboard")
    assert values_of(lines, "loss") == {1: 10.0, 2: 11.0, 3: 22.0}
    assert values_of(lines, "other") == {1: 1.0, 2: 1.0}


def test_a_job_that_still_writes_below_a_newer_one_changes_nothing(tmp_path: Path, write: Write) -> None:
    old = write(1, 1, loss=[10.0, 11.0])
    whole = old.read_bytes()
    old.write_bytes(whole[:-40])
    write(2, 2, loss=[21.0, 22.0])
    reader = EventReader(tmp_path)
    reader.read_new()
    old.write_bytes(whole)
    assert reader.read_new() == ([], False)


def test_files_of_two_folders_stay_apart(tmp_path: Path, write: Write) -> None:
    write(1, 1, folder="tensorboard/a", loss=[1.0])
    write(2, 1, folder="tensorboard/b", loss=[2.0])
    lines = read_event_lines(tmp_path)
    assert values_of(lines, "loss") == {1: 1.0} and values_of(lines, "b/loss") == {1: 2.0}


def test_a_record_that_is_not_whole_is_held_back_until_it_is(tmp_path: Path, write: Write) -> None:
    path = write(1, 1, loss=[10.0, 11.0])
    whole = path.read_bytes()
    reader = EventReader(tmp_path)
    seen: list[MetricsLine] = []
    for end in range(0, len(whole) + 1):
        with path.open("r+b") as file:
            file.write(whole[:end])
            file.truncate()
        batches, _ = reader.read_new()
        seen += [line for batch in batches for line in batch.lines]
    assert values_of(seen, "loss") == {1: 10.0, 2: 11.0}
    assert len(seen) == 2 and reader.bad_files == 0


def test_a_broken_length_is_called_out_and_what_stands_before_it_is_kept(tmp_path: Path, write: Write) -> None:
    path = write(1, 1, loss=[10.0, 11.0])
    path.write_bytes(path.read_bytes() + struct.pack("<QI", 30, 12345) + b"x" * 34)
    reader = EventReader(tmp_path)
    ((batch,), _) = reader.read_new()
    assert values_of(list(batch.lines), "loss") == {1: 10.0, 2: 11.0}
    assert reader.bad_files == 1
    assert reader.read_new() == ([], False)


def test_bytes_that_are_no_message_in_a_good_frame_are_called_out_too(tmp_path: Path, write: Write) -> None:
    path = write(1, 1, loss=[10.0])
    header = struct.pack("<Q", 3)
    path.write_bytes(
        path.read_bytes() + header + struct.pack("<I", masked_crc32c(header)) + b"\x0a\xff\x01" + b"\0" * 4
    )
    reader = EventReader(tmp_path)
    reader.read_new()
    assert reader.bad_files == 1


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path, write: Write) -> None:
    path = write(1, 1, loss=[10.0, 11.0])
    reader = EventReader(tmp_path)
    reader.read_new()
    other = write(2, 1, folder="elsewhere", loss=[5.0])
    other.replace(path)
    batches, restarted = reader.read_new()
    assert restarted and [dict(values_of(list(batch.lines), "loss")) for batch in batches] == [{1: 5.0}]


def test_a_folder_that_has_vanished_gives_nothing_new(tmp_path: Path, write: Write) -> None:
    path = write(1, 1, loss=[10.0])
    reader = EventReader(tmp_path / "tensorboard")
    reader.read_new()
    path.unlink()
    path.parent.rmdir()
    assert reader.read_new() == ([], False)


def test_little_is_read_at_a_time_when_asked_to(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qad_core.run.events.READ_BYTES", 100)
    write(1, 1, loss=[float(step) for step in range(50)])
    reader = EventReader(tmp_path)
    seen: list[MetricsLine] = []
    calls = 0
    while batches := reader.read_new(200)[0] or (calls == 0 and reader.read_new(200)[0]):
        seen += [line for batch in batches for line in batch.lines]
        calls += 1
    assert values_of(seen, "loss") == {step + 1: float(step) for step in range(50)} and calls > 5


@pytest.mark.parametrize("message", [b"\x2a\x7f", b"\x0f", b"\x09\x00", b"\x80"])
def test_bytes_that_are_no_message_are_refused(message: bytes) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        parse_event(message)


def test_our_own_file_wins_over_event_files(tmp_path: Path, write: Write) -> None:
    write(1, 1, loss=[10.0])
    writer = MetricsWriter(RunFolder(tmp_path).metrics)
    writer.write({"step": 1, "loss/kd": 0.5})
    writer.close()
    assert read_run_lines(RunFolder(tmp_path)) == [{"step": 1, "loss/kd": 0.5}]


def test_qad_core_metrics_shows_a_run_of_other_scripts(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(1, 1, loss=[10.0, 11.0], grad_norm=[1.0, 2.0])
    (tmp_path / "checkpoints").mkdir()
    assert main(["metrics", str(tmp_path), "--json"]) == 0
    training = json.loads(capsys.readouterr().out)["data"]["training"]
    assert [(line["step"], line["loss"], line["grad_norm"]) for line in training] == [(1, 10.0, 1.0), (2, 11.0, 2.0)]
