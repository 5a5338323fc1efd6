"""What sbatch says no to: for each of its texts the config key that it is about, and what to do.

Pure. The texts are those of SLURM 22.05 to 25.11 (src/common/slurm_errno.c, proc_args.c, job_mgr.c, and seen on
22.05). A text that is not here is the site's own, or new: it is shown as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SLURM = "cluster.slurm."
_SEE_PARTITIONS = "`sinfo` lists the partitions."
_SEE_ACCOUNTS = "`sacctmgr show associations user=$USER format=account,partition,qos` lists what you may use."
_SEE_NODES = "`sinfo -o '%P %l %D %c %m %G'` shows each partition's longest walltime, nodes, cores, memory and GPUs."


@dataclass(frozen=True)
class Refusal:
    """One thing that SLURM refuses a job for."""

    key: str
    """Config key whose value it is about; empty where it is none."""
    hint: str
    """What to do."""


# The first text that is found counts: what is said more exactly stands before what goes along with it.
REFUSALS: tuple[tuple[str, Refusal], ...] = tuple(
    (text, Refusal(key, hint))
    for texts, key, hint in (
        (("invalid partition specified", "Invalid partition name specified", "No partition specified"),
         _SLURM + "partition", f"Name a partition of this cluster. {_SEE_PARTITIONS}"),
        (("Required partition not available", "Partition in DOWN state", "Requested partition configuration not"),
         _SLURM + "partition", f"It takes no jobs now: wait, or name another. {_SEE_PARTITIONS}"),
        (("group not permitted to use this partition", "Multiple partition job request not supported"),
         _SLURM + "partition", f"Name a partition that you may use. {_SEE_ACCOUNTS}"),
        (("Invalid account or account/partition", "Invalid or unknown association"),
         _SLURM + "account", f"Name an account of yours, and a partition that it may use. {_SEE_ACCOUNTS}"),
        (("Invalid qos specification", "Invalid QOS specification", "QOS usage threshold", "Invalid QOS"),
         _SLURM + "qos", f"Name a QOS of your account. {_SEE_ACCOUNTS}"),
        (("MaxSubmitJob", "GrpSubmitJobs"),
         "", "That many of your jobs are in the queue already: wait for some to end, or submit fewer links."),
        (("WallDurationPerJobLimit", "GrpWallLimit", "Requested time limit is invalid", "Invalid --time specification",
          "Time limit specification required"),
         _SLURM + "time_limit", f"Ask for less time a link; the chain gets more links. {_SEE_NODES}"),
        (("Invalid generic resource (gres) specification", "Invalid GRES specification", "Invalid --gpus-per-node",
          "Invalid Trackable RESource"),
         _SLURM + "gpus_per_node", f"See cluster.slurm.gpu_type too. {_SEE_NODES}"),
        (("CPU count per node can not be satisfied", "CPU count specification invalid",
          "More processors requested than permitted"),
         _SLURM + "cpus_per_task", f"Ask for fewer cores. {_SEE_NODES}"),
        (("Memory specification can not be satisfied", "Memory required by task is not available",
          "Invalid --mem specification"),
         _SLURM + "memory", f"Ask for less memory a node, as `200G`; `0` is all of it. {_SEE_NODES}"),
        (("Node count specification invalid", "node count"),
         "cluster.nodes", f"Ask for fewer nodes, or for a partition that has more. {_SEE_NODES}"),
        (("Requested node configuration is not available", "Requested topology configuration is not available"),
         _SLURM + "gpus_per_node",
         f"No nodes of the partition have all that is asked for: see cluster.nodes, cluster.slurm.gpus_per_node, "
         f"gpu_type, cpus_per_task and memory. {_SEE_NODES}"),
        (("Invalid node name specified", "Requested nodes not in this partition", "Invalid feature specification",
          "reservation is invalid", "Access denied to requested reservation", "reservation not usable",
          "Invalid license specification", "Invalid job array specification", "unrecognized option",
          "requires an argument", "Invalid --", "Invalid numeric value"),
         _SLURM + "extra_options", "It names what this cluster does not have or does not let you use."),
        (("dependency problem", "Circular job dependency"),
         "", "Name jobs that SLURM knows, as --after afterok:123; `squeue --me` lists yours."),
        (("Unable to open file", "Batch script is empty", "does not look like a batch script", "DOS line breaks"),
         "", "The batch script was changed or removed after it was written: submit again."),
        (("presently disabled", "submissions disabled"),
         "", "The site takes no jobs now. Try again later."),
    )
    for text in texts
)  # fmt: skip

_LIMITS: tuple[tuple[str, Refusal], ...] = (
    ("GRES", Refusal(_SLURM + "gpus_per_node", f"It is a limit on GPUs. {_SEE_ACCOUNTS}")),
    ("C(?:pu|PU)", Refusal(_SLURM + "cpus_per_task", f"It is a limit on cores. {_SEE_ACCOUNTS}")),
    ("Mem", Refusal(_SLURM + "memory", f"It is a limit on memory. {_SEE_ACCOUNTS}")),
    ("Node", Refusal("cluster.nodes", f"It is a limit on nodes. {_SEE_ACCOUNTS}")),
)
"""By what stands in a limit's name: QOSGrpGRES, AssocMaxNodePerJobLimit."""
_POLICY = Refusal(_SLURM + "qos", f"A limit of the QOS or the account is in the way. {_SEE_ACCOUNTS}")
_NOISE = re.compile(
    r"^(?:sbatch: )?(?:error: |fatal: )*(?:Batch job submission failed: |allocation failure: )?", re.MULTILINE
)


def find_refusal(said: str) -> Refusal | None:
    """What the text of sbatch is about; None for a text that is not known."""
    for text, refusal in REFUSALS:
        if text in said:
            return refusal
    for limit, refusal in _LIMITS:
        if re.search(rf"\b(?:QOS|Assoc|Max)\w*{limit}", said):
            return refusal
    return _POLICY if "violates accounting/QOS policy" in said else None


def clean(stderr: str) -> str:
    """What sbatch said, on one line and without the words that stand before every error."""
    lines = [line.strip() for line in _NOISE.sub("", stderr).splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith('Try "sbatch'))).rstrip(".")
