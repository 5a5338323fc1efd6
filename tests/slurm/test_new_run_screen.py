"""The form of a new run on a real SLURM: what it refuses, and a chain that is submitted by keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import read_jobs
from qad_core.slurm.client import SlurmClient
from qad_tui.app import QadApp
from qad_tui.panes.form import FormPane
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.start_run import StartRunScreen
from qad_tui.settings import HOME_VARIABLE
from qad_tui.widgets.config_form import ConfigForm
from qad_tui.widgets.draft_summary import DraftSummary
from qad_tui.widgets.script_preview import ScriptPreview
from qad_tui.widgets.status_card import StatusCard
from tests.slurm.cluster import SlurmCluster
from tests.slurm.tiny_chain import REPOSITORY, job_states
from tests.tui.conftest import WIDE, wait_until, words

PARTITION = "cluster.slurm.partition"


@pytest.fixture
def app(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QadApp:
    """The screen on a login node of the cluster."""
    monkeypatch.chdir(REPOSITORY)  # what a job works in
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv("QAD_CHECKPOINT_ROOT", str(tmp_path / "runs"))
    monkeypatch.setenv("DATACACHE_DIR", str(tmp_path / "data"))
    for name, value in slurm.environ.items():
        monkeypatch.setenv(name, value)
    return QadApp([tmp_path / "runs"], poll_seconds=0.2, client=SlurmClient())


async def test_a_chain_of_two_links_behind_another_job_is_submitted_by_keys(app: QadApp, slurm: SlurmCluster) -> None:
    other = slurm.run(["sbatch", "--parsable", "--hold", "--wrap", "true"]).stdout.strip()
    async with app.run_test(size=WIDE, notifications=True) as pilot:
        app.new_run("tiny", ["cluster=slurm-cpu-2-nodes", f"{PARTITION}=nope"])
        await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen) and bool(app.screen.query(ScriptPreview)))
        screen = app.screen
        assert isinstance(screen, NewRunScreen)
        await wait_until(pilot, lambda: screen.is_checked)
        await pilot.press("a")
        await wait_until(pilot, lambda: "✗ refuses" in words(app, DraftSummary))
        form = screen.query_one(ConfigForm)
        assert [row.key for row in form.rows if row.problems] == [PARTITION]
        screen.query_one(FormPane).go_to(PARTITION)
        await pilot.press("x")
        await wait_until(pilot, lambda: screen.is_checked)
        await pilot.press("a")
        await wait_until(pilot, lambda: "✓ takes the job" in words(app, DraftSummary))
        await submit(app, pilot, links="2", after=other)
        folder = RunFolder(app.roots[0] / screen.draft.config.run_name)  # type: ignore[union-attr]
        first, second = read_jobs(folder.jobs)
        assert app.screen.path == folder.path  # type: ignore[attr-defined]
        assert first.dependency == f"afterany:{other}" and second.dependency == f"afterany:{first.slurm_job_id}"
        assert job_states(slurm, [first.slurm_job_id, second.slurm_job_id]) == ["PENDING", "PENDING"]
        await wait_until(pilot, lambda: bool(app.screen.query(StatusCard)) and bool(words(app, StatusCard)))


async def submit(app: QadApp, pilot: Pilot[None], *, links: str, after: str) -> None:
    """Fill in the last question and say yes."""
    await pilot.press("S")
    await wait_until(pilot, lambda: isinstance(app.screen, StartRunScreen) and bool(app.screen.query("#job")))
    app.screen.query_one("#links", Input).value = links
    app.screen.query_one("#after").focus()
    await pilot.press("enter", "down", "down", "enter")  # afterany
    app.screen.query_one("#job", Input).value = after
    preview, choices = app.screen.query_one(ScriptPreview), app.screen.query_one(OptionList)
    await wait_until(pilot, lambda: f"--dependency=afterany:{after}" in preview.text)
    await wait_until(pilot, lambda: not choices.get_option("yes").disabled)
    choices.focus()
    await pilot.press("j", "enter")
    await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen))
