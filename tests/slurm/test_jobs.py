"""States, reasons and endings in plain words."""

from __future__ import annotations

import pytest

from qad_core.slurm.dependencies import dependency_words, short_dependency
from qad_core.slurm.jobs import (
    ending_words,
    is_finished,
    is_pending,
    is_running,
    never_starts,
    reason_words,
    state_words,
    what_to_do,
)

DRAINED = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"


@pytest.mark.parametrize(
    ("state", "pending", "running", "finished"),
    [
        ("PENDING", True, False, False),
        ("REQUEUED", True, False, False),
        ("RUNNING", False, True, False),
        ("COMPLETING", False, True, False),
        ("SUSPENDED", False, True, False),
        ("COMPLETED", False, False, True),
        ("NODE_FAIL", False, False, True),
        ("SOMETHING_NEW", False, False, False),
    ],
)
def test_a_job_waits_or_runs_or_has_ended(state: str, pending: bool, running: bool, finished: bool) -> None:
    assert (is_pending(state), is_running(state), is_finished(state)) == (pending, running, finished)


def test_a_state_that_nobody_knows_is_shown_and_is_no_end() -> None:
    assert state_words("TIMEOUT") == "ran into its walltime"
    assert state_words("SOMETHING_NEW") == "SOMETHING_NEW"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("DependencyNeverSatisfied", "Cancel it"),
        ("PartitionTimeLimit", "cluster.slurm.time_limit"),
        ("PartitionNodeLimit", "cluster.nodes"),
        ("PartitionConfig", "cluster.slurm.partition"),
        ("JobHeldUser", "scontrol release"),
        ("JobHeldAdmin", "staff"),
        ("launch_failed_requeued_held", "scontrol release"),
        ("InvalidAccount", "cluster.slurm.account"),
        ("InvalidQOS", "cluster.slurm.qos"),
        ("QOSMaxWallDurationPerJobLimit", "cluster.slurm.time_limit"),
        ("AssocMaxNodePerJobLimit", "cluster.nodes"),
        ("QOSMaxGRESPerJob", "cluster.slurm.gpus_per_node"),
        ("QOSMinGRES", "cluster.slurm.gpus_per_node"),
    ],
)
def test_a_job_that_pends_for_ever_says_what_to_do(reason: str, advice: str) -> None:
    assert never_starts(reason)
    assert advice in what_to_do(reason)
    assert reason_words(reason) != reason


@pytest.mark.parametrize(
    "reason",
    [
        "None", "Priority", "Resources", "Dependency", "BeginTime", "Licenses", "JobArrayTaskLimit", "PartitionDown",
        DRAINED,
        "QOSGrpGRES", "QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "AssocGrpCPUMinutesLimit", "AssocGrpWallLimit",
        "MaxGRESPerAccount", "ReqNodeNotAvail, UnavailableNodes:node4",
    ],
)  # fmt: skip
def test_a_job_that_will_start_is_to_be_waited_for(reason: str) -> None:
    assert not never_starts(reason)
    assert what_to_do(reason) == ""
    assert reason_words(reason) != reason


def test_a_reason_that_nobody_knows_is_shown_as_it_is() -> None:
    assert reason_words("SomethingNew") == "SomethingNew"
    assert not never_starts("SomethingNew")


def test_a_dependency_says_which_jobs_it_waits_for() -> None:
    waits = "afterok:1(unfulfilled),afterany:2_*(unfulfilled)"
    assert reason_words("Dependency", dependency=waits) == (
        "other jobs go first: until job 1 has ended well and job 2_* has ended"
    )
    assert reason_words("Dependency", dependency="singleton(unfulfilled)") == (
        "other jobs go first: until no other job of this name runs"
    )
    assert reason_words("DependencyNeverSatisfied", dependency="afterok:10(failed)") == (
        "what it depends on can no longer come (afterok:10(failed))"
    )


def test_a_long_dependency_is_the_first_job_and_a_number() -> None:
    strangers = "afterok:9(unfulfilled),afterany:1(unfulfilled),afterany:2(unfulfilled),afterany:3(unfulfilled)"
    assert short_dependency(strangers) == "afterok:9, afterany:1 and 2 more"
    assert short_dependency(strangers, {"1", "2", "3"}) == "afterok:9, all links before it"
    assert short_dependency("afterok:9,afterany:1:2:3", {"1", "2", "3"}) == "afterok:9, all links before it"
    assert short_dependency("afterok:1(failed),afterok:2(unfulfilled)") == "afterok:1(failed), afterok:2"
    assert short_dependency("singleton") == "singleton" and short_dependency("something new") == "something new"
    assert dependency_words("afterok:1?afterok:2") == "job 1 has ended well or job 2 has ended well"
    assert dependency_words(strangers) == "job 9 has ended well and jobs 1 and 2 more have ended"


def test_limits_say_whose_and_of_what() -> None:
    assert reason_words("QOSGrpGRES") == "the QOS's limit of GPUs for all its jobs together is reached"
    assert reason_words("QOSMaxCpuPerUserLimit") == "the QOS's limit of cores for one user is reached"
    assert (
        reason_words("QOSMaxWallDurationPerJobLimit") == "it asks for more than the QOS's limit of walltime for a job"
    )
    assert reason_words("AssocGrpCPUMinutesLimit") == (
        "the account's limit of cores x minutes for all its jobs together is reached"
    )


def test_unavailable_nodes_are_named() -> None:
    squeue = "ReqNodeNotAvail, UnavailableNodes:node[1-4]"
    assert reason_words(squeue) == "nodes that it needs are not available: node[1-4]"
    assert reason_words(squeue.replace(" ", "_")) == reason_words(squeue)  # scontrol
    assert "maintenance" in reason_words("ReqNodeNotAvail, Reserved for maintenance")


@pytest.mark.parametrize(
    ("state", "exit_code", "signal", "reason", "words"),
    [
        ("COMPLETED", 0, None, "", "ended well"),
        ("FAILED", 3, None, "NonZeroExitCode", "failed with exit code 3"),
        ("FAILED", 0, 9, "JobLaunchFailure", "was killed by SIGKILL"),
        ("FAILED", 0, 9, "RaisedSignal:9(Killed)", "was killed by SIGKILL"),
        ("FAILED", 0, 53, "JobLaunchFailure", "failed before it began: its log file could not be written"),
        ("FAILED", 0, None, "JobLaunchFailure",
         "failed: it could not be started, or a process was killed by a signal"),
        ("TIMEOUT", 0, 15, "TimeLimit", "ran into its walltime"),
        ("NODE_FAIL", 0, None, "NodeDown", "lost a node"),
        ("OUT_OF_MEMORY", 0, 125, "OutOfMemory", "ran out of memory"),
        ("CANCELLED", 0, 15, "", "was cancelled"),
        ("CANCELLED", 0, None, "DependencyNeverSatisfied",
         "was cancelled by SLURM: what it depended on can no longer come"),
    ],
)  # fmt: skip
def test_an_ending_is_told_in_words(
    state: str, exit_code: int | None, signal: int | None, reason: str, words: str
) -> None:
    assert ending_words(state, exit_code, signal, reason) == words
