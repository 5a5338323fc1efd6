"""The failure card's logs: which ones are a start's, in every shape and size, and without secrets."""

from __future__ import annotations

import os
import time
from pathlib import Path

from qad_core.run.failure import find_failure
from qad_core.run.folder import RunFolder
from qad_core.run.start_logs import logs_of_start
from qad_core.run.status import Status
from tests.core.failed_start import (
    GLOO_CLOSED,
    STARTED,
    failure_of,
    log_name,
    on_slurm,
    output_name,
    record,
    traceback_of,
    watchdog,
    write_logs,
    write_start,
)
from tests.core.failure_texts import CUDA_OOM, ENDED, PYXIS


def test_a_start_up_line_far_above_does_not_make_a_late_traceback_the_earliest(tmp_path: Path) -> None:
    warning = (
        "[rank3]:[W1125 12:00:01.408271257 ProcessGroupNCCL.cpp:1496] Warning: WARNING: process group has NOT been\n"
    )
    texts = {
        output_name(3): warning + traceback_of("KeyError: 'late'"),
        log_name(1): record("this is a bug in the trainer", at="12:40:00,000") + traceback_of("ValueError: early"),
    }
    assert failure_of(write_logs(tmp_path, texts)).rank == 1


def test_an_exception_that_the_training_went_on_after_is_none(tmp_path: Path) -> None:
    step = record(
        "iteration 8/40 | loss/kd 0.5 | learning rate 1.000e-06 | grad norm 1", level="INFO", at="12:05:00,000"
    )
    logs = write_logs(tmp_path, {log_name(0): traceback_of("ValueError: survived") + step})
    assert find_failure(logs, None, Status(phase="training", updated=STARTED)) is None


def test_an_earlier_start_in_the_same_log_is_another_failure(tmp_path: Path) -> None:
    start = "2026-11-25 13:00:00 job 15, start 1, on node1 meeting at node1:29500\n"
    text = ENDED.format(why=" DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS")
    again = {"acct-tiny_15.log": text + start + PYXIS, "err_acct-tiny_15.log": text}
    found = find_failure(write_logs(tmp_path, again, seconds=7200), None, None, since=STARTED + 3600)
    assert found is not None and found.kind == "container"


def test_labels_of_srun_keep_the_tracebacks_of_two_nodes_apart(tmp_path: Path) -> None:
    one, two = traceback_of("ValueError: of node 1").splitlines(), traceback_of(GLOO_CLOSED).splitlines()
    mixed = "".join(f"0: {left}\n1: \x1b[31m{right}\x1b[0m\n" for left, right in zip(two, one, strict=True))
    found = failure_of(write_logs(tmp_path, {"acct-tiny_15.log": mixed}))
    assert found.message.startswith("ValueError: of node 1") and found.rank is None
    assert found.excerpt[0] == "Traceback (most recent call last):" and GLOO_CLOSED not in found.excerpt


def test_a_rank_of_another_node_is_numbered_among_all(tmp_path: Path) -> None:
    logs = write_logs(tmp_path, {output_name(1, node=3): traceback_of(CUDA_OOM)})
    assert failure_of(logs).rank is None
    found = failure_of(logs, on_slurm("cluster.nodes=4", "cluster.processes_per_node=2"))
    assert (found.rank, found.where) == (7, f"node 3, {output_name(1, node=3)}")


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    secrets = ("hf_AbCdEfGhIjKlMnOpQrStUv", "s3cr3t-w0rd", "eyJhbGciOi.abc", "0123456789abcdef0123")
    token, word, bearer, key = secrets
    text = (
        f"WANDB_API_KEY={key} HF_TOKEN={word}\nAuthorization: Bearer {bearer}\n"
        + traceback_of(f"ValueError: {token} in 'https://user:{word}@host/x', chunk_tokens=1024")
    )  # fmt: skip
    found = failure_of(write_start(tmp_path, text))
    shown = "\n".join((found.message, *found.excerpt))
    assert [secret for secret in secrets if secret in shown] == []
    assert "chunk_tokens=1024" in found.message


def test_huge_logs_are_read_at_their_ends_only(tmp_path: Path) -> None:
    paths = [tmp_path / output_name(rank) for rank in range(16)]
    for rank, path in enumerate(paths):
        with path.open("wb") as file:
            file.write(b"first line\n")
            file.seek(50 * 2**20)
            file.write(b"x" * 10**7 + b"\n")
            file.write((traceback_of(CUDA_OOM) if rank == 11 else watchdog(rank)).encode())
    began = time.process_time()
    found = failure_of(paths)
    assert time.process_time() - began < 1.0
    assert (found.kind, found.rank, found.line, found.others) == ("cuda_out_of_memory", 11, None, 15)


def test_a_log_full_of_errors_is_read_in_time(tmp_path: Path) -> None:
    lines = "".join(f"Error {number}: CUDA watchdog memory\n" for number in range(60_000))
    texts = {output_name(rank): traceback_of("ValueError: first") + lines + watchdog(rank) for rank in range(8)}
    logs = write_logs(tmp_path, texts)
    began = time.process_time()
    assert failure_of(logs).message.startswith("ValueError: first")
    assert time.process_time() - began < 3.0


def test_logs_that_are_no_text_empty_or_gone_are_no_obstacle(tmp_path: Path) -> None:
    texts = {output_name(0): b"\xff\xfe\x00\x80" * 999, output_name(1): b"", output_name(2): b"100%\r200%\rKeyError\n"}
    logs = [*write_logs(tmp_path, texts), tmp_path / "gone.log", tmp_path]
    assert find_failure(logs, None, None) is None


def test_the_logs_of_a_start_are_told_by_their_times(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    ended = STARTED + 600
    names = {
        "output_2026-11-25_11-00-00_rank0.out": STARTED - 60,  # an earlier start
        output_name(0): ended, log_name(1): ended - 1,
        output_name(0, node=1): ended + 15,  # another node took longer
        "output_2026-11-25_12-10-10_rank0.out": ended + 20,  # the next start
        "output_2026-11-25_13-00-00_rank0.out": ended + 4000,
        "tiny_2026-11-25_12-00-00.env.log": STARTED + 1,
    }  # fmt: skip
    for name, modified in names.items():
        write_logs(folder.logs, {name: "text"})
        os.utime(folder.logs / name, (modified, modified))
    slurm = write_logs(tmp_path / "logs_slurm", {"acct-tiny_15.log": "text"})
    found = logs_of_start(folder, STARTED, ended, [*slurm, tmp_path / "gone.log"])
    assert [path.name for path in found] == [output_name(0, node=1), output_name(0), log_name(1), "acct-tiny_15.log"]
