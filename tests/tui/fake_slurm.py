"""SLURM's commands as scripts on a PATH of their own: real subprocesses that print what a test has written down."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from qad_core.slurm.client import SlurmClient
from qad_core.slurm.partitions import PARTITION_COLUMNS
from qad_core.slurm.queue_view import own_name
from qad_core.slurm.records import ACCOUNTING_COLUMNS, COLUMN_END, QUEUE_COLUMNS, RECORD_END

SCRIPT = """#!/bin/sh
echo "{name} $*" >> '{folder}/calls'
[ -f '{folder}/{name}.sleep' ] && sleep "$(cat '{folder}/{name}.sleep')"
if [ -f '{folder}/{name}.fails' ]; then cat '{folder}/{name}.fails' >&2; exit 1; fi
cat '{folder}/{name}.out' 2>/dev/null || true
"""
COMMANDS = ("squeue", "sinfo", "sacct", "scontrol", "scancel", "sbatch")


class FakeSlurm:
    """A folder with the commands, what they print, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in COMMANDS:
            script = folder / name
            script.write_text(SCRIPT.format(name=name, folder=folder))
            script.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        """What a client of it needs."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**others, "PATH": f"{self.folder}:{os.environ['PATH']}"}

    def client(self, timeout_seconds: float = 15.0) -> SlurmClient:
        """A client of it."""
        return SlurmClient(timeout_seconds, self.environ)

    def show_jobs(self, jobs: Sequence[Mapping[str, object]]) -> None:
        """What squeue answers from now on; a job is some of QUEUE_COLUMNS."""
        self._write("squeue.out", "".join(queue_record(job) for job in jobs))

    def show_partitions(self, lines: Sequence[Mapping[str, object]]) -> None:
        """What sinfo answers; a line is some of PARTITION_COLUMNS."""
        self._write("sinfo.out", "".join(_partition_line(line) for line in lines))

    def show_endings(self, lines: Sequence[Mapping[str, object]]) -> None:
        """What sacct answers; a line is some of ACCOUNTING_COLUMNS."""
        self._write("sacct.out", "".join(_accounting_line(line) for line in lines))

    def fail(self, command: str, said: str) -> None:
        """Let a command fail with this on stderr."""
        self._write(f"{command}.fails", said)

    def hang(self, command: str, seconds: float) -> None:
        """Let a command take so long."""
        self._write(f"{command}.sleep", str(seconds))

    def heal(self, command: str) -> None:
        """Let a command answer again."""
        for kind in ("fails", "sleep"):
            (self.folder / f"{command}.{kind}").unlink(missing_ok=True)

    def calls(self, command: str = "") -> list[str]:
        """Command lines so far, those of one command where it is named."""
        path = self.folder / "calls"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [line for line in lines if line.startswith(f"{command} ")] if command else lines

    def _write(self, name: str, text: str) -> None:
        draft = self.folder / f"{name}.tmp"
        draft.write_text(text)
        draft.rename(self.folder / name)


def queue_record(job: Mapping[str, object]) -> str:
    """A record of squeue's answer."""
    usual = {
        "JobArrayID": "1", "State": "PENDING", "Reason": "Priority", "Partition": "gpu", "Account": "lab",
        "UserName": own_name(), "SubmitTime": "N/A", "StartTime": "N/A", "EndTime": "N/A", "TimeLimit": "4:00:00",
        "TimeUsed": "0:00", "NumNodes": "1", "NumTasks": "1", "exit_code": "0", "tres-alloc": "", "PriorityLong": "100",
        "RestartCnt": "0", "Name": "job",
    }  # fmt: skip
    fields = {column: str(job.get(column, usual.get(column, ""))) for column in QUEUE_COLUMNS}
    return COLUMN_END.join(fields.values()) + RECORD_END + "\n"


def _partition_line(line: Mapping[str, object]) -> str:
    usual = {
        "Partition": "gpu*", "Available": "up", "Time": "4:00:00", "StateLong": "idle", "Nodes": "2",
        "Gres": "gpu:8", "GresUsed": "gpu:0",
    }  # fmt: skip
    return COLUMN_END.join(str(line.get(column, usual[column])) for column in PARTITION_COLUMNS) + COLUMN_END + "\n"


def _accounting_line(line: Mapping[str, object]) -> str:
    usual = {
        "JobID": "1", "State": "COMPLETED", "ExitCode": "0:0", "Submit": "Unknown", "Start": "Unknown",
        "End": "Unknown", "ElapsedRaw": "60", "TimelimitRaw": "240", "NodeList": "node01", "Reason": "None",
    }  # fmt: skip
    return COLUMN_END.join(str(line.get(column, usual[column])) for column in ACCOUNTING_COLUMNS) + "\n"
