"""The tiny experiment as SLURM jobs, by the product's own commands, as a user on a login node gives them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qad_core.run.metrics import MetricsLine, is_evaluation, read_metrics
from tests.slurm.cluster import SlurmCluster

REPOSITORY = Path(__file__).parents[2]
SMALL = (
    "parallelism=dp2", "train.sequence_length=32", "evaluation.sequences=4", "evaluation.interval=0",
    "cluster.slurm.stop_seconds_before_limit=30",
)  # fmt: skip
SLOW_START_SECONDS = 240.0
"""Two ranks that share two cores with other tests import for half a minute."""
LIVE = ("pending", "running")


@dataclass
class LoginNode:
    """A user's shell: one cluster, one folder of runs."""

    cluster: SlurmCluster
    root: Path
    data_cache: Path
    environ: dict[str, str] = field(default_factory=dict[str, str])

    def run(
        self, *arguments: str, environ: Mapping[str, str] | None = None, timeout: float = 400
    ) -> subprocess.CompletedProcess[str]:
        """Run `qad_core ...`; its exit code is the caller's to judge."""
        return subprocess.run(
            [sys.executable, "-m", "qad_core.cli", *arguments],
            env=self._environ(environ),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run `qad_core ...` beside the test; it hears Ctrl-C, also where a shell runs the tests in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "qad_core.cli", *arguments],
            env=self._environ(None),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run `qad_core ... --json` and return its whole answer."""
        done = self.run(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def submit_arguments(self, tag: str, *extra: str, cluster: str = "slurm-cpu-2-nodes") -> list[str]:
        """Arguments of `submit` for the tiny experiment on two nodes."""
        paths = [f"paths.checkpoint_root={self.root}", f"paths.data_cache={self.data_cache}"]
        return ["submit", "tiny", f"cluster={cluster}", *SMALL, *paths, "--tag", tag, *extra]

    def submit(self, tag: str, *extra: str, cluster: str = "slurm-cpu-2-nodes") -> list[str]:
        """Submit, and the ids of the jobs."""
        answer = self.json(*self.submit_arguments(tag, *extra, cluster=cluster))
        assert answer["ok"], answer
        return [job["job_id"] for job in answer["data"]["jobs"]]

    def folder(self, tag: str) -> Path:
        """Folder of the run with a tag."""
        (found,) = self.root.glob(f"*-{tag}")
        return found

    def status(self, tag: str) -> dict[str, Any]:
        """One run as `status` sees it."""
        answer = self.json("status", str(self.folder(tag)))
        return answer["data"][0]

    def wait(self, tag: str, until: Callable[[dict[str, Any]], object], seconds: float) -> dict[str, Any]:
        """Poll a run's status until something holds; fails with the last status and the logs when it does not."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(tag)
            if until(status):
                return status
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {json.dumps(status, indent=1)}\n{self.logs()}")
            time.sleep(1.0)

    def wait_for_end(self, tag: str, seconds: float = 600) -> dict[str, Any]:
        """Poll until no link waits or runs."""
        return self.wait(tag, lambda status: not [link for link in status["links"] if link["stage"] in LIVE], seconds)

    def wait_for_step(self, tag: str, step: int) -> dict[str, Any]:
        """Poll until the trainer has done so many steps."""
        return self.wait(tag, lambda status: status["step"] >= step, SLOW_START_SECONDS + 60)

    def signal_processes(
        self, job_id: str, number: signal.Signals, *, node: str | None = None, launchers: bool = True
    ) -> int:
        """Send a signal to the launchers and ranks of a job, or to those on one node; how many there were."""
        wanted = {f"SLURM_JOB_ID={job_id}".encode(), f"SLURM_CONF={self.cluster.environ['SLURM_CONF']}".encode()}
        if node is not None:
            wanted.add(f"SLURMD_NODENAME={node}".encode())
        found = [process for process in Path("/proc").glob("[0-9]*") if is_ours(process, wanted, launchers=launchers)]
        for process in found:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(int(process.name), number)
        return len(found)

    def logs(self) -> str:
        """The batch scripts' logs."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in self.root.glob("logs_slurm/*.log"))

    def _environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        configs = {"QAD_CONFIGS": str(REPOSITORY / "configs")}
        return {**os.environ, **self.cluster.environ, **configs, **self.environ, **(more or {})}


def is_ours(process: Path, environ: Set[bytes], *, launchers: bool) -> bool:
    """Whether a process of /proc is a rank, or a launcher, of the product's with these variables."""
    try:
        command, variables = (process.joinpath(name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
    except OSError:  # it has ended meanwhile
        return False
    modules = {b"qad_core.train", *([b"qad_core.launch"] if launchers else [])}
    return bool(modules & set(command)) and command[0].endswith(b"python") and environ <= set(variables)


def training_lines(folder: Path) -> list[MetricsLine]:
    """A run's training lines."""
    return [line for line in read_metrics(folder / "metrics.jsonl") if not is_evaluation(line)]


def steps_of(folder: Path) -> list[int]:
    """Steps in metrics.jsonl, in the file's order."""
    return [int(line["step"] or 0) for line in training_lines(folder)]


def losses_of(folder: Path) -> list[float]:
    """KD loss by step."""
    return [float(line["loss/kd"] or 0.0) for line in training_lines(folder)]


def job_states(cluster: SlurmCluster, job_ids: Sequence[str]) -> list[str]:
    """SLURM's own word for each job, by scontrol, independent of the product's."""
    states: list[str] = []
    for job_id in job_ids:
        text = cluster.run(["scontrol", "show", "job", job_id, "-o"]).stdout
        states.append(text.partition("JobState=")[2].partition(" ")[0])
    return states
