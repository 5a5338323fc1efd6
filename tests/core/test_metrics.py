"""metrics.jsonl: what a reader sees of a file that is being written, cut and replaced."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qad_core.run.metrics import (
    MetricsReader,
    MetricsWriter,
    decode_line,
    decode_lines,
    encode_line,
    read_metrics,
    sample_lines,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_a_half_written_line_is_held_back_until_it_is_whole(path: Path) -> None:
    reader = MetricsReader(path)
    append(path, '{"step": 1}\n{"step"')
    assert reader.read_new() == ([{"step": 1}], False)
    assert reader.read_new() == ([], False)
    append(path, ": 2}\n")
    assert reader.read_new() == ([{"step": 2}], False)


def test_a_file_that_was_cut_is_read_anew(path: Path) -> None:
    reader = MetricsReader(path)
    append(path, '{"step": 1}\n{"step": 2}\n')
    reader.read_new()
    path.write_text('{"step": 1}\n')
    assert reader.read_new() == ([{"step": 1}], True)


def test_a_file_that_was_replaced_is_read_anew_even_when_it_is_longer(path: Path, tmp_path: Path) -> None:
    reader = MetricsReader(path)
    append(path, '{"step": 1}\n')
    reader.read_new()
    other = tmp_path / "other"
    other.write_text('{"step": 1}\n{"step": 7}\n')
    other.rename(path)
    assert reader.read_new() == ([{"step": 1}, {"step": 7}], True)


def test_numbers_that_are_not_finite_are_strings_in_the_file_and_numbers_again_after(path: Path) -> None:
    writer = MetricsWriter(path)
    writer.write({"step": 1, "loss/kd": math.nan, "grad_norm": math.inf, "memory_gib": -math.inf, "skipped": None})
    writer.close()
    raw = json.loads(path.read_text())
    assert (raw["loss/kd"], raw["grad_norm"], raw["memory_gib"], raw["skipped"]) == ("nan", "inf", "-inf", None)
    (line,) = read_metrics(path)
    assert math.isnan(line["loss/kd"] or 0)
    assert (line["grad_norm"], line["memory_gib"]) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    "raw",
    [
        "[1]",
        "{",
        '{"step": "many"}',
        '{"step": [1]}',
        '{"step": "inf"}',
        '{"step": 1e400}',
        '{"step": true}',
        '{"step": -1}',
        '{"loss/kd": 1}',
        '{"step": 1, "loss/kd": ' + "9" * 400 + "}",
        "",
    ],
)
def test_a_line_that_is_no_object_of_numbers_with_a_whole_step_is_counted_and_passed_over(path: Path, raw: str) -> None:
    assert decode_line(raw) is None
    append(path, f'{raw}\n{{"step": 2}}\n')
    reader = MetricsReader(path)
    assert reader.read_new()[0] == [{"step": 2}]
    assert reader.bad_lines == 1


@pytest.mark.parametrize("written", ["1e100", "-1E+308", "1" + "0" * 100 + ".0"])
def test_a_number_that_no_sum_can_hold_is_read_as_infinite(path: Path, written: str) -> None:
    append(path, f'{{"step": 1, "loss/kd": {written}, "step_ms": 1e99}}\n')
    (line,) = read_metrics(path)
    assert line == {"step": 1, "loss/kd": math.copysign(math.inf, float(written)), "step_ms": 1e99}


def test_a_resume_drops_what_came_after_its_checkpoint(path: Path) -> None:
    for step in (1, 2, 3, 4):
        append(path, encode_line({"step": step}) + "\n")
    append(path, encode_line({"step": 4, "eval/kl": 0.5}) + '\n{"step": 5')
    writer = MetricsWriter(path, keep_through_step=2)
    writer.write({"step": 3, "loss/kd": 0.1})
    writer.close()
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]


def test_a_reader_that_follows_sees_the_resume(path: Path) -> None:
    for step in (1, 2, 3):
        append(path, encode_line({"step": step}) + "\n")
    reader = MetricsReader(path)
    reader.read_new()
    writer = MetricsWriter(path, keep_through_step=1)
    writer.write({"step": 2})
    lines, restarted = reader.read_new()
    writer.close()
    assert restarted and [line["step"] for line in lines] == [1, 2]


def test_lines_decoded_at_once_are_those_decoded_one_by_one() -> None:
    raws = [encode_line({"step": step, "loss/kd": 1e-5 / (step + 1), "skipped": None}) for step in range(300)]
    raws[7] = '{"step": 7, "loss/kd": "nan"}'
    odd = [
        '{"step": 8}{"step": 9}',
        '{"step": 10, "a": 12345678901234567890123}',
        '{"step": 11',
        '"a": 2}',
        "",
        "[1, 2]",
    ]
    for number, raw in enumerate([*odd, '{"step": 12, "a": 1234567890123456789}']):
        raws.insert(40 * number, raw)
    one_by_one = [decode_line(raw) for raw in raws]
    lines, bad_lines = decode_lines("".join(f"{raw}\n" for raw in raws).encode())
    assert [str(line) for line in lines] == [str(line) for line in one_by_one if line is not None]
    assert bad_lines == one_by_one.count(None) == len(odd)


def test_little_is_read_at_a_time_when_asked_to_and_a_long_line_whole(path: Path) -> None:
    append(path, '{"step": 1}\n' * 3 + '{"step": 2, "' + "a" * 500 + '": 1}\n{"step": 3}\n')
    reader = MetricsReader(path)
    counts: list[int] = []
    while lines := reader.read_new(30)[0]:
        counts.append(len(lines))
    assert counts == [2, 1, 2]


def test_samples_span_the_whole_file(path: Path) -> None:
    append(path, "".join(f'{{"step": {step}}}\n' for step in range(20_000)))
    steps = [line["step"] for line in sample_lines(path, blocks=10, block_bytes=200)]
    assert (steps[0], steps[-1]) == (0, 19_999) and 50 < len(steps) < 200
    assert steps == sorted(steps, key=lambda step: step or 0)


def test_a_reader_that_met_an_error_goes_on_from_where_it_stood(path: Path) -> None:
    append(path, '{"step": 1}\n{"step": 2}\n')
    reader = MetricsReader(path)
    reader.read_new()
    path.rename(path.with_name("away"))
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        reader.read_new()
    path.rmdir()
    path.with_name("away").rename(path)
    append(path, '{"step": 3}\n')
    assert reader.read_new() == ([{"step": 3}], False)


def test_an_absent_file_has_no_lines(path: Path) -> None:
    assert read_metrics(path) == []
