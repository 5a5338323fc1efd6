"""`make slurm-demo`: a chain of two links over two virtual nodes of a real SLURM on this machine.

The first link runs into its walltime, saves, and ends; the second goes on from there and finishes. All of it is
the product's own commands, as on a login node; only the cluster is small.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.slurm.cluster import SlurmCluster, make_directory, remove_stale_clusters
from tests.slurm.tiny_chain import LoginNode

TRAINING_SECONDS = 170.0
"""Longer than a link trains of its three minutes, 105 to 135 s, and shorter than two."""
LINK = ("cluster.slurm.time_limit=3:00", "checkpoint.interval=0")
PACE_STEPS = 12


def main() -> int:
    """Run the demo; 0 when the run is done over two links."""
    root = Path("runs/slurm-demo").absolute()
    shutil.rmtree(root, ignore_errors=True)
    print("starting a SLURM cluster of two virtual nodes on this machine ...", flush=True)
    remove_stale_clusters()
    cluster = SlurmCluster.start(make_directory(), nodes=2, cpus=4, gpus=0)
    try:
        return run_demo(LoginNode(cluster, root, root / "data"))
    finally:
        cluster.down()


def run_demo(login: LoginNode) -> int:
    """Time a few steps, then submit the chain and follow it."""
    print(f"timing {PACE_STEPS} steps in a job of their own ...", flush=True)
    login.submit("pace", f"train.train_samples={8 * PACE_STEPS}", *LINK)
    login.wait_for_end("pace")
    seconds = pace_of(login)
    samples = 8 * round(TRAINING_SECONDS / seconds)
    arguments = login.submit_arguments(
        "demo", "--links", "2", f"train.train_samples={samples}", *LINK, "--seconds-per-iteration", f"{seconds:.3f}"
    )
    print(f"\n$ qad_core {' '.join(arguments)}", flush=True)
    done = login.run(*arguments)
    print(done.stdout + done.stderr, flush=True)
    if done.returncode != 0:
        return done.returncode
    status = follow(login)
    print(f"\n$ qad_core status {login.folder('demo')}", flush=True)
    print(login.run("status", str(login.folder("demo"))).stdout)
    trained = [link for link in status["links"] if link["started"] is not None]
    if status["state"] == "done" and len(trained) == 2 and trained[0]["exit_code"] == 3:
        print("The first link ran into its walltime and saved; the second went on from there and finished.")
        return 0
    print("This is not what the demo is to show.", login.logs(), sep="\n", file=sys.stderr)
    return 1


def pace_of(login: LoginNode) -> float:
    """Seconds an iteration of the timing run."""
    from qad_core.run.folder import RunFolder
    from qad_core.run.pace import measure_pace

    pace = measure_pace(RunFolder(login.folder("pace")))
    assert pace is not None, login.logs()
    return pace.seconds_per_iteration


def follow(login: LoginNode) -> dict[str, Any]:
    """Print each change of the chain until no link waits or runs."""
    shown = ""
    while True:
        status = login.status("demo")
        links = "; ".join(f"link {link['link']}: {link['words']}" for link in status["links"])
        if (line := f"{status['state']}, step {status['step']} | {links}") != shown and (
            links != shown.partition(" | ")[2] or int(status["step"]) % 10 == 0
        ):
            shown = line
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
        if not [link for link in status["links"] if link["stage"] in ("pending", "running")]:
            return status
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
