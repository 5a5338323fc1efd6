"""What a refresh of the queue's screen costs on a cluster with ten thousand jobs: CPU of this process.

`python -m benchmarks.tui_queue [--jobs N]`: squeue's made-up answer is parsed, its jobs are laid beside the runs,
filtered, sorted and drawn, as the screen does it at each answer. Beside it stand the same list in Textual's DataTable,
and turm and sltop on a terminal with a squeue that answers with the same jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from textual.app import App, ComposeResult
from textual.widgets import DataTable

from benchmarks.figure import Figure, print_figure
from benchmarks.tui_peers import LeftOut, Peer, with_peer
from benchmarks.tui_screen import open_screen
from qad_core.commands.output import console
from qad_core.run.jobs import Job
from qad_core.slurm.queue_view import RunOfJob, index_runs, own_name, shown_jobs, where_or_why
from qad_core.slurm.records import COLUMN_END, QUEUE_COLUMNS, RECORD_END, QueueEntry, parse_queue
from qad_tui.widgets.queue_table import QueueTable, sort_jobs

JOBS = 10_000
LINKS = 600
BOUND_SECONDS = 0.1
REPEATS = 7
SIZE = (120, 40)
NOW = 1_790_000_000
_REASONS = ("Priority", "Resources", "Dependency", "QOSMaxGRESPerUser", "AssocGrpGRES", "JobHeldUser", "BeginTime")


def measure_queue(jobs: int = JOBS, seconds: float = 20.0, *, peers: bool = True) -> Figure:
    """Median CPU seconds of each part of a refresh; other programs are watched for `seconds`."""
    return asyncio.run(_measure(jobs, seconds, peers=peers))


def made_answer(jobs: int, *, seed: int = 1) -> str:
    """What squeue prints on a cluster with so many jobs, in the columns that we ask for."""
    chance = random.Random(seed)
    return "".join(_record(number, chance) for number in range(jobs))


async def _measure(jobs: int, seconds: float, *, peers: bool) -> Figure:
    runs = _made_runs()
    answers = [made_answer(jobs, seed=seed) for seed in range(REPEATS)]
    parsed = [_timed(lambda text=text: parse_queue(text)) for text in answers]
    entries = [parse_queue(text) for text in answers]
    app = _TableApp(QueueTable())
    async with app.run_test(size=SIZE) as pilot:
        shown: list[float] = []
        for one in entries:
            began = time.process_time()
            rows = _rows_of(one, runs, needle="")
            app.table.show(rows, runs, everyone=True, now=NOW)
            await pilot.pause()
            shown.append(time.process_time() - began)
        filtered = [_timed(lambda one=one: _rows_of(one, runs, needle="resources h100")) for one in entries]
        moved: list[float] = []
        for _ in range(REPEATS):
            began = time.process_time()
            app.table.action_move(1)
            await pilot.pause()
            moved.append(time.process_time() - began)
    usual = await _measure_data_table(entries[:2])
    others = [each.measure(entries[:2], seconds, install=peers) for each in QUEUE_SCREENS]
    return _figure(jobs, parsed, shown, filtered, moved, usual, others)


@dataclass(frozen=True)
class QueueScreen:
    """Another program that shows the cluster's jobs."""

    package: str
    options: tuple[str, ...]
    record: Callable[[QueueEntry], str]
    """What squeue prints of a job, in the columns that the program asks for."""
    proof: str
    """What it prints, before the number of jobs, once it has them all."""
    key: bytes
    """Opens its list."""

    def measure(
        self, answers: Sequence[Sequence[QueueEntry]], seconds: float, *, install: bool = True
    ) -> tuple[str, list[float]] | LeftOut:
        """CPU seconds of a refresh, over so long; the squeue that it asks costs it nothing."""
        return with_peer(self.package, lambda peer: self._watch(peer, answers, seconds), install=install)

    def _watch(self, peer: Peer, answers: Sequence[Sequence[QueueEntry]], seconds: float) -> tuple[str, list[float]]:
        asked = _answer_in_turn(peer.folder / "fake", ["".join(map(self.record, each)) for each in answers])
        environ = {**peer.environ, "PATH": f"{peer.folder / 'fake'}:{os.environ['PATH']}"}
        with open_screen([peer.program(self.package), *self.options], environ) as screen:
            screen.wait_for(f"{self.proof}{len(answers[0])}".encode(), 30)
            os.write(screen.terminal, self.key)
            screen.drain(2)
            refreshes, cpu = _times_asked(asked), screen.cpu_seconds()
            screen.drain(seconds)
            cpu, refreshes = screen.cpu_seconds() - cpu, _times_asked(asked) - refreshes
        if refreshes < 1:
            raise TimeoutError(f"it asked no squeue in {seconds:g} s")
        return f"{peer.version}: a refresh, mean of {refreshes}", [cpu / refreshes]


