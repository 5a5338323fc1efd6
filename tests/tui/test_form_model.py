from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.catalog import EXPERIMENT
from qad_core.config.fields import FIELDS
from qad_core.config.library import PART_FOLDERS
from qad_core.config.problems import Problem
from qad_core.launch.draft import Draft, DraftProblem, ShownValue
from qad_tui.form_model import FRESH, FormModel, choices_of, same_value, type_words
from qad_tui.form_rows import MAIN, Row, form_rows, group_keys, short_origin
from qad_tui.widgets.config_field import row_lines

LR, SEED = "train.learning_rate", "train.seed"
KNOWN = Draft(
    parts={"model": "tiny"},
    values={LR: ShownValue("3e-4", "file configs/experiments/tiny.yaml"), SEED: ShownValue("1234", "default")},
    problems=(),
)


def rows_of(form: FormModel, *problems: DraftProblem, opened: tuple[str, ...] = (), search: str = "") -> dict[str, Row]:
    draft = Draft(KNOWN.parts, KNOWN.values, problems)
    return {row.key: row for row in form_rows(form, draft, {}, opened, search) if not row.is_group}


def test_overrides_name_parts_first_and_then_fields_in_the_schemas_order() -> None:
    form = FormModel("tiny").with_change(SEED, "1").with_change(LR, "1e-5").with_change("model", "qwen3-8b")
    assert form.overrides == ["model=qwen3-8b", f"{LR}=1e-5", f"{SEED}=1"]
    assert form.without([LR]).overrides == ["model=qwen3-8b", f"{SEED}=1"]


def test_another_experiment_drops_the_changes() -> None:
    assert FormModel("tiny", {LR: "1"}, fresh=True).with_change(EXPERIMENT, "demo") == FormModel("demo")


def test_a_run_is_cloned_by_its_folder_or_its_config(tmp_path: Path) -> None:
    run = tmp_path / "a-run"
    run.mkdir()
    by_folder = FormModel.from_run(run, ["train.recompute=full", 'cluster.slurm.extra_options=["--exclude=n1"]'])
    assert by_folder.experiment == str(run / "config.yaml") and by_folder.clone_of == "a-run"
    assert by_folder.changes["cluster.slurm.extra_options"] == '["--exclude=n1"]'
    assert FormModel.from_run(run / "config.yaml").like == run
    assert FormModel.from_run("tiny") == FormModel("tiny")


@pytest.mark.parametrize(
    ("key", "one", "other", "same"),
    [
        (LR, "1e-5", "0.00001", True),
        (LR, "1", "1.0", True),
        (LR, "1e-5", "1e-6", False),
        (LR, "[", "1", False),
        ("tag", "1e-5", "0.00001", False),
        ("cluster.slurm.setup", "a, b", '["a", "b"]', True),
        ("cluster.slurm.account", "", "null", True),
    ],
)
def test_two_texts_may_be_one_value(key: str, one: str, other: str, same: bool) -> None:
    assert same_value(key, one, other) is same


def test_every_field_of_the_schema_is_in_one_group() -> None:
    shown = [key for keys in group_keys().values() for key in keys]
    fields = {key for key, field in FIELDS.items() if field.section is None}
    assert len(shown) == len(set(shown))
    assert fields | set(PART_FOLDERS) | {EXPERIMENT, FRESH} <= set(shown)
    assert all(type_words(key) for key in shown if key in fields)
    assert choices_of("quantization.format") == ("none", "nvfp4") and choices_of("cluster.slurm.requeue")


def test_a_closed_group_shows_what_is_changed_or_wrong() -> None:
    wrong = DraftProblem(Problem("seed is odd", "", ""), (SEED,))
    form = FormModel("tiny", {"cluster.slurm.qos": "high"})
    shown = rows_of(form, wrong)
    assert {key for key in shown if key not in group_keys()[MAIN]} == {"cluster.slurm.qos", SEED}
    assert shown[SEED].problems == (wrong.problem,) and shown["cluster.slurm.qos"].changed
    assert "train.adam_beta1" in rows_of(form, opened=("train",))


def test_a_problem_is_told_beside_the_field_that_was_changed() -> None:
    both = DraftProblem(Problem("they do not fit", "", ""), ("train.global_batch_size", "train.micro_batch_size"))
    unchanged = rows_of(FormModel("tiny"), both)
    assert unchanged["train.global_batch_size"].problems and unchanged["train.micro_batch_size"].wrong
    changed = rows_of(FormModel("tiny", {"train.micro_batch_size": "3"}), both)
    assert changed["train.micro_batch_size"].problems and not changed["train.global_batch_size"].problems


def test_a_search_finds_names_values_and_descriptions() -> None:
    form = FormModel("tiny", {"cluster.slurm.account": "nobel"})
    assert list(rows_of(form, search="warm")) == ["train.warmup_fraction"]
    assert "cluster.slurm.account" in rows_of(form, search="NOBEL")
    assert "parallelism.expert_model_parallel_size" in rows_of(form, search="experts mixture")
    assert rows_of(form, search="no such thing") == {}


def test_a_changed_field_says_what_it_was_and_where_that_came_from() -> None:
    row = rows_of(FormModel("tiny", {LR: "1e-5"}))[LR]
    assert (row.value, row.note) == ("1e-5", "was 3e-4, experiments/tiny.yaml")
    assert rows_of(FormModel("tiny"))[LR].note == "experiments/tiny.yaml"
    assert short_origin("environment LR") == "$LR" and short_origin("default") == "default"


@pytest.mark.parametrize("width", [30, 60, 80, 160])
def test_no_line_is_wider_than_the_form(width: int) -> None:
    problem = Problem("something " * 20, "", "do " * 60)
    row = Row("a.b", "a_name_that_is_far_too_long_for_its_column", value="v" * 200, note="n" * 200, problems=(problem,))
    lines = ["".join(span.text for span in line) for line in row_lines(row, width)]
    assert len(lines) > 3 and all(len(line) <= max(width, 48) for line in lines)
