"""Every command of the client on a real cluster, with the controller well, down, and hung."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from qad_core.errors import QadError, RunError
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import AccountingUnavailable, SlurmMissing, SlurmRefused, SlurmUnavailable
from qad_core.slurm.jobs import is_finished, never_starts
from qad_core.slurm.records import AccountingEntry
from qad_core.slurm.submissions import find_submissions
from tests.slurm.cluster import SlurmCluster

UNKNOWN = "999999"
T = TypeVar("T")


def client_of(cluster: SlurmCluster, timeout_seconds: float = 30.0, **environ: str) -> SlurmClient:
    return SlurmClient(timeout_seconds, {**os.environ, **cluster.environ, **environ})


def script_of(folder: Path, *lines: str, options: tuple[str, ...] = ()) -> Path:
    script = folder / "job.sh"
    text = ["#!/bin/bash", "#SBATCH --output=%j.log", *(f"#SBATCH {option}" for option in options), *lines]
    script.write_text("\n".join(text) + "\n")
    return script


def await_value(ask: Callable[[], T], fact: Callable[[T], object], seconds: float = 40) -> T:
    """The first answer that is as wanted."""
    deadline = time.monotonic() + seconds
    while not fact(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


def await_state(client: SlurmClient, job_id: str, *states: str) -> None:
    await_value(lambda: client.queue([job_id])[0].state, lambda state: state in states)


def failure_of(act: Callable[[], object]) -> QadError:
    """What an action raises."""
    with pytest.raises(QadError) as caught:
        act()
    return caught.value


def test_a_job_goes_from_submission_to_its_end(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    script = script_of(tmp_path, "sleep 4", "exit 3", options=("--nodes=2", "--gpus-per-node=2", "--time=10"))
    job_id = client.submit(script, comment='qad:1f | a=b "c"', chdir=tmp_path)
    await_state(client, job_id, "RUNNING")
    (running,) = client.queue([job_id])
    assert (running.num_nodes, running.gpus, running.time_limit_seconds, running.exit_code) == (2, 4, 600, None)
    assert running.comment == 'qad:1f | a=b "c"'
    assert running.start_time is not None and abs(running.start_time - time.time()) < 30
    details = client.show_job(job_id)
    assert details is not None and details["StdOut"] == str(tmp_path / f"{job_id}.log")
    await_state(client, job_id, "FAILED")
    (ended,) = client.queue([job_id])
    assert (ended.exit_code, ended.signal, ended.reason) == (3, None, "NonZeroExitCode")
    (accounted,) = await_value(lambda: client.accounting([job_id, UNKNOWN]), has_ended)
    assert (accounted.state, accounted.exit_code, accounted.elapsed_seconds > 0) == ("FAILED", 3, True)


def has_ended(entries: list[AccountingEntry]) -> bool:
    return bool(entries) and is_finished(entries[-1].state)


def test_a_killed_script_and_an_unwritable_log_show_their_signals(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    killed = client.submit(script_of(tmp_path, "kill -9 $$"), comment="a", chdir=tmp_path)
    no_log = client.submit(script_of(tmp_path, options=("--output=/nonexistent/log",)), comment="b", chdir=tmp_path)
    for job_id, signal in ((killed, 9), (no_log, 53)):
        await_state(client, job_id, "FAILED")
        (queued,), (accounted,) = (
            client.queue([job_id]),
            await_value(lambda job=job_id: client.accounting([job]), has_ended),
        )
        assert (queued.exit_code, queued.signal) == (accounted.exit_code, accounted.signal) == (0, signal)


def test_what_is_asked_to_be_refused_names_its_config_key(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    keys = {
        "--partition=nope": "cluster.slurm.partition",
        "--partition=drain": "cluster.slurm.partition",
        "--account=nope": "cluster.slurm.account",
        "--qos=nope": "cluster.slurm.qos",
        "--time=abc": "cluster.slurm.time_limit",
        "--nodes=0": "cluster.nodes",
        "--gpus-per-node=9": "cluster.slurm.gpus_per_node",
        "--gpus-per-node=a100:1": "cluster.slurm.gpus_per_node",
        "--gres=foo:1": "cluster.slurm.gpus_per_node",
        "--mem=9999G": "cluster.slurm.memory",
        "--mem=abc": "cluster.slurm.memory",
        "--nodelist=nope": "cluster.slurm.extra_options",
        "--constraint=nope": "cluster.slurm.extra_options",
        "--reservation=nope": "cluster.slurm.extra_options",
        "--licenses=nope": "cluster.slurm.extra_options",
        "--signal=FOO@60": "cluster.slurm.extra_options",
        "--bogus": "cluster.slurm.extra_options",
        "--dependency=afterok:abc": "",
    }
    found: dict[str, str] = {}
    for option in keys:
        script = script_of(tmp_path, options=(option,))
        failure = failure_of(lambda script=script: client.submit(script, comment="a", chdir=tmp_path))
        assert isinstance(failure, SlurmRefused) and failure.hint, option
        found[option] = failure.key
    assert found == keys
    quality = script_of(tmp_path, options=("--qos=short", "--time=2:00:00"))
    failure = failure_of(lambda: client.submit(quality, comment="a", chdir=tmp_path))
    assert isinstance(failure, SlurmRefused) and failure.key == "cluster.slurm.time_limit"
    assert failure.said.startswith("QOSMaxWallDurationPerJobLimit; ")
    for wrong in ("", "echo no interpreter\n", "#!/bin/bash\r\necho\r\n"):
        script = tmp_path / "wrong.sh"
        script.write_text(wrong, newline="")
        failure = failure_of(lambda script=script: client.submit(script, comment="a"))
        assert isinstance(failure, SlurmRefused), wrong
    assert client.queue() == []


def test_a_question_whether_a_job_would_be_taken_submits_none(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    client.test_only("#!/bin/bash\n#SBATCH --nodes=2\n", chdir=tmp_path)
    failure = failure_of(lambda: client.test_only("#!/bin/bash\n#SBATCH --partition=nope\n", chdir=tmp_path))
    assert isinstance(failure, SlurmRefused) and failure.key == "cluster.slurm.partition"
    assert client.queue() == []


def test_a_walltime_above_the_limit_is_taken_and_waits_for_ever(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    job_id = client.submit(script_of(tmp_path, options=("--time=5-0",)), comment="a", chdir=tmp_path)
    (entry,) = await_value(lambda: client.queue([job_id]), lambda found: found[0].reason == "PartitionTimeLimit")
    assert never_starts(entry.reason)


def test_a_dependency_that_cannot_be_met_stays_to_be_seen(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    failing = client.submit(script_of(tmp_path, "exit 1"), comment="a", chdir=tmp_path)
    waiting = client.submit(script_of(tmp_path), comment="b", dependency=f"afterok:{failing}", chdir=tmp_path)
    await_state(client, failing, "FAILED")
    (entry,) = await_value(lambda: client.queue([waiting]), lambda found: found[0].reason == "DependencyNeverSatisfied")
    assert (entry.state, entry.dependency) == ("PENDING", f"afterok:{failing}(failed)")


def test_unknown_jobs_are_unknown_and_no_error(slurm: SlurmCluster) -> None:
    client = client_of(slurm)
    assert client.queue([UNKNOWN]) == []
    assert client.queue([UNKNOWN, "999998"]) == []
    assert client.queue([]) == []
    assert client.accounting([UNKNOWN]) == []
    assert client.show_job(UNKNOWN) is None
    assert find_submissions(client, "qad:nobody") == []
    client.cancel([UNKNOWN])
    client.stop_gently(UNKNOWN)
    for act in (client.hold, client.release, client.requeue):
        assert isinstance(failure_of(lambda act=act: act([UNKNOWN])), SlurmRefused)
    assert isinstance(failure_of(lambda: client.start_now(UNKNOWN)), SlurmRefused)
    with pytest.raises(SlurmRefused, match="nosuchuser"):
        client.queue(user="nosuchuser")


def test_a_job_is_held_released_requeued_and_cancelled(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    job_id = client.submit(script_of(tmp_path, "sleep 600", options=("--hold",)), comment="a", chdir=tmp_path)
    assert client.queue([job_id])[0].reason == "JobHeldUser"
    client.release([job_id])
    await_state(client, job_id, "RUNNING")
    client.requeue([job_id])
    await_state(client, job_id, "PENDING")
    client.hold([job_id])
    assert client.queue([job_id])[0].reason.startswith("JobHeld")
    client.release([job_id])
    client.start_now(job_id)
    await_state(client, job_id, "RUNNING")
    assert client.queue([job_id])[0].restarts == 1
    states = await_value(lambda: [entry.state for entry in client.accounting([job_id], every_start=True)], len)
    assert states[0] == "REQUEUED"
    client.cancel([job_id], only_pending=True)
    assert client.queue([job_id])[0].state == "RUNNING"
    client.cancel([job_id, UNKNOWN])
    await_state(client, job_id, "CANCELLED")
    (accounted,) = await_value(lambda: client.accounting([job_id]), has_ended)
    assert (accounted.state, accounted.cancelled_by) == ("CANCELLED", str(os.getuid()))


def test_a_gentle_stop_reaches_the_batch_script(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    trapping = ("trap 'exit 3' USR1", "touch ready", "sleep 600 &", "wait")
    job_id = client.submit(script_of(tmp_path, *trapping), comment="a", chdir=tmp_path)
    held = client.submit(script_of(tmp_path, options=("--hold",)), comment="b", chdir=tmp_path)
    await_value((tmp_path / "ready").exists, bool)
    client.stop_gently(job_id)
    client.stop_gently(held)
    await_state(client, job_id, "FAILED")
    assert client.queue([job_id])[0].exit_code == 3
    assert client.queue([held])[0].state == "PENDING"


def test_free_gpus_are_those_that_no_job_has(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm)
    before = {entry.name: entry for entry in client.partitions()}
    assert (before["gpu"].default, before["gpu"].gpus, before["gpu"].gpus_free) == (True, 32, 32)
    assert (before["debug"].time_limit_seconds, before["drain"].availability) == (600, "drain")
    script = script_of(tmp_path, "sleep 600", options=("--nodes=1", "--gpus-per-node=3"))
    await_state(client, client.submit(script, comment="a", chdir=tmp_path), "RUNNING")
    gpu = next(entry for entry in client.partitions() if entry.name == "gpu")
    assert (gpu.gpus_free, gpu.nodes_idle, gpu.nodes_allocated, gpu.nodes_unavailable) == (29, 3, 1, 0)


def test_tasks_of_an_array_are_listed_one_by_one(slurm_without_accounting: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm_without_accounting)
    array = client.submit(script_of(tmp_path, "sleep 600", options=("--array=0-3%2",)), comment="a", chdir=tmp_path)
    listed = await_value(client.queue, lambda entries: [entry.state for entry in entries].count("RUNNING") == 2)
    assert sorted(entry.job_id for entry in listed) == [f"{array}_{task}" for task in range(4)]
    assert {entry.job_id for entry in client.queue([array])} == {entry.job_id for entry in listed}


def test_what_is_added_to_the_environment_reaches_the_job_and_nobody_else(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm, SLURM_JOB_ID="7", SLURM_MEM_PER_NODE="1", SBATCH_PARTITION="nope")
    script = script_of(tmp_path, "echo $TOKEN ${SLURM_MEM_PER_NODE:-unset} $SLURM_JOB_ID")
    job_id = client.submit(script, comment="a", environ={"TOKEN": "s3cret"}, chdir=tmp_path)
    await_state(client, job_id, "COMPLETED")
    assert (tmp_path / f"{job_id}.log").read_text() == f"s3cret unset {job_id}\n"
    assert "s3cret" not in str(client.show_job(job_id))


def test_format_variables_change_nothing(slurm: SlurmCluster, tmp_path: Path) -> None:
    plain = client_of(slurm)
    job_id = plain.submit(script_of(tmp_path, "sleep 600"), comment="qad:2", chdir=tmp_path)
    await_state(plain, job_id, "RUNNING")
    await_value(lambda: plain.accounting([job_id]), lambda found: bool(found) and found[0].state == "RUNNING")
    odd = client_of(
        slurm, SQUEUE_FORMAT="%i", SQUEUE_FORMAT2="jobid", SQUEUE_STATES="PD", SQUEUE_USERS="nobody",
        SACCT_FORMAT="jobid", SINFO_FORMAT="%N", SLURM_TIME_FORMAT="relative", SCANCEL_STATE="PENDING",
        SLURM_CLUSTERS="other", LC_ALL="de_DE.UTF-8",
    )  # fmt: skip
    assert [entry._replace(elapsed_seconds=0) for entry in odd.queue()] == [
        entry._replace(elapsed_seconds=0) for entry in plain.queue()
    ]
    assert odd.accounting([job_id])[0].start_time == plain.accounting([job_id])[0].start_time
    assert odd.partitions() == plain.partitions()
    assert find_submissions(odd, "qad:2") == [job_id]
    odd.cancel([job_id])
    await_state(odd, job_id, "CANCELLED")


def test_a_folder_that_is_not_there_is_refused_before_the_job_runs_elsewhere(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    script = script_of(tmp_path)
    with pytest.raises(RunError, match="gone"):
        client_of(slurm).submit(script, comment="a", chdir=tmp_path / "gone")


def test_a_controller_that_is_down_has_not_said_that_there_are_no_jobs(
    slurm_without_accounting: SlurmCluster, tmp_path: Path
) -> None:
    client = client_of(slurm_without_accounting)
    script = script_of(tmp_path)
    assert client.ping()
    slurm_without_accounting.stop("slurmctld")
    acts: list[Callable[[], object]] = [
        client.queue,
        lambda: client.queue([UNKNOWN]),
        lambda: find_submissions(client, "qad:3"),
        lambda: client.show_job(UNKNOWN),
        client.partitions,
        lambda: client.submit(script, comment="qad:3"),
        lambda: client.cancel([UNKNOWN]),
        lambda: client.hold([UNKNOWN]),
        lambda: client.requeue([UNKNOWN]),
        lambda: client.start_now(UNKNOWN),
        lambda: client.stop_gently(UNKNOWN),
    ]
    with ThreadPoolExecutor(len(acts)) as pool:
        failures = list(pool.map(failure_of, acts))
    assert {type(failure) for failure in failures} == {SlurmUnavailable}
    assert all(failure.message.startswith("The SLURM controller does not answer: ") for failure in failures)
    assert not client.ping()


def test_a_submission_whose_answer_was_lost_is_found_again(slurm: SlurmCluster, tmp_path: Path) -> None:
    client = client_of(slurm, timeout_seconds=2)
    slurm.pause("slurmctld")
    began = time.monotonic()
    with pytest.raises(SlurmUnavailable, match="sbatch said nothing in 2 s"):
        client.submit(script_of(tmp_path), comment="qad:lost", chdir=tmp_path)
    with pytest.raises(SlurmUnavailable):
        find_submissions(client, "qad:lost")
    assert time.monotonic() - began < 8
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() in ("sbatch", "squeue")]
    slurm.resume("slurmctld")
    (job_id,) = await_value(lambda: find_submissions(client_of(slurm), "qad:lost"), bool)
    assert len(client.queue([job_id])) == 1


def test_without_munge_nothing_is_known(slurm_without_accounting: SlurmCluster) -> None:
    slurm_without_accounting.stop("munged")
    with pytest.raises(SlurmUnavailable, match="Munge encode failed"):
        client_of(slurm_without_accounting).queue()


def test_a_cluster_without_accounts_says_so_and_the_rest_works(
    slurm_without_accounting: SlurmCluster, tmp_path: Path
) -> None:
    client = client_of(slurm_without_accounting)
    with pytest.raises(AccountingUnavailable) as caught:
        client.accounting(["1"])
    assert caught.value.disabled
    script = script_of(tmp_path, "sleep 600", options=("--nodes=2", "--gpus-per-node=3"))
    job_id = client.submit(script, comment="qad:4", chdir=tmp_path)
    assert find_submissions(client, "qad:4") == [job_id]
    assert find_submissions(client, "qad:5") == []
    assert client.queue([job_id])[0].gpus == 6


def test_accounts_that_are_down_are_not_a_controller_that_is_down(slurm: SlurmCluster) -> None:
    slurm.stop("slurmdbd")
    with pytest.raises(AccountingUnavailable) as caught:
        client_of(slurm).accounting(["1"])
    assert not caught.value.disabled
    assert client_of(slurm).queue() == []
    slurm.start_part("slurmdbd")
    slurm.pause("slurmdbd")
    with pytest.raises(AccountingUnavailable, match="sacct said nothing in 2 s"):
        client_of(slurm, timeout_seconds=2).accounting(["1"])


def test_a_configuration_or_command_that_is_missing_is_said_at_once(slurm: SlurmCluster, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(SlurmMissing, match="gone"):
        client_of(slurm, SLURM_CONF=str(tmp_path / "gone")).queue()
    with pytest.raises(SlurmMissing, match="squeue is not on the PATH"):
        client_of(slurm, PATH=str(tmp_path)).queue()
    assert time.monotonic() - began < 2
    assert client_of(slurm).version().count(".") >= 2
