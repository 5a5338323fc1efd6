from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.config.load import dump_resolved, load_experiment
from qad_core.run.comparison import find_differences, result_rows
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, encode_line
from qad_core.run.store import summarize_run
from qad_core.run.svg_chart import WIDTH
from tests.core.made_events import write_events


def make_run(root: Path, name: str, lines: Sequence[MetricsLine], overrides: Sequence[str] = ()) -> RunFolder:
    """A run folder with a config and metrics."""
    folder = RunFolder(root / name)
    folder.path.mkdir(parents=True)
    folder.config.write_text(dump_resolved(load_experiment("tiny", overrides, {})), encoding="utf-8")
    folder.metrics.write_text("".join(encode_line(line) + "\n" for line in lines), encoding="utf-8")
    return folder


LINES: list[MetricsLine] = [
    {"step": 0, "time": 1.0, "eval/kl": 0.4, "eval/tokens": 64},
    {"step": 1, "time": 2.0, "loss/kd": 0.5, "grad_norm": 1.0},
    {"step": 2, "time": 3.0, "loss/kd": math.nan, "grad_norm": None},
    {"step": 2, "time": 3.5, "eval/kl": 0.1, "eval/tokens": 64},
]


def test_differences_name_the_keys_and_each_runs_value(tmp_path: Path) -> None:
    make_run(tmp_path, "a", LINES)
    make_run(tmp_path, "b", LINES, ["train.learning_rate=2e-3", "tag=b"])
    found = find_differences([summarize_run(tmp_path / name) for name in "ab"])
    assert set(found.values) == {"train.learning_rate", "tag"}
    assert found.values["train.learning_rate"][1] == 2e-3
    assert found.unknown == {}


def test_a_run_without_a_readable_config_is_named_and_makes_no_difference(tmp_path: Path) -> None:
    make_run(tmp_path, "a", LINES)
    make_run(tmp_path, "b", LINES).config.write_text("loss: [", encoding="utf-8")
    found = find_differences([summarize_run(tmp_path / name) for name in "ab"])
    assert found.values == {}
    assert list(found.unknown) == ["b"]


def test_results_say_the_share_of_the_gap_won_back(tmp_path: Path) -> None:
    make_run(tmp_path, "a", LINES)
    rows = dict(result_rows([summarize_run(tmp_path / "a")]))
    assert rows["KL, first -> last"] == ("0.4 -> 0.1",)
    assert rows["KL gap won back"] == ("75.0 %",)


def test_csv_has_every_line_with_nan_as_it_is_and_nothing_for_what_is_not_there(tmp_path: Path) -> None:
    make_run(tmp_path, "a", LINES)
    make_run(tmp_path, "b", LINES[:2])
    out = tmp_path / "out.csv"
    assert main(["compare", "a", "b", "--root", str(tmp_path), "--csv", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] + row["step"] for row in rows] == ["a0", "a1", "a2", "a2", "b0", "b1"]
    assert (rows[2]["loss/kd"], rows[2]["grad_norm"], rows[3]["eval/kl"]) == ("nan", "", "0.1")


@pytest.mark.parametrize(
    ("axis", "title", "places"),
    [("step", "step", [1, 2, 4]), ("tokens", "tokens", [64, 128, 256]), ("time", "minutes", [1 / 60, 2, 8])],
)
def test_a_chart_lies_over_steps_tokens_or_the_time_since_the_first_line(
    tmp_path: Path, axis: str, title: str, places: list[float]
) -> None:
    steps = ((1, 1.0), (2, 120.0), (4, 480.0))
    lines: list[MetricsLine] = [{"step": 0, "time": 1000.0, "eval/kl": 0.5}]
    lines += [
        {"step": step, "time": 1000 + after, "consumed_tokens": 64 * step, "loss/kd": 0.5} for step, after in steps
    ]
    make_run(tmp_path, "a", lines)
    out = tmp_path / "out.svg"
    assert main(["compare", "a", "--root", str(tmp_path), "--svg", str(out), "--x", axis]) == 0
    drawn = out.read_text(encoding="utf-8")
    found = re.search('polyline points="([^"]*)"', drawn)
    assert found and f">{title}" in drawn
    pixels = [float(point.split(",")[0]) for point in found[1].split()]
    share = [(pixel - 80) / (WIDTH - 104) for pixel in pixels]
    assert share == pytest.approx([place / places[-1] for place in places], abs=1e-3)


def test_runs_of_other_scripts_are_exported_as_ours_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_events(tmp_path / "old", {"lm loss": [2.0, 1.5]})
    csv_file, svg_file = tmp_path / "a.csv", tmp_path / "a.svg"
    arguments = ["compare", "old", "--root", str(tmp_path), "--csv", str(csv_file), "--svg", str(svg_file)]
    assert main(arguments) == 2
    assert "They have: loss/ce" in capsys.readouterr().err and not csv_file.exists()
    assert main([*arguments, "--key", "loss/ce", "--x", "tokens"]) == 2
    assert "--x step" in capsys.readouterr().err and not csv_file.exists()
    assert main([*arguments, "--key", "loss/ce"]) == 0
    with csv_file.open(encoding="utf-8", newline="") as file:
        assert [row["loss/ce"] for row in csv.DictReader(file)] == ["2.0", "1.5"]
    assert "<polyline" in svg_file.read_text(encoding="utf-8")


def test_a_chart_of_a_metric_that_no_run_has_names_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "a", LINES)
    arguments = ["compare", "a", "--root", str(tmp_path), "--svg", str(tmp_path / "out.svg")]
    assert main([*arguments, "--key", "loss/none"]) == 2
    assert "grad_norm, loss/kd" in capsys.readouterr().err
    assert main(arguments) == 0
    assert (tmp_path / "out.svg").read_text(encoding="utf-8").startswith("<svg")