def _answer_in_turn(folder: Path, answers: Sequence[str]) -> Path:
    """A squeue that prints one answer after the other, and the file that gets a byte for each; no other command says
    anything."""
    folder.mkdir()
    asked = folder / "asked"
    asked.touch()
    for number, answer in enumerate(answers):
        (folder / f"answer{number}").write_text(answer, encoding="utf-8")
    said = (
        'case "$*" in *RUNNING*) exit;; esac\n'  # sltop's second question, for the GPUs in use
        f"printf . >> '{asked}'\ncat '{folder}'/answer$(($(wc -c < '{asked}') % {len(answers)}))\n"
    )
    for name in ("squeue", "sinfo", "scontrol", "sacct"):
        (folder / name).write_text("#!/bin/sh\n" + (said if name == "squeue" else ""), encoding="utf-8")
        (folder / name).chmod(0o755)
    return asked


def _times_asked(asked: Path) -> int:
    return asked.stat().st_size


def _turm_record(entry: QueueEntry) -> str:
    """In the columns that turm 0.17 asks for."""
    array, _, task = entry.job_id.partition("_")
    values = (
        array, entry.name, entry.state, entry.user, "1:23:45", "4:00:00", "2026-09-21T12:00:00",
        f"node={entry.num_nodes},gres/gpu={entry.gpus}", entry.partition, "node0001", "/dev/null", "/dev/null",
        "/home/user/train.sh", entry.state[:2], "Priority", array, task or "N/A", "node0001", "/home/user",
    )  # fmt: skip
    return "".join(f"{value}###turm###" for value in values) + "\n"


def _sltop_record(entry: QueueEntry) -> str:
    """In the columns that sltop 0.3 asks for."""
    array, _, task = entry.job_id.partition("_")
    values = (
        entry.job_id, entry.partition, entry.user, entry.name, entry.state, "1:23:45", "4:00:00", entry.num_nodes,
        "gres:gpu:8", "(Priority)", "(null)", array, task or "N/A", "node0001",
    )  # fmt: skip
    return "|".join(map(str, values)) + "\n"


QUEUE_SCREENS = (
    QueueScreen("turm", ("--slurm-refresh", "2"), _turm_record, "", b""),
    QueueScreen("sltop", ("--interval", "5"), _sltop_record, "Σ:", b"3"),
)
_NOT_COMPARED = (
    LeftOut("slurmdeck", "it has no list of the cluster's jobs: it asks for those that it has submitted itself"),
    LeftOut("SlurmTUI", "it reads squeue --json alone, which is not made here"),
)


def _rows_of(entries: Sequence[QueueEntry], runs: dict[str, RunOfJob], *, needle: str) -> list[QueueEntry]:
    jobs = shown_jobs(entries, user=None, needle=needle, extra=lambda entry: "")
    return sort_jobs(jobs, "", runs, descending=False, now=NOW)


async def _measure_data_table(entries: Sequence[Sequence[QueueEntry]]) -> list[float]:
    """The same rows, cleared and filled again."""
    table: DataTable[str] = DataTable()
    app = _TableApp(table)
    times: list[float] = []
    async with app.run_test(size=SIZE) as pilot:
        table.add_columns("Job", "State", "Name", "User", "Partition", "Nodes", "GPUs", "Why")
        for one in entries:
            began = time.process_time()
            table.clear()
            table.add_rows(
                (row.job_id, row.state, row.name, row.user, row.partition, str(row.num_nodes), str(row.gpus),
                 where_or_why(row))
                for row in one
            )  # fmt: skip
            await pilot.pause()
            times.append(time.process_time() - began)
    return times


