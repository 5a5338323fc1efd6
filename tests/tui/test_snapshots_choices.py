"""Pictures of what is asked before a run is started: the submission to SLURM, the parts, the runs to pick from."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Select

from qad_tui.app import QadApp
from qad_tui.panes.form import FormPane
from qad_tui.screens.compare import CompareScreen
from qad_tui.screens.pick_run import PickRunScreen
from qad_tui.screens.start_run import StartRunScreen
from qad_tui.widgets.config_form import ConfigForm
from qad_tui.widgets.part_picker import PartPicker
from qad_tui.widgets.script_preview import ScriptPreview
from tests.tui.conftest import Clock, settle, wait_until, words
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun
from tests.tui.queue_fleet import quiet_app
from tests.tui.test_promises_snapshots import keys, open_form, qad
from tests.tui.test_snapshots_runs import Compare, of_each_size

Size = tuple[int, int]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Also for the commands that the screen runs."""
    slurm = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", slurm.environ["PATH"])
    return slurm


@pytest.fixture
def app(root: Path, slurm: FakeSlurm, clock: Clock) -> QadApp:
    return quiet_app(root, slurm.client(), clock)


# Start on SLURM


def hide_what_is_below(pilot: Pilot[None]) -> None:
    """The pictures are of the box alone: the form below has its own."""
    pilot.app.screen.styles.background = "black"


async def open_submission(pilot: Pilot[None]) -> StartRunScreen:
    """The question before a submission, once SLURM and the dry run have answered."""
    app = qad(pilot)
    await open_form(pilot, "cluster=slurm-cpu-2-nodes")
    await pilot.press("S")
    await wait_until(pilot, lambda: isinstance(app.screen, StartRunScreen) and bool(app.screen.query(ScriptPreview)))
    screen = app.screen
    assert isinstance(screen, StartRunScreen)
    hide_what_is_below(pilot)
    await wait_until(pilot, lambda: can_be_submitted(screen) and "takes the job" in words(app, "#start-word"))
    return screen


def can_be_submitted(screen: StartRunScreen) -> bool:
    choices = screen.query_one(OptionList)
    return choices.option_count == 2 and not choices.get_option("yes").disabled


async def ask_for_three_links(pilot: Pilot[None], screen: StartRunScreen, after: str, job: str) -> None:
    screen.query_one("#links", Input).value = "3"
    screen.query_one("#after", Select).value = after  # pyright: ignore[reportUnknownMemberType]
    field = screen.query_one("#job", Input)
    await wait_until(pilot, lambda: not field.disabled)
    field.value = job
    field.focus()


@of_each_size
def test_the_question_before_a_submission(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_submission(pilot)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_chain_behind_another_job(
    app: QadApp, slurm: FakeSlurm, configs: None, size: Size, snap_compare: Compare
) -> None:
    slurm.show_jobs([{"JobArrayID": 4242, "State": "RUNNING", "Name": "other"}])

    async def run_before(pilot: Pilot[None]) -> None:
        screen = await open_submission(pilot)
        await ask_for_three_links(pilot, screen, "afterok", "4242")
        preview = screen.query_one(ScriptPreview)
        await wait_until(pilot, lambda: "--dependency=afterok:4242" in preview.text and can_be_submitted(screen))
        screen.action_accept()
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_chain_behind_a_job_that_there_is_not(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        screen = await open_submission(pilot)
        await ask_for_three_links(pilot, screen, "afterok", "4242")
        await wait_until(pilot, lambda: "which SLURM does not know" in words(qad(pilot), "#start-said"))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Parts


async def open_parts(pilot: Pilot[None], key: str) -> None:
    await open_form(pilot)
    pilot.app.screen.query_one(FormPane).go_to(key)
    form = pilot.app.screen.query_one(ConfigForm)
    await wait_until(pilot, lambda: form.has_focus and form.cursor_row is not None and form.cursor_row.key == key)
    await settle(pilot)
    await pilot.press("enter")
    await wait_until(pilot, lambda: isinstance(pilot.app.screen, PartPicker) and bool(pilot.app.screen.query(Input)))
    hide_what_is_below(pilot)
    await settle(pilot)


@of_each_size
def test_the_experiments_to_pick_from(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_parts(pilot, "experiment")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_no_part_of_a_name(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_parts(pilot, "experiment")
        await keys(pilot, *"qqq")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Runs


async def open_runs(pilot: Pilot[None]) -> None:
    app = qad(pilot)
    await wait_until(pilot, lambda: bool(app.fleet.rows))
    app.action_go("compare")
    await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.stands)
    await keys(pilot, "a")
    await wait_until(pilot, lambda: isinstance(app.screen, PickRunScreen))


@of_each_size
def test_the_runs_to_pick_from(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_runs(pilot)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_no_run_of_a_name(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_runs(pilot)
        await keys(pilot, *"qqq")

    assert snap_compare(app, terminal_size=size, run_before=run_before)
