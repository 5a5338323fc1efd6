"""The limits of a QOS or an account, by their names: QOSMaxWallDurationPerJobLimit, AssocGrpGRES, MaxNodePerAccount.

Pure. There are some two hundred (job_state_reason.c), made up of a few words: whose limit, the most or the
least, of what, for a job, a user, or all together.
"""

from __future__ import annotations

import re

_NAME = re.compile(
    r"(?P<owner>QOS|Assoc|)(?P<kind>Grp|Max|Min)"
    r"(?P<what>SubmitJobs?|Jobs|WallDuration|Wall|C(?:pu|PU)|GRES|Node|Mem(?:ory)?|Billing|License|Energy|BB|Unknown)"
    r"(?P<time>Run(?:Mins|Minutes)|Minutes|)(?P<scope>Per(?:Job|User|Account|Node)|)(?:Limit|NotSatisfied|)"
)
_OLDER = {
    "QOSJobLimit": "the QOS's limit is reached",
    "QOSResourceLimit": "the QOS's limit is reached",
    "AssociationJobLimit": "the account's limit is reached",
    "AssociationResourceLimit": "the account's limit is reached",
}
_OLDER_TIMES = {
    "QOSTimeLimit": "its walltime is above the QOS's limit",
    "AssociationTimeLimit": "its walltime is above the account's limit",
}
_THINGS = {
    "SubmitJob": ("jobs in the queue", "number of links"),
    "SubmitJobs": ("jobs in the queue", "number of links"),
    "Jobs": ("running jobs", "number of links"),
    "Wall": ("walltime", "cluster.slurm.time_limit"),
    "WallDuration": ("walltime", "cluster.slurm.time_limit"),
    "Cpu": ("cores", "cluster.slurm.cpus_per_task"),
    "CPU": ("cores", "cluster.slurm.cpus_per_task"),
    "GRES": ("GPUs", "cluster.slurm.gpus_per_node"),
    "Node": ("nodes", "cluster.nodes"),
    "Mem": ("memory", "cluster.slurm.memory"),
    "Memory": ("memory", "cluster.slurm.memory"),
    "Billing": ("billing units", "size"),
    "License": ("licences", "cluster.slurm.extra_options"),
    "Energy": ("energy", "size"),
    "BB": ("burst buffer", "cluster.slurm.extra_options"),
    "Unknown": ("a resource", "size"),
}
"""What a limit is on, and what to change."""


def limit_words(name: str) -> tuple[str, bool, str] | None:
    """What a job waits for, whether for ever, and the key of what is too much; None for a name that is no limit."""
    if name in _OLDER:
        return _OLDER[name], False, ""
    if name in _OLDER_TIMES:
        return _OLDER_TIMES[name], True, "cluster.slurm.time_limit"
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    thing, key = _THINGS[found["what"]]
    thing = f"{thing} x minutes" if found["time"] else thing
    owner = {"QOS": "the QOS's", "Assoc": "the account's", "": "the"}[found["owner"]]
    if found["kind"] == "Min":
        return f"it asks for less than {owner} minimum of {thing}", True, key
    if found["kind"] == "Max" and found["scope"] in ("PerJob", "PerNode"):
        each = "a job" if found["scope"] == "PerJob" else "a node"
        return f"it asks for more than {owner} limit of {thing} for {each}", True, key
    whose = {"PerUser": " for one user", "PerAccount": " for one account"}.get(found["scope"], "")
    together = " for all its jobs together" if found["kind"] == "Grp" else whose
    return f"{owner} limit of {thing}{together} is reached", False, key
