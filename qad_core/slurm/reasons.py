"""Why a job waits, by SLURM's word for it: what that means, whether waiting helps, and what to do if not.

Pure. The words are those of job_state_reason.c in 22.05 to 25.11, and the sentences that the controller writes
in their place (state_desc in src/slurmctld); scontrol writes those with underscores. Limits are in `limits.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from qad_core.slurm.limits import limit_words


@dataclass(frozen=True)
class Reason:
    """One reason."""

    words: str
    """A phrase: what the job waits for."""
    never: bool = False
    """Whether waiting will not help."""
    advice: str = ""
    """What to do; empty where it is to wait."""


_AGAIN = "Cancel it, and submit it again with another"
_RELEASE = "Release it with `scontrol release JOB`, or cancel it."
_ASK = "Ask the site's staff, or cancel it."

_REASONS: dict[str, Reason] = {
    "": Reason("SLURM has not looked at it yet"),
    "Priority": Reason("jobs with a higher priority go first"),
    "Resources": Reason("the nodes it needs are in use"),
    "Dependency": Reason("other jobs go first"),
    "DependencyNeverSatisfied": Reason(
        "what it depends on can no longer come", True,
        "Cancel it; submit what it waits for again, and then this behind it.",
    ),
    "BeginTime": Reason("its time to begin has not come (after a requeue, two minutes by default)"),
    "JobHeldUser": Reason("it is held by its owner", True, _RELEASE),
    "JobHeldAdmin": Reason("it is held by the site's staff, or by SLURM after a failed start", True, _ASK),
    "JobHoldMaxRequeue": Reason("it was requeued too often and is held", True, f"See its log. {_RELEASE}"),
    "PartitionTimeLimit": Reason(
        "its walltime is above the partition's limit", True, f"{_AGAIN} cluster.slurm.time_limit, or another partition."
    ),
    "PartitionNodeLimit": Reason(
        "its number of nodes is outside the partition's limits", True, f"{_AGAIN} cluster.nodes, or another partition."
    ),
    "PartitionConfig": Reason(
        "the partition has no nodes of the kind it asks for", True,
        f"{_AGAIN} cluster.slurm.partition, or fewer cores, memory or GPUs a node.",
    ),
    "PartitionDown": Reason("the partition is down"),
    "PartitionInactive": Reason("the partition is inactive", True, f"{_AGAIN} cluster.slurm.partition."),
    "ReqNodeNotAvail": Reason("a node that it asks for is not available"),
    "Licenses": Reason("its licences are in use"),
    "Reservation": Reason("its reservation has not begun"),
    "ReservationDeleted": Reason("its reservation was removed", True, f"{_AGAIN} --reservation."),
    "ReservationInvalid": Reason("its reservation is not valid (any more)", True, f"{_AGAIN} --reservation."),
    "InvalidAccount": Reason("its account is not valid (any more)", True, f"{_AGAIN} cluster.slurm.account."),
    "AccountNotAllowed": Reason(
        "its account may not use the partition", True, f"{_AGAIN} cluster.slurm.account or cluster.slurm.partition."
    ),
    "InvalidQOS": Reason("its QOS is not valid (any more)", True, f"{_AGAIN} cluster.slurm.qos."),
    "QOSNotAllowed": Reason(
        "its QOS may not be used here", True, f"{_AGAIN} cluster.slurm.qos or cluster.slurm.partition."
    ),
    "QOSUsageThreshold": Reason("its account has used more than the QOS lets it", True, f"{_AGAIN} cluster.slurm.qos."),
    "JobArrayTaskLimit": Reason("as many tasks of its array run as it allows"),
    "BadConstraints": Reason("no nodes have what it asks for", True, f"{_AGAIN} request: no node fits this one."),
    "Constraints": Reason("no nodes have what it asks for at the moment"),
    "DeadLine": Reason("its deadline cannot be kept", True, "Cancel it."),
    "NodeDown": Reason("a node that it needs is down"),
    "InactiveLimit": Reason("it was inactive for too long"),
    "SchedDefer": Reason("SLURM looks at new jobs later"),
    "Cleaning": Reason("its last start is being cleared away"),
    "Prolog": Reason("the site's prolog runs"),
    "BurstBufferResources": Reason("the burst buffer is in use"),
    "BurstBufferStageIn": Reason("its data are copied to the burst buffer"),
    "BurstBufferOperation": Reason("the burst buffer failed", True, _ASK),
    "FedJobLock": Reason("the clusters settle which of them takes it"),
    "MaxPoweredUpNodes": Reason("as many nodes are powered up as the site allows"),
    "MpiPortsBusy": Reason("the MPI ports are in use"),
    "NvidiaImexChannels": Reason("the NVLink channels between nodes are in use"),
    "PowerNotAvail": Reason("there is not enough power"),
    "PowerReserved": Reason("power is reserved for others"),
    "MaxMemPerLimit": Reason(
        "its memory is above the limit", True, f"{_AGAIN} cluster.slurm.memory, or fewer cores a node."
    ),
    "AccountingPolicy": Reason("a limit of the account or QOS is reached"),
    # why a job that was started has failed
    "JobLaunchFailure": Reason("it could not be started, or a process was killed by a signal"),
    "RaisedSignal": Reason("a process was killed by a signal"),
    "NonZeroExitCode": Reason("its batch script ended with an error"),
    "TimeLimit": Reason("it ran into its walltime"),
    "OutOfMemory": Reason("it ran out of memory"),
    "SystemFailure": Reason("SLURM or a node failed"),
    # sentences
    "launch failed requeued held": Reason(
        "it could not be started, and is held", True, f"See the nodes' logs or ask the site. {_RELEASE}"
    ),
    "job requeued in held state": Reason("it was requeued and is held", True, _RELEASE),
    "job requeued in special exit state": Reason("it was requeued after an error and is held", True, _RELEASE),
    "launch failure limit exceeded requeued held": Reason("it failed to start too often, and is held", True, _ASK),
    "user env retrieval failed requeued held": Reason("your environment could not be read, and it is held", True, _ASK),
}  # fmt: skip
_SENTENCES = (
    (
        "Nodes required for job are DOWN",
        Reason("the nodes it needs are down, drained, or reserved for other partitions"),
    ),
    ("ReqNodeNotAvail, Reserved for maintenance", Reason("the nodes it needs are reserved for maintenance")),
    ("ReqNodeNotAvail, May be reserved", Reason("the nodes it needs are reserved for other jobs")),
)


def find_reason(text: str) -> Reason | None:
    """The reason of squeue, sacct or scontrol; None for one that is not known."""
    text = "" if text == "None" else text.strip("()")
    sentence = text.replace("_", " ")
    for beginning, reason in _SENTENCES:
        if sentence.startswith(beginning):
            return reason
    word, _, detail = text.replace(",_", ", ").partition(", ")
    if word == "ReqNodeNotAvail" and detail.startswith("UnavailableNodes:"):
        return Reason(f"nodes that it needs are not available: {detail.removeprefix('UnavailableNodes:')}")
    # 23.02 on: RaisedSignal:9(Killed)
    return _REASONS.get(word) or _REASONS.get(sentence) or _REASONS.get(word.partition(":")[0]) or _limit(word)


def _limit(word: str) -> Reason | None:
    found = limit_words(word)
    if found is None:
        return None
    words, never, key = found
    return Reason(words, never, f"{_AGAIN} {key}." if never else "")
