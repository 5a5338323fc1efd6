"""Numbers as a person reads them: a gap that has grown is said in words, everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.run.metrics import MetricsLine
from qad_core.run.show import count_of, is_worse, show_verdict, show_won_back
from tests.core.test_comparison import make_run

DIVERGED: list[MetricsLine] = [
    {"step": 0, "time": 1.0, "eval/kl": 0.02, "eval/tokens": 64},
    {"step": 1, "time": 2.0, "loss/kd": 0.5},
    {"step": 1, "time": 2.5, "eval/kl": 0.6646, "eval/tokens": 64},
]


@pytest.mark.parametrize(
    ("recovered", "words", "brief"),
    [
        (None, "-", "-"),
        (0.3641, "36.4 %", "36.4 %"),
        (0.0, "0.0 %", "0.0 %"),
        (-0.001, "0.0 %", "0.0 %"),
        (-0.5, "worse than at step 0: KL x1.50", "KL x1.50"),
        (-32.23, "worse than at step 0: KL x33", "KL x33"),
        (-1e7, "worse than at step 0: KL x1e+07", "KL x1e+07"),
    ],
)
def test_a_share_that_is_negative_is_said_as_a_kl_that_has_grown(
    recovered: float | None, words: str, brief: str
) -> None:
    assert show_won_back(recovered) == words
    assert show_won_back(recovered, brief=True) == brief
    assert is_worse(recovered) == ("worse" in words)


@pytest.mark.parametrize(("count", "words"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1200, "1,200 steps")])
def test_one_thing_is_counted_in_the_singular(count: int, words: str) -> None:
    assert count_of(count, "step") == words


def test_within_a_sentence_the_share_says_of_what() -> None:
    assert show_verdict(0.364, digits=0) == "36 % of the KL gap won back"
    assert show_verdict(-11.0) == "worse than at step 0: KL x12"


@pytest.mark.parametrize("command", ["status", "metrics", "compare"])
def test_no_command_prints_a_negative_share(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(make_run(tmp_path, name, DIVERGED).path) for name in "ab"]
    assert main([command, *(paths if command == "compare" else paths[:1])]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "KL x33" in said and "-32" not in said
