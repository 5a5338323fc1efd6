"""The cluster's partitions: how many of their nodes and GPUs are free, as sinfo has it.

Pure: the columns asked for, and their parser. sinfo prints a line for every kind of node in a partition; a
partition's lines are added up. Columns are in SLURM 22.05 to 25.11 (src/sinfo/opts.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from qad_core.slurm.errors import SlurmUnavailable
from qad_core.slurm.records import COLUMN_END
from qad_core.slurm.values import gpus_of_node, leading_number, seconds_of_duration

PARTITION_COLUMNS = ("Partition", "Available", "Time", "StateLong", "Nodes", "Gres", "GresUsed")
PARTITION_FORMAT = ",".join(f"{column}:{COLUMN_END}" for column in PARTITION_COLUMNS)
"""As --Format takes it."""
_FLAGS = "*~#!%$@^-+"
"""What may follow a node's state; `*` is a node that does not respond."""
_IDLE = frozenset({"idle", "planned"})
_ALLOCATED = frozenset({"allocated", "mixed", "completing"})


@dataclass(frozen=True, slots=True)
class PartitionEntry:
    """One partition that the caller may see."""

    name: str
    availability: str
    """`up`, or why jobs do not start or are not taken: `down`, `drain`, `inactive`."""
    time_limit_seconds: int | None
    """Longest walltime; None when there is no limit."""
    default: bool
    """Whether jobs go here that name no partition."""
    nodes: int
    nodes_idle: int
    """Free as a whole."""
    nodes_allocated: int
    """In use, as a whole or in part."""
    nodes_unavailable: int
    """Down, drained, reserved, or not responding."""
    gpus: int
    gpus_free: int
    """On nodes that are available, in use by nobody."""


def parse_partitions(text: str) -> list[PartitionEntry]:
    """The partitions in sinfo's answer to `PARTITION_COLUMNS`, in its order.

    Raises SlurmUnavailable for an answer to something else.
    """
    found: dict[str, PartitionEntry] = {}
    for line in filter(None, text.split("\n")):
        entry = _part_of_partition(line)
        earlier = found.get(entry.name)
        found[entry.name] = _sum(earlier, entry) if earlier else entry
    return list(found.values())


def _part_of_partition(line: str) -> PartitionEntry:
    fields = line.split(COLUMN_END)
    if len(fields) != len(PARTITION_COLUMNS) + 1:
        raise SlurmUnavailable(
            f"sinfo's answer cannot be read: {line[:200]!r}.", "See whether `sinfo` is SLURM's own: `sinfo --version`."
        )
    partition, available, limit, state, number, gres, used = fields[:-1]
    nodes, base = leading_number(number), state.rstrip(_FLAGS)
    responds = "*" not in state
    idle, allocated = responds and base in _IDLE, responds and base in _ALLOCATED
    gpus = gpus_of_node(gres)
    return PartitionEntry(
        name=partition.removesuffix("*"),
        availability=available,
        time_limit_seconds=seconds_of_duration(limit),
        default=partition.endswith("*"),
        nodes=nodes,
        nodes_idle=nodes if idle else 0,
        nodes_allocated=nodes if allocated else 0,
        nodes_unavailable=0 if idle or allocated else nodes,
        gpus=gpus * nodes,
        gpus_free=max(gpus - gpus_of_node(used), 0) * nodes if idle or allocated else 0,
    )


def _sum(one: PartitionEntry, other: PartitionEntry) -> PartitionEntry:
    return PartitionEntry(
        name=one.name,
        availability=one.availability,
        time_limit_seconds=one.time_limit_seconds,
        default=one.default,
        nodes=one.nodes + other.nodes,
        nodes_idle=one.nodes_idle + other.nodes_idle,
        nodes_allocated=one.nodes_allocated + other.nodes_allocated,
        nodes_unavailable=one.nodes_unavailable + other.nodes_unavailable,
        gpus=one.gpus + other.gpus,
        gpus_free=one.gpus_free + other.gpus_free,
    )
