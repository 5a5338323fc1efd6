"""A cluster as a screen may meet it: a chain of ours in every stage, jobs of others, partitions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qad_core.run.jobs import Job, append_job
from qad_core.slurm.client import SlurmClient
from qad_tui.app import QadApp
from qad_tui.settings import Settings, SettingsStore
from tests.tui.conftest import POLL_SECONDS, Clock
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun

HOUR = 3600.0
CHAIN = "c0ffee"


def quiet_app(root: Path, client: SlurmClient, clock: Clock) -> QadApp:
    """The application for a picture: SLURM is asked when a test moves the clock, and not again by itself."""
    settings = SettingsStore(root / "home", Settings(squeue_seconds=600))
    app = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=client, settings=settings)
    app.slurm_watch._jitter = lambda: 0.0  # pyright: ignore[reportPrivateUsage]
    app.animation_level = "none"
    return app


def chain_job(number: int, now: float, **more: object) -> Job:
    """Link `number` of four."""
    fields: dict[str, object] = {
        "id": f"slurm-token{number}",
        "kind": "slurm",
        "chain": CHAIN,
        "link": number,
        "links": 4,
        "submitted": now - 9 * HOUR + number,
        "slurm_job_id": str(100 + number),
        "time_limit_seconds": 4 * 3600,
        "log": f"logs_slurm/lab-run_%j_link{number}.log",
    }
    return Job.model_validate({**fields, **more})


def make_chain(root: Path, now: float) -> Path:
    """A run with four links: ran into its walltime, runs, waits for the one before, waits for ever."""
    run = FakeRun(root, "Qwen3-8B-Teacher-Qwen3-8B-Data-mixed-v2-lr1e-06", 4000, now - 8 * HOUR)
    run.train(600)
    run.set_status("training", updated=now - 2, host="node01")
    run.settle(updated=now - 2)
    tracker = run.folder.tracker("Qwen3-8B")
    tracker.parent.mkdir(parents=True)
    tracker.write_text("600")
    first = {"started": now - 8 * HOUR, "ended": now - 4 * HOUR, "exit_code": 3, "stopped_by": "walltime"}
    append_job(run.folder.jobs, chain_job(1, now, **first, checkpoint_at_start=0, nodes=("node01",)))
    append_job(
        run.folder.jobs,
        chain_job(
            2, now, started=now - 3.5 * HOUR, checkpoint_at_start=400, dependency="afterany:101", nodes=("node01",)
        ),
    )
    append_job(run.folder.jobs, chain_job(3, now, dependency="afterany:101:102"))
    append_job(run.folder.jobs, chain_job(4, now, dependency="afterok:99"))
    return run.folder.path


def chain_records(now: float) -> list[dict[str, object]]:
    """The chain's links as squeue has them."""
    submitted = int(now - 9 * HOUR)
    running = {
        "JobArrayID": 102, "State": "RUNNING", "Reason": "None", "StartTime": int(now - 3.5 * HOUR),
        "EndTime": int(now + 0.5 * HOUR), "TimeUsed": "3:30:00", "NodeList": "node[01-02]", "NumNodes": 2,
        "tres-alloc": "cpu=32,gres/gpu=16", "Comment": "qad:token2", "Name": "qwen", "SubmitTime": submitted,
    }  # fmt: skip
    waiting = {
        "JobArrayID": 103, "Reason": "Dependency", "Dependency": "afterany:101:102", "Comment": "qad:token3",
        "NumNodes": 2, "tres-per-node": "gres:gpu:8", "Name": "qwen", "SubmitTime": submitted,
    }  # fmt: skip
    stuck = {
        "JobArrayID": 104, "Reason": "DependencyNeverSatisfied", "Dependency": "afterok:99(failed)",
        "Comment": "qad:token4", "NumNodes": 2, "tres-per-node": "gres:gpu:8", "Name": "qwen", "SubmitTime": submitted,
    }  # fmt: skip
    return [running, waiting, stuck]


def other_records(now: float) -> list[Mapping[str, object]]:
    """A job of ours that is no link, and jobs of others."""
    held = {"JobArrayID": 90, "Reason": "JobHeldUser", "Name": "evaluate", "SubmitTime": int(now - 600)}
    soon = {
        "JobArrayID": 91, "Reason": "Resources", "Name": "sweep-7", "SubmitTime": int(now - 60), "NumNodes": 4,
        "StartTime": int(now + 1200), "tres-per-node": "gres:gpu:4",
    }  # fmt: skip
    theirs = {
        "JobArrayID": 80, "State": "RUNNING", "Reason": "None", "UserName": "anna", "Name": "protein-folding",
        "StartTime": int(now - 1000), "EndTime": int(now + HOUR), "TimeUsed": "16:40", "NodeList": "node03",
        "tres-alloc": "gres/gpu=8", "Partition": "gpu",
    }  # fmt: skip
    limit = {
        "JobArrayID": "81_4", "Reason": "PartitionTimeLimit", "UserName": "ben", "Name": "long\x1b[31m run",
        "TimeLimit": "9-00:00:00", "Partition": "debug",
    }  # fmt: skip
    return [held, soon, theirs, limit]


def show_cluster(slurm: FakeSlurm, now: float) -> None:
    """Jobs, partitions and accounts."""
    slurm.show_jobs([*chain_records(now), *other_records(now)])
    slurm.show_partitions(
        [
            {"StateLong": "idle", "Nodes": 1},
            {"StateLong": "mixed", "Nodes": 3, "GresUsed": "gpu:8"},
            {"StateLong": "down*", "Nodes": 1},
            {"Partition": "debug", "Time": "0:30:00", "Nodes": 2, "Gres": "(null)", "GresUsed": "(null)"},
            {"Partition": "urgent", "Available": "drain", "Nodes": 1, "Gres": "gpu:h100:8", "Time": "infinite"},
        ]
    )
    slurm.show_endings(
        [
            {
                "JobID": 101, "State": "TIMEOUT", "Submit": int(now - 9 * HOUR), "Start": int(now - 8 * HOUR),
                "End": int(now - 4 * HOUR), "ElapsedRaw": 4 * 3600, "NodeList": "node01", "ExitCode": "3:0",
            }
        ]
    )  # fmt: skip