def _figure(
    jobs: int,
    parsed: Sequence[float],
    shown: Sequence[float],
    filtered: Sequence[float],
    moved: Sequence[float],
    usual: Sequence[float],
    peers: Sequence[tuple[str, list[float]] | LeftOut],
) -> Figure:
    refresh = median([one + other for one, other in zip(parsed, shown, strict=True)])
    rows = {
        "parse squeue's answer": parsed,
        "filter, sort, show, draw": shown,
        "a filter of two words": filtered,
        "a key: cursor down": moved,
        "DataTable: clear and fill": usual,
        **dict(each for each in peers if not isinstance(each, LeftOut)),
    }
    left_out = [each.row(3) for each in (*peers, *_NOT_COMPARED) if isinstance(each, LeftOut)]
    return Figure(
        title=f"a refresh of the queue's screen, {jobs:,} jobs",
        columns=("part", ">CPU ms, median", ">worst"),
        rows=(
            *((name, f"{1000 * median(times):.1f}", f"{1000 * max(times):.1f}") for name, times in rows.items()),
            *left_out,
        ),
        sentences=(
            f"A refresh takes {1000 * refresh:.0f} ms of CPU, "
            f"{'under' if refresh < BOUND_SECONDS else 'NOT under'} {1000 * BOUND_SECONDS:.0f} ms; "
            f"the first part of it runs in a thread beside the screen.",
            "turm and sltop have their lists open; all of their refresh is counted, not the squeue that they start.",
        ),
        data={"jobs": jobs, "refresh_seconds": refresh, **{name: list(times) for name, times in rows.items()}},
    )


class _TableApp(App[None]):
    def __init__(self, table: QueueTable | DataTable[str]) -> None:
        super().__init__()
        self._shown = table

    @property
    def table(self) -> QueueTable:
        assert isinstance(self._shown, QueueTable)
        return self._shown

    def compose(self) -> ComposeResult:
        yield self._shown


def _timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _made_runs() -> dict[str, RunOfJob]:
    jobs = (
        (
            Path(f"runs/Qwen3-8B-Teacher-Qwen3-8B-Data-mixed-lr1e-06-{number // 4}"),
            Job(id=f"slurm-{number}", kind="slurm", link=number % 4 + 1, links=4),
        )
        for number in range(LINKS)
    )
    return index_runs(jobs)


def _record(number: int, chance: random.Random) -> str:
    runs = chance.random() < 0.4
    nodes = chance.choice((1, 1, 2, 4, 8, 64))
    start = NOW - chance.randrange(200_000) if runs else NOW + chance.randrange(200_000)
    values: dict[str, object] = {
        "JobArrayID": 1_000_000 + number if chance.random() < 0.9 else f"{1_000_000 + number}_{chance.randrange(999)}",
        "State": "RUNNING" if runs else "PENDING",
        "Reason": "None" if runs else chance.choice(_REASONS),
        "Partition": chance.choice(("gpu", "gpu-h100", "cpu", "debug", "long")),
        "Account": f"lab{chance.randrange(40)}",
        "UserName": own_name() if number % 50 == 0 else f"user{chance.randrange(300)}",
        "SubmitTime": NOW - 300_000, "StartTime": start, "EndTime": start + 14_400,
        "TimeLimit": "4:00:00", "TimeUsed": "1:23:45" if runs else "0:00", "NumNodes": nodes, "NumTasks": nodes * 8,
        "NodeList": f"node[{number % 1000:04d}-{(number + nodes) % 1000:04d}]" if runs else "",
        "Dependency": "afterok:999999(unfulfilled)" if not runs and chance.random() < 0.1 else "",
        "exit_code": "0", "tres-alloc": f"cpu={nodes * 64},mem=512G,node={nodes},gres/gpu={nodes * 8}" if runs else "",
        "tres-per-node": "gres:gpu:h100:8", "PriorityLong": chance.randrange(1_000_000), "RestartCnt": 0,
        "Comment": f"qad:{number // 50}" if number % 50 == 0 else "", "Name": f"train-{chance.randrange(10_000)}",
    }  # fmt: skip
    return COLUMN_END.join(str(values.get(column, "")) for column in QUEUE_COLUMNS) + RECORD_END + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long other programs are watched")
    parser.add_argument("--no-peers", action="store_true", help="install no other programs")
    arguments = parser.parse_args()
    print_figure(measure_queue(arguments.jobs, arguments.seconds, peers=not arguments.no_peers), console())


if __name__ == "__main__":
    main()
