"""Paths that a person may write and no file can have, or that may not be looked at: said beside the field."""

from __future__ import annotations

import pytest

from qad_core.config.value_text import value_text
from qad_core.config.values import parse_yaml
from qad_core.errors import ConfigError
from qad_core.launch.draft import examine_draft
from qad_core.run.jobs import Job
from qad_core.slurm.failures import question_failure

TOO_LONG = "x" * 300


@pytest.mark.parametrize(
    ("override", "where"),
    [
        (f"model.weights={TOO_LONG}", "model.weights"),
        (f"model.tokenizer={TOO_LONG}/a", "model.tokenizer"),
        (f"dataset.source.paths={TOO_LONG}", "dataset.source.paths"),
        ("model.weights=a\0b", "model.weights"),
    ],
)
def test_a_path_that_no_file_can_have_is_a_problem_of_its_field(override: str, where: str) -> None:
    draft = examine_draft("tiny", [override, "dataset.source.kind=text"], {})
    assert any(where in problem.problem.where for problem in draft.problems)


def test_a_name_that_no_file_can_have_is_no_experiment() -> None:
    (problem, *_) = examine_draft(f"{TOO_LONG}/x.yaml", (), {}).problems
    assert "there is no experiment file" in problem.problem.what


def test_a_value_that_holds_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a YAML value"):
        parse_yaml("{a: &x [*x]}")


def test_a_text_with_control_characters_is_shown_quoted_and_read_back() -> None:
    shown = value_text("a\x1b[31m😀")
    assert shown.isprintable() and parse_yaml(shown) == "a\x1b[31m😀"


def test_a_job_whose_log_no_file_can_be_is_none() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Job.model_validate({"id": "a", "log": "\0"})


def test_a_command_that_floods_its_errors_is_quoted_in_part_and_without_control_characters() -> None:
    said = question_failure("\x1b[31mno\n" * 1_000_000).message
    assert len(said) < 4000 and said.isprintable()
