from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from qad_core.config.load import load_experiment
from qad_core.launch.run_local import write_folder
from qad_core.run.folder import RunFolder
from qad_core.run.status import read_status
from qad_core.slurm.client import SlurmClient
from qad_tui.app import QadApp
from qad_tui.form_rows import Row
from qad_tui.formats import short_run_name
from qad_tui.panes.form import FormPane
from qad_tui.screens.confirm import ConfirmScreen
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.screens.save_experiment import SaveExperimentScreen
from qad_tui.screens.start_run import StartRunScreen
from qad_tui.widgets.config_form import ConfigForm
from qad_tui.widgets.draft_summary import DraftSummary
from qad_tui.widgets.field_editor import FieldEditor
from qad_tui.widgets.part_picker import PartPicker
from qad_tui.widgets.problem_list import ProblemList
from qad_tui.widgets.script_preview import ScriptPreview
from qad_tui.widgets.status_card import StatusCard
from tests.tui.conftest import NARROW, WIDE, Clock, wait_until, words
from tests.tui.fake_slurm import FakeSlurm

LR = "train.learning_rate"


@pytest.fixture(autouse=True)
def _own_configs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configs folder to save into, and no variable that sets a value."""
    Path("configs/experiments").mkdir(parents=True)
    for name in ("QAD_CONFIGS", "LR", "GBS", "MBS"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def new_run(
    app: QadApp, size: tuple[int, int] = WIDE, experiment: str = "tiny"
) -> AsyncGenerator[tuple[NewRunScreen, Pilot[None]]]:
    """The form, with an experiment picked by keys unless that is empty."""
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.press("2")
        await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.focused is not None)
        screen = app.screen
        assert isinstance(screen, NewRunScreen)
        await is_checked(pilot, screen)
        if experiment:
            await pick(pilot, experiment)
            await is_checked(pilot, screen)
        yield screen, pilot


async def is_checked(pilot: Pilot[None], screen: NewRunScreen) -> None:
    """Wait until what the screen shows is of the form as it is."""
    await wait_until(pilot, lambda: bool(screen.query("ProblemList")) and screen.is_checked)


async def pick(pilot: Pilot[None], text: str) -> None:
    """Pick for the row under the cursor."""
    await pilot.press("enter")
    await wait_until(pilot, lambda: isinstance(pilot.app.screen, PartPicker) and pilot.app.screen.is_mounted)
    await pilot.press(*text, "enter")
    await wait_until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))


async def type_value(pilot: Pilot[None], screen: NewRunScreen, key: str, text: str) -> None:
    """Replace the value of a field, without ending the edit."""
    screen.query_one(FormPane).go_to(key)
    await pilot.press("enter", "end", "ctrl+u", *("minus" if letter == "-" else letter for letter in text))


def row_of(screen: NewRunScreen, key: str) -> Row:
    return next(row for row in screen.query_one(ConfigForm).rows if row.key == key and not row.is_group)


async def test_picked_parts_are_checked_at_once_and_their_command_is_shown(app: QadApp) -> None:
    async with new_run(app, experiment="") as (screen, pilot):
        assert [item.keys for item in screen.known.problems] == [("model",), ("dataset",)]
        assert "Pick a model" in words(app, DraftSummary)
        await pilot.press("j")
        await pick(pilot, "tiny")
        await pilot.press("j")
        await pick(pilot, "made")
        await is_checked(pilot, screen)
        assert screen.form.overrides == ["model=tiny", "dataset=made-text"]
        assert screen.query_one(ScriptPreview).text.startswith("$ qad_core train blank model=tiny dataset=made-text\n")
        assert row_of(screen, "model").note.startswith("A tiny Qwen3-shaped model")


async def test_y_copies_the_whole_script(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await is_checked(pilot, screen)
        preview = screen.query_one(ScriptPreview)
        await wait_until(pilot, lambda: bool(preview.text))
        await pilot.press("y")
        assert app.clipboard == preview.text and len(preview.text.splitlines()) > 2


async def test_a_problem_comes_and_goes_beside_its_field_as_one_types(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, LR, "1e-")
        await wait_until(pilot, lambda: bool(row_of(screen, LR).problems))
        assert "a valid number" in row_of(screen, LR).problems[0].what
        assert app.focused is screen.query_one(FieldEditor)  # one goes on typing
        await pilot.press("5")
        await wait_until(pilot, lambda: not row_of(screen, LR).problems)
        await pilot.press("enter")
        await is_checked(pilot, screen)
        assert screen.form.overrides == [f"{LR}=1e-5"]
        assert row_of(screen, LR).note == "was 0.0003, experiments/tiny.yaml"
        assert "lr1e-5" in words(app, DraftSummary)


async def test_a_field_that_holds_no_number_is_marked_alone_and_the_forecast_waits_for_it(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, "train.micro_batch_size", "many")
        await is_checked(pilot, screen)
        assert [row.key for row in screen.query_one(ConfigForm).rows if row.wrong and not row.is_group] == [
            "train.micro_batch_size"
        ]
        assert "forecast  waits for train.micro_batch_size" in words(app, "DraftSummary")


async def test_escape_takes_back_what_was_typed_and_the_old_value_is_no_change(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, LR, "7")
        await pilot.press("escape")
        assert screen.form.changes == {} and row_of(screen, LR).value == "0.0003"
        await type_value(pilot, screen, LR, "3e-4")
        await pilot.press("enter")
        assert screen.form.changes == {}


async def test_keys_of_the_screen_do_not_steal_typing(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, "tag", "Swxnvqp12")
        await pilot.press("tab")
        assert screen.form.changes["tag"] == "Swxnvqp12"
        assert app.screen is screen
        row = screen.query_one(ConfigForm).cursor_row
        assert row is not None and row.key == "train.micro_batch_size"  # tab keeps, and goes to the next field


async def test_choices_are_stepped_through_or_picked_and_reset_and_undone(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        screen.query_one(FormPane).go_to("quantization.activations")
        await pilot.press("space")
        assert screen.form.changes == {"quantization.activations": "false"}
        await pilot.press("space")  # its own value again is no change
        assert screen.form.changes == {}
        screen.query_one(FormPane).go_to("train.recompute")
        await pick(pilot, "full")
        assert screen.form.changes == {"train.recompute": "full"}
        await pilot.press("x")
        assert screen.form.changes == {}
        await pilot.press("u")
        assert screen.form.changes == {"train.recompute": "full"}
        await pilot.press("X")
        assert screen.form.changes == {}


async def test_a_search_narrows_the_form_and_escape_ends_it(app: QadApp) -> None:
    async with new_run(app, NARROW) as (screen, pilot):
        await pilot.press("slash", *"warmup", "enter")
        form = screen.query_one(ConfigForm)
        assert [row.key for row in form.rows if not row.is_group] == ["train.warmup_fraction"]
        assert app.focused is form
        await pilot.press("slash", *"qqq")
        assert form.rows == () and "No field has 'qqq'" in words(app, "#doc")
        await pilot.press("enter", "escape")
        assert len(form.rows) > 20 and not screen.query_one("#search").display


async def test_a_problem_of_the_list_leads_to_its_field(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, "evaluation.sequences", "0")
        await pilot.press("enter")
        await is_checked(pilot, screen)
        problems = screen.query_one(ProblemList)
        assert problems.option_count == 1
        form = screen.query_one(ConfigForm)
        form.focus()
        await pilot.press("g", "n")
        assert form.cursor_row is not None and form.cursor_row.key == "evaluation.sequences"
        await pilot.press("g")
        problems.focus()
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: app.focused is form)
        assert form.cursor_row.key == "evaluation.sequences"


async def test_at_80_columns_form_and_script_take_turns(app: QadApp) -> None:
    async with new_run(app, NARROW) as (screen, pilot):
        assert screen.query_one(ConfigForm).region.height and not screen.query_one("#panel").region.height
        await pilot.press("v")
        await wait_until(pilot, lambda: screen.query_one("#panel").region.height > 10)
        assert not screen.query_one(ConfigForm).region.height
        assert app.focused is screen.query_one(ScriptPreview)
        await pilot.press("escape")
        assert app.focused is screen.query_one(ConfigForm)


async def test_the_form_is_saved_with_its_parts_and_changes_and_goes_on_from_there(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, LR, "1e-5")
        await pilot.press("enter", "w")
        await wait_until(pilot, lambda: isinstance(app.screen, SaveExperimentScreen))
        await wait_until(pilot, lambda: "configs/experiments/tiny-2.yaml" in words(app, "#save-said"))
        await pilot.press("tab", *"Mine", "enter")
        await wait_until(pilot, lambda: app.screen is screen)
        saved = Path("configs/experiments/tiny-2.yaml")
        assert saved.read_text().startswith("# Mine\nmodel: tiny\n") and "learning_rate: 1e-05" in saved.read_text()
        assert (screen.form.experiment, screen.form.changes) == (str(saved), {})


async def test_nothing_is_overwritten_without_a_yes(app: QadApp) -> None:
    there = Path("configs/experiments/tiny-2.yaml")
    there.write_text("model: tiny  # precious\n")
    async with new_run(app) as (screen, pilot):
        await pilot.press("w")
        await wait_until(pilot, lambda: isinstance(app.screen, SaveExperimentScreen))
        await wait_until(pilot, lambda: "is there already" in words(app, "#save-said"))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("enter")  # the cursor stands on No
        assert isinstance(app.screen, SaveExperimentScreen) and "precious" in there.read_text()
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await wait_until(pilot, lambda: app.screen is screen)
        assert "dataset: made-text" in there.read_text()


async def test_a_place_that_cannot_be_saved_to_is_said(app: QadApp) -> None:
    Path("file").write_text("")
    async with new_run(app) as (_, pilot):
        await pilot.press("w")
        await wait_until(pilot, lambda: isinstance(app.screen, SaveExperimentScreen))
        app.screen.query_one("#save-name", Input).value = "file/mine.yaml"
        await pilot.press("enter")
        await wait_until(pilot, lambda: words(app, "#save-said").startswith("✗"))
        assert "file" in words(app, "#save-said")


async def test_a_run_is_cloned_with_a_tag_of_its_own(app: QadApp) -> None:
    run = make_run()
    async with new_run(app, experiment="") as (screen, pilot):
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, PartPicker))
        await pilot.press("enter")
        await wait_until(pilot, lambda: screen.form.clone_of == run.name)
        await is_checked(pilot, screen)
        assert screen.form.changes == {"tag": "copy"} and not screen.known.problems
        assert "lr0.0003-copy" in words(app, DraftSummary)
        assert f"clone of {short_run_name(run.name)}" in words(app, "#headline")
        assert row_of(screen, "train.learning_rate").note == "as cloned"


async def test_a_clone_with_a_fix_goes_on_in_the_runs_folder(app: QadApp) -> None:
    run = make_run()
    async with app.run_test(size=WIDE) as pilot:
        app.new_run(run.path, ["train.micro_batch_size=1"])
        await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        screen = app.screen
        assert isinstance(screen, NewRunScreen)
        await is_checked(pilot, screen)
        assert screen.form.changes == {"train.micro_batch_size": "1"} and not screen.known.problems
        assert "goes on from step 20" in words(app, DraftSummary)
        assert row_of(screen, "train.micro_batch_size").note == "was 2, as cloned"
        cursor = screen.query_one(ConfigForm).cursor_row
        assert cursor is not None and cursor.key == "train.micro_batch_size"
        await pilot.press("escape")  # nothing was edited here: it leaves at once
        await wait_until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_escape_goes_where_one_came_from_and_the_form_stays(app: QadApp) -> None:
    async with new_run(app, experiment="") as (screen, pilot):
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await pilot.press("3", "2")
        await type_value(pilot, screen, "tag", "x")
        await pilot.press("enter", "escape")
        await wait_until(pilot, lambda: app.current_mode == "queue")
        await pilot.press("2")
        assert app.screen is screen and screen.form.changes == {"tag": "x"}


async def test_a_clone_comes_into_the_form_of_new_and_undo_brings_back_what_was_there(app: QadApp) -> None:
    run = make_run()
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, "tag", "mine")
        await pilot.press("enter", "1")
        await wait_until(pilot, lambda: run.path in app.fleet.rows)
        app.open_run(run.path)
        await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen) and app.screen.stands)
        detail = app.screen
        await pilot.press("C")
        await wait_until(pilot, lambda: app.screen is screen and screen.is_checked)
        assert screen.form.like == run.path and app.current_mode == "new" and len(app.open_forms) == 1
        await pilot.press("u")
        assert screen.form.changes == {"tag": "mine"}
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is detail)


async def test_a_form_with_problems_is_not_started(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, LR, "x")
        await pilot.press("enter", "g", "S")
        form = screen.query_one(ConfigForm)
        await wait_until(pilot, lambda: form.cursor_row is not None and form.cursor_row.key == LR)
        assert app.screen is screen


async def test_a_run_started_here_lives_on_and_is_opened(app: QadApp) -> None:
    async with new_run(app) as (_, pilot):
        await pilot.press("S")
        await wait_until(pilot, lambda: isinstance(app.screen, StartRunScreen))
        assert app.screen.query_one(OptionList).highlighted == 0  # No
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press("S")
        await wait_until(pilot, lambda: isinstance(app.screen, StartRunScreen))
        await pilot.press("y", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen))
        assert isinstance(app.screen, RunDetailScreen)
        folder = RunFolder(app.screen.path)
        assert str(folder.path) == "runs/tiny-Teacher-tiny-Data-made-text-lr0.0003"  # as the list of runs has it
        status = read_status(folder.status)
        assert status is not None and status.pid is not None
        try:
            assert os.getsid(status.pid) != os.getsid(0)  # it does not end with this screen
            await wait_until(pilot, lambda: bool(app.screen.query("StatusCard")))
            await wait_until(pilot, lambda: "last change" in words(app, StatusCard))
        finally:
            end_process(status.pid)


async def test_where_sbatch_is_not_there_that_is_said_and_nothing_is_submitted(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(shutil.which("sh") or "/bin/sh").parent / "nowhere"))
    app = QadApp([root], now=clock, poll_seconds=0.1, client=SlurmClient(environ=dict(os.environ)))
    async with new_run(app) as (screen, pilot):
        screen.query_one(FormPane).go_to("cluster")
        await pick(pilot, "cpu")
        await is_checked(pilot, screen)
        await pilot.press("a")
        await wait_until(pilot, lambda: "sbatch is not on the PATH" in words(app, DraftSummary))
        await pilot.press("S")
        await wait_until(pilot, lambda: isinstance(app.screen, StartRunScreen))
        await wait_until(pilot, lambda: can_say_yes(app))
        await pilot.press("y", "enter")
        await wait_until(pilot, lambda: "sbatch is not on the PATH" in words(app, "#start-said"))
        assert isinstance(app.screen, StartRunScreen) and can_say_yes(app)
        assert not list(root.glob("tiny-*"))


async def test_what_slurm_refuses_stands_beside_its_field(root: Path, clock: Clock, tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path / "slurm")
    slurm.fail(
        "sbatch",
        "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name specified",
    )
    app = QadApp([root], now=clock, poll_seconds=0.1, client=slurm.client())
    async with new_run(app) as (screen, pilot):
        screen.query_one(FormPane).go_to("cluster")
        await pick(pilot, "cpu")
        await type_value(pilot, screen, "cluster.slurm.partition", "nope")
        await pilot.press("enter")
        await is_checked(pilot, screen)
        await pilot.press("a")
        await wait_until(pilot, lambda: bool(row_of(screen, "cluster.slurm.partition").problems))
        assert "✗ refuses" in words(app, DraftSummary)
        await type_value(
            pilot, screen, "cluster.slurm.partition", "cpu"
        )  # another job: what was said is of the old one
        assert not row_of(screen, "cluster.slurm.partition").problems
        assert "before the last change" in words(app, DraftSummary)


async def test_a_dependency_that_is_none_is_refused_before_anything_is_submitted(
    root: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", slurm.environ["PATH"])
    app = QadApp([root], now=clock, poll_seconds=0.1, client=slurm.client())
    async with new_run(app) as (screen, pilot):
        screen.query_one(FormPane).go_to("cluster")
        await pick(pilot, "cpu")
        await is_checked(pilot, screen)
        await pilot.press("S")
        await wait_until(pilot, lambda: isinstance(app.screen, StartRunScreen))
        await wait_until(pilot, lambda: can_say_yes(app))
        preview = app.screen.query_one(ScriptPreview)
        assert "--links 1\n$ sbatch --parsable --comment=qad:" in preview.text and "#!/bin/bash" in preview.text
        app.screen.query_one("#links", Input).value = "2"
        await wait_until(pilot, lambda: "--dependency=afterany:JOB_OF_LINK_1" in preview.text and can_say_yes(app))
        app.screen.query_one("#after").focus()
        await pilot.press("enter", "down", "enter")  # afterok
        app.screen.query_one("#job", Input).value = "no-such-run"
        await wait_until(pilot, lambda: "no-such-run" in words(app, "#start-said"))
        assert not can_say_yes(app) and "--after afterok:no-such-run" in preview.text
        await pilot.press("escape")
        assert app.screen is screen


async def test_a_configs_folder_that_is_none_is_named(app: QadApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAD_CONFIGS", "nowhere")
    async with new_run(app, experiment="") as (screen, pilot):
        assert "QAD_CONFIGS=nowhere is not a folder" in words(app, "#new-problem")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PartPicker))
        await wait_until(pilot, lambda: "QAD_CONFIGS=nowhere" in words(app, "#none"))
        await pilot.press("escape")
        monkeypatch.delenv("QAD_CONFIGS")
        await pilot.press("r")
        await wait_until(pilot, lambda: not screen.query_one("#new-problem", Static).display)


async def test_a_part_that_is_no_yaml_is_named(app: QadApp) -> None:
    Path("configs/models").mkdir()
    Path("configs/models/broken.yaml").write_text("# Mine.\nname: [\n")
    async with new_run(app) as (screen, pilot):
        screen.query_one(FormPane).go_to("model")
        await pick(pilot, "broken")
        await is_checked(pilot, screen)
        assert "configs/models/broken.yaml is not YAML" in row_of(screen, "model").problems[0].what


def can_say_yes(app: QadApp) -> bool:
    choices = app.screen.query_one(OptionList)
    return choices.display and not choices.get_option("yes").disabled


def make_run() -> RunFolder:
    """A run as it is after step 20."""
    resolved = load_experiment("tiny", (), {})
    folder = RunFolder(Path("runs") / resolved.config.run_name)
    write_folder(folder, resolved)
    folder.tracker("tiny").write_text("20")
    folder.metrics.write_text('{"step": 1, "loss/kd": 1.0}\n')
    return folder


def end_process(pid: int) -> None:
    """End a command and its ranks."""
    process = psutil.Process(pid)
    for child in [*process.children(recursive=True), process]:
        child.send_signal(signal.SIGKILL)
    process.wait(10)


async def test_q_asks_before_an_edited_form_is_lost_and_only_then(app: QadApp) -> None:
    async with new_run(app) as (screen, pilot):
        await type_value(pilot, screen, LR, "2e-5")
        await pilot.press("enter", "1")
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen) and app.screen.is_mounted)
        await pilot.press("escape")
        assert app.is_running and app.return_code is None
        screen.query_one(FormPane).note_kept()
        await pilot.press("q")
        await wait_until(pilot, lambda: app.return_code == 0)
