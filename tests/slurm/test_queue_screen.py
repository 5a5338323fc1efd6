"""The queue's screen on a real SLURM: jobs that are really there, changed by keys."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from qad_core.slurm.client import SlurmClient
from qad_tui.app import QadApp
from qad_tui.screens.confirm import ConfirmScreen
from qad_tui.screens.queue import QueueScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.settings import HOME_VARIABLE
from qad_tui.widgets.chain_view import ChainTable
from qad_tui.widgets.queue_table import QueueTable
from tests.slurm.cluster import SlurmCluster
from tests.slurm.test_queue_command import submit
from tests.slurm.tiny_chain import REPOSITORY, LoginNode, job_states
from tests.tui.conftest import NARROW, wait_until, words


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoginNode:
    return LoginNode(slurm, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")


@asynccontextmanager
async def opened_queue(
    login: LoginNode, monkeypatch: pytest.MonkeyPatch, *jobs: str
) -> AsyncGenerator[tuple[QadApp, Pilot[None]]]:
    monkeypatch.setenv(HOME_VARIABLE, str(login.root.parent / "home"))
    monkeypatch.chdir(REPOSITORY)  # what a job works in
    client = SlurmClient(environ={**os.environ, **login.cluster.environ, "QAD_CONFIGS": str(REPOSITORY / "configs")})
    app = QadApp([login.root], poll_seconds=0.2, client=client)
    async with app.run_test(size=NARROW, notifications=True) as pilot:
        await pilot.press("3")
        await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen) and app.screen.is_mounted)
        await wait_until(pilot, lambda: set(jobs) <= {entry.job_id for entry in table_of(app).rows})
        await wait_until(pilot, lambda: app.focused is table_of(app))
        yield app, pilot


def table_of(app: QadApp) -> QueueTable:
    return app.screen.query_one(QueueTable)


async def choose(app: QadApp, pilot: Pilot[None], job_id: str) -> None:
    """Put the cursor on a job by keys."""
    ids = [entry.job_id for entry in table_of(app).rows]
    await pilot.press("g", *["j"] * ids.index(job_id))


async def answer_yes(app: QadApp, pilot: Pilot[None], *keys: str) -> None:
    await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
    await pilot.press(*keys)
    await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen | RunDetailScreen))


async def test_jobs_are_held_released_requeued_and_cancelled_by_keys(
    login: LoginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = login.cluster
    waiting, running = submit(cluster, "--begin=now+1hour"), submit(cluster)
    async with opened_queue(login, monkeypatch, waiting, running) as (app, pilot):
        table = table_of(app)

        def state_of(job_id: str) -> str:
            return next(
                words for entry in table.rows if entry.job_id == job_id for words in [entry.reason or entry.state]
            )

        await choose(app, pilot, waiting)
        await pilot.press("h")
        await answer_yes(app, pilot, "y")
        await wait_until(pilot, lambda: state_of(waiting).startswith("JobHeld"))  # by root it is JobHeldAdmin
        await pilot.press("u")
        await answer_yes(app, pilot, "y")
        await wait_until(pilot, lambda: state_of(waiting) == "BeginTime")
        await choose(app, pilot, running)
        await pilot.press("R")
        await answer_yes(app, pilot, "y")
        await wait_until(pilot, lambda: state_of(running) == "BeginTime")
        await choose(app, pilot, running)
        await pilot.press("x")
        await answer_yes(app, pilot, "y")
        await wait_until(pilot, lambda: job_states(cluster, [running]) == ["CANCELLED"])
        assert job_states(cluster, [waiting]) == ["PENDING"]
        await wait_until(pilot, lambda: "free" in words(app, "PartitionTable"))


async def test_a_chain_is_watched_made_longer_and_cancelled_as_a_whole(
    login: LoginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = submit(login.cluster, "--hold")
    first, second = login.submit("keys", "--links", "2", "--after", f"afterany:{blocker}", "train.train_samples=64")
    async with opened_queue(login, monkeypatch, blocker, first, second) as (app, pilot):
        await choose(app, pilot, first)
        await wait_until(pilot, lambda: "link 1/2 of" in words(app, "#job"))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen))
        await wait_until(pilot, lambda: app.focused is not None and isinstance(app.focused, ChainTable))
        links = app.screen.query_one(ChainTable)
        await pilot.press("a", "enter")
        await wait_until(pilot, lambda: len(links.rows) == 3 and all(row.view.live for row in links.rows))
        third = links.rows[2].view.job.slurm_job_id
        await wait_until(pilot, lambda: links.rows[2].view.source == "squeue")
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await choose(app, pilot, second)
        await pilot.press("x")
        await answer_yes(app, pilot, "j", "j", "enter")
        await wait_until(pilot, lambda: job_states(login.cluster, [first, second, third]) == ["CANCELLED"] * 3)
        assert job_states(login.cluster, [blocker]) == ["PENDING"]
