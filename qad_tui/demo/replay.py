"""Writes the recorded fleet into a folder as of now, and lets its running runs grow as they did.

Owns the shift of recorded times to now. The screen reads these folders as any others.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job
from qad_core.run.metrics import is_evaluation
from qad_core.run.status import Status, write_status
from qad_tui.demo.recording import HOME, DemoLink, DemoRun, RecordedRun

TIME_LIMIT_SECONDS = 900
"""Walltime of the recorded links."""
NO_PROCESS = 2**22 + 1
"""A process number above Linux's largest: of a run that has ended."""
_STEP_OF_LOG = re.compile(r"\b(?:iteration|at step|step) (\d+)\b")


@dataclass
class ReplayedRun:
    """One run of the fleet, replayed step by step."""

    root: Path
    plan: DemoRun
    recorded: RecordedRun
    now: float
    """Unix time at which the demo begins."""
    folder: RunFolder = field(init=False)
    began: float = field(init=False)
    """Unix time of its first step."""

    def __post_init__(self) -> None:
        self.folder = RunFolder(self.root / self.plan.folder)
        self._lines = self.recorded.metrics()
        self._status = json.loads(self.recorded.files["status.json"])
        first, last = self._time_of(0), self._time_of(self.plan.steps)
        pace = self.plan.seconds_a_step
        span = last - first if pace is None else pace * self.plan.steps
        self.began = self.now - (self.plan.ended or 0.0) - span
        self._written = self._log_written = 0
        self._log_name, self._log_lines = self._find_log()

    def write(self) -> None:
        """Write the folder as it is when the demo begins."""
        self.folder.logs.mkdir(parents=True)
        config = self.recorded.files["config.yaml"].replace(f"{HOME}/runs", str(self.root))
        self.folder.config.write_text(config, encoding="utf-8")
        self._write_jobs()
        if self.plan.steps or not self.plan.links:
            self.write_until(self.plan.steps)

    def grow(self, now: float) -> None:
        """Write what has come by Unix time `now`."""
        if self.plan.ended is not None or not self.plan.steps:
            return
        pace = self.plan.seconds_a_step or (self._time_of(self.last_step) - self._time_of(0)) / self.last_step
        self.write_until(min(self.last_step, self.plan.steps + int((now - self.now) / pace)))

    @property
    def last_step(self) -> int:
        """Steps that were recorded."""
        return int(self._status["step"])

    def write_until(self, step: int) -> None:
        """Append metrics and log up to a step, and write the status."""
        lines = [line for line in self._lines[self._written :] if int(str(line["step"])) <= step]
        self._written += len(lines)
        if lines:
            with self.folder.metrics.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(self._slowed(line)) + "\n" for line in lines)
        self._write_log(step)
        if lines or not self.folder.status.exists():
            self._write_status(step, is_evaluation(lines[-1]) if lines else False)  # type: ignore[arg-type]

    def _write_log(self, step: int) -> None:
        with (self.folder.logs / self._log_name).open("a", encoding="utf-8") as file:
            while self._log_written < len(self._log_lines):
                line = self._log_lines[self._log_written]
                found = _STEP_OF_LOG.search(line)
                if found is not None and int(found[1]) > step:
                    return
                file.write(line + "\n")
                self._log_written += 1

    def _write_status(self, step: int, evaluating: bool) -> None:
        ended = self.plan.ended is not None
        fields = {
            **self._status,
            "step": step,
            "updated": self.now - (self.plan.ended or 0.0) if ended else time.time(),
            "started": self.began,
            "host": "node01" if ended else socket.gethostname(),
            "pid": NO_PROCESS if ended else os.getpid(),
        }
        if not ended and step < self.last_step:
            saved = step // 150 * 150 or None
            phase = "evaluating" if evaluating else "training"
            fields |= {"phase": phase, "exit_code": None, "checkpoint_step": saved, "error": "", "hint": ""}
        write_status(self.folder.status, Status.model_validate(fields))

    def _write_jobs(self) -> None:
        for number, link in enumerate(self.plan.links, 1):
            append_job(self.folder.jobs, self.job(number, link))
        if not self.plan.links:
            ended = self.now - self.plan.ended if self.plan.ended is not None else None
            code = self._status["exit_code"] if ended is not None else None
            append_job(self.folder.jobs, Job(id="local-1", started=self.began, ended=ended, exit_code=code, pid=1))

    def job(self, number: int, link: DemoLink) -> Job:
        """A link as jobs.jsonl has it."""
        known: dict[str, object] = {}
        if link.state != "PENDING":
            known = {"started": self.start_of(number), "nodes": ("node01",)}
            known |= {"checkpoint_before": link.first_step or None}
        if link.state not in ("PENDING", "RUNNING"):
            known |= {"ended": self.end_of(number), "exit_code": link.exit_code}
            known |= {"stopped_by": "walltime"} if link.state == "TIMEOUT" else {}
        return Job.model_validate(
            {
                "id": f"slurm-demo{link.job_id}",
                "kind": "slurm",
                "chain": "demo",
                "link": number,
                "links": len(self.plan.links),
                "submitted": self.began - 900,
                "slurm_job_id": link.job_id,
                "dependency": f"afterany:{self.plan.links[number - 2].job_id}" if number > 1 else "",
                "time_limit_seconds": TIME_LIMIT_SECONDS,
                **known,
            }
        )

    def start_of(self, number: int) -> float:
        """Unix time at which a link started."""
        step = self.plan.links[number - 1].first_step
        return self._time_at(step) - 20

    def end_of(self, number: int) -> float:
        """Unix time at which a link ended."""
        later = self.plan.links[number:]
        if later and later[0].state != "PENDING":
            return self.start_of(number + 1) - 60
        return self.now - (self.plan.ended or 0.0)

    def _time_at(self, step: int) -> float:
        pace = self.plan.seconds_a_step
        return self.began + (self._time_of(step) - self._time_of(0) if pace is None else pace * step)

    def _slowed(self, line: dict[str, object]) -> dict[str, object]:
        """The line with the time of the replay, and the pace of one in slow motion."""
        line = {**line, "time": self._time_at(int(str(line["step"])))}
        if self.plan.seconds_a_step is not None and "step_ms" in line:
            slower = 1000 * self.plan.seconds_a_step / float(str(line["step_ms"]))
            line["step_ms"] = 1000 * self.plan.seconds_a_step
            line["tokens_per_s"] = float(str(line["tokens_per_s"])) / slower
        return line

    def _time_of(self, step: int) -> float:
        """Recorded Unix time of a step."""
        return next(float(str(line["time"])) for line in self._lines if int(str(line["step"])) >= step)

    def _find_log(self) -> tuple[str, list[str]]:
        name = next(name for name in self.recorded.files if "_qad_" in name)
        return Path(name).name, self.recorded.files[name].splitlines()


class Replay(threading.Thread):
    """Lets the runs grow until it is stopped."""

    def __init__(self, runs: list[ReplayedRun]) -> None:
        super().__init__(daemon=True, name="replay")
        self._runs = runs
        self._stopped = threading.Event()

    def run(self) -> None:
        """Grow twice a second."""
        while not self._stopped.wait(0.5):
            for run in self._runs:
                run.grow(time.time())

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self.join()
