"""The failure card: the kind of each failure by its words, the root cause among many ranks, and real failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qad_core.run.failure import SlurmEnd, find_failure
from qad_core.run.failure_words import TRIGGERS, kind_of_line
from qad_core.run.status import Status
from tests.core.failed_start import (
    GLOO_CLOSED,
    STARTED,
    failure_of,
    log_name,
    on_slurm,
    output_name,
    record,
    tiny,
    traceback_of,
    watchdog,
    write_logs,
    write_start,
)
from tests.core.failure_texts import CUDA_OOM, WORDS


@pytest.mark.parametrize(("kind", "text", "message"), WORDS)
def test_each_failure_is_known_by_its_words_among_those_that_followed(
    tmp_path: Path, kind: str, text: str, message: str
) -> None:
    found = failure_of(write_start(tmp_path, text), tiny())
    assert (found.kind, found.where.rpartition(" ")[2], found.rank) == (kind, output_name(2), 2)
    assert message in found.message and found.advice and found.title
    assert any(found.message.splitlines()[0][:150] in line for line in found.excerpt)


def test_every_line_that_is_known_is_looked_at() -> None:
    """The quick look by words must not pass over what the patterns would take."""
    lines = [line for _, text, _ in WORDS for line in text.splitlines() if kind_of_line(line)]
    assert len(lines) > 15
    assert [line for line in lines if not any(word in line.lower().encode() for word in TRIGGERS)] == []


def test_the_earliest_of_several_causes_is_the_root(tmp_path: Path) -> None:
    bug = record("this is a bug in the trainer", at="12:00:{second},000")
    texts = {
        log_name(0): bug.format(second=35) + traceback_of("ValueError: later"),
        log_name(1): record("data", level="INFO") + bug.format(second=33) + traceback_of("TypeError: first"),
        log_name(3): bug.format(second=34) + traceback_of(CUDA_OOM),
    }
    found = failure_of(write_logs(tmp_path, texts))
    assert (found.message.splitlines()[0], found.rank, found.line) == ("TypeError: first", 1, 7)
    assert (found.title, found.time, found.others) == ("The program raised TypeError", STARTED + 33, 2)


def test_a_consequence_that_was_written_first_is_not_the_root(tmp_path: Path) -> None:
    texts = {
        log_name(0): record("this is a bug in the trainer", at="12:00:10,000") + traceback_of(GLOO_CLOSED),
        log_name(1): record("failed: corpus a.jsonl, line 3: not JSON; Write one object.", at="12:00:11,000"),
        "acct-tiny_15.log": "0: error: rank 1 was ended by SIGTERM\nsrun: error: n1: task 0: Exited with exit code 1\n",
    }
    found = failure_of(write_logs(tmp_path, texts))
    assert (found.kind, found.rank, found.others) == ("data", 1, 1)


def test_a_timeout_without_a_cause_names_the_rank_that_was_behind(tmp_path: Path) -> None:
    numbers = (9612, 9612, 6408, 9612)
    texts = {output_name(rank): watchdog(rank, number=number) for rank, number in enumerate(numbers)}
    found = failure_of(write_logs(tmp_path, texts), on_slurm("train.distributed_timeout_minutes=30"))
    assert (found.kind, found.others) == ("collective_timeout", 3)
    assert "Rank 2 was behind: it stood at collective 6408, others at 9612" in found.advice[0]
    assert any("NCCL_SOCKET_IFNAME" in sentence for sentence in found.advice)
    assert found.changes == ("train.distributed_timeout_minutes=60",)


def test_a_lost_connection_names_the_rank_that_said_nothing(tmp_path: Path) -> None:
    texts = {output_name(0): traceback_of(GLOO_CLOSED), output_name(1): "loading\n"}
    found = failure_of(write_logs(tmp_path, texts))
    assert (found.kind, found.advice[0]) == ("connection_lost", "No error in the logs of rank 1: look there first.")


@pytest.mark.parametrize(
    ("raised", "by", "root"),
    [
        (("ValueError: bad record", "RuntimeError: cannot load"), "direct", "ValueError: bad record"),
        (("ValueError: bad record", GLOO_CLOSED), "handling", "ValueError: bad record"),
        (("KeyError: 'x'", "ValueError: no such format"), "handling", "ValueError: no such format"),
        (("ModuleNotFoundError: No module named 'a'", "KeyError: 'b'"), "handling", "KeyError: 'b'"),
    ],
)
def test_the_first_exception_of_a_chain_is_the_root_unless_code_raises_it_all_the_time(
    tmp_path: Path, raised: tuple[str, ...], by: str, root: str
) -> None:
    assert failure_of(write_start(tmp_path, traceback_of(*raised, by=by))).message.splitlines()[0] == root


@pytest.mark.parametrize(
    ("state", "signal", "kind"),
    [
        ("TIMEOUT", 0, "walltime"), ("NODE_FAIL", 0, "node_failure"), ("BOOT_FAIL", 0, "node_failure"),
        ("PREEMPTED", 0, "preemption"), ("OUT_OF_MEMORY", 9, "host_out_of_memory"), ("DEADLINE", 0, "deadline"),
        ("CANCELLED by 1001", 0, "cancelled"), ("FAILED", 53, "unwritable_output"), ("FAILED", 9, "killed"),
        ("FAILED", 11, "crash"), ("FAILED", 0, "unknown"),
    ],
)  # fmt: skip
def test_without_logs_slurm_says_why(state: str, signal: int, kind: str) -> None:
    found = find_failure([], on_slurm(), None, SlurmEnd("15", state, node_list="node[1-2]", exit_code=1, signal=signal))
    assert found is not None
    assert (found.kind, found.where, found.log) == (kind, "node[1-2]", None)
    assert found.message.startswith(f"SLURM ended job 15 as {state} (exit code 1") and found.advice


def test_what_slurm_says_beats_what_followed_and_not_a_cause(tmp_path: Path) -> None:
    lost = write_logs(tmp_path, {output_name(0): traceback_of(GLOO_CLOSED)})
    end = SlurmEnd("15", "NODE_FAIL", node_list="node3")
    found = find_failure(lost, None, None, end)
    assert found is not None and (found.kind, found.others) == ("node_failure", 1)
    found = find_failure(write_start(tmp_path, traceback_of(CUDA_OOM)), None, None, end)
    assert found is not None and (found.kind, found.where) == ("cuda_out_of_memory", f"node3, {output_name(2)}")


@pytest.mark.parametrize(
    ("phase", "slurm"),
    [
        ("done", None), ("done", SlurmEnd("15", "COMPLETED")), ("training", SlurmEnd("15", "RUNNING")),
        ("stopped", None),
        ("stopped", SlurmEnd("15", "FAILED", exit_code=3)), ("stopped", SlurmEnd("15", "CANCELLED by 1001")),
    ],
)  # fmt: skip
def test_nothing_failed_in_a_run_that_is_done_or_can_go_on(phase: str, slurm: SlurmEnd | None) -> None:
    status = Status.model_validate({"phase": phase, "updated": STARTED})
    assert find_failure([], None, status, slurm) is None


def test_an_error_of_ours_gives_its_own_hint_and_the_status_tells_it_from_the_message(tmp_path: Path) -> None:
    status = Status(
        phase="failed", error="datablend /d.json cannot be read", hint="write it anew.", updated=STARTED + 9
    )
    logs = write_logs(tmp_path, {log_name(0): record(f"failed: {status.error}; {status.hint}")})
    for found in (failure_of(logs, None, status), failure_of([], None, status)):
        assert (found.kind, found.message, found.advice) == ("data", status.error, ("Write it anew.",))
    assert find_failure([], None, status, since=STARTED + 60) is None


def test_a_killed_rank_of_the_status_explains_slurms_out_of_memory() -> None:
    status = Status(phase="failed", error="rank 5 was killed by SIGKILL", hint="Most often memory ran out", updated=1)
    found = find_failure([], on_slurm(), status, SlurmEnd("15", "OUT_OF_MEMORY"))
    assert found is not None
    assert (found.kind, found.rank, found.changes) == ("host_out_of_memory", 5, ("cluster.slurm.memory=0",))


def run_python(folder: Path, rank: int, code: str) -> Path:
    """A rank's output that a real process has written and died of."""
    path = folder / output_name(rank)
    with path.open("wb") as output:
        done = subprocess.run([sys.executable, "-c", code], stdout=output, stderr=subprocess.STDOUT, check=False)
    assert done.returncode != 0
    return path


REAL = [
    ("host_out_of_memory", "bytearray(1 << 60)", "MemoryError"),
    ("missing_file", "open('/no/such/blend.json')", "/no/such/blend.json"),
    ("missing_package", "import no_such_package", "no_such_package"),
    ("crash", "import faulthandler, os; faulthandler.enable(); os.kill(os.getpid(), 11)", "Segmentation fault"),
    ("shape_mismatch", "import torch; m = torch.nn.Linear(4, 6); m.load_state_dict({'weight': torch.zeros(8, 4)})",
     "size mismatch for weight"),
    ("python_exception", "try:\n  int('x')\nexcept ValueError as error:\n  raise OSError from error", "ValueError"),
    ("python_exception", "from rich.traceback import install; install()\nint('rich')", "ValueError: invalid literal"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "code", "message"), REAL)
def test_what_real_processes_print_is_known(tmp_path: Path, kind: str, code: str, message: str) -> None:
    logs = [
        run_python(tmp_path, 1, code),
        run_python(tmp_path, 0, "raise ConnectionResetError(104, 'Connection reset by peer')"),
    ]
    found = failure_of(logs)
    assert (found.kind, found.rank, found.others) == (kind, 1, 1)
    assert message in found.message and found.line is not None
