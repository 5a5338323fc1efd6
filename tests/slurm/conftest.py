"""Clusters for the tests of SLURM. Where SLURM is not installed these tests fail and say how to install it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import SlurmCluster, make_directory, remove_stale_clusters

CLUSTERS = {"slurm", "slurm_without_accounting", "slurm_with_preemption"}
PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=scavenge Nodes=ALL MaxTime=01:00:00 State=UP PriorityTier=1 GraceTime=90
PartitionName=urgent Nodes=ALL MaxTime=01:00:00 State=UP PriorityTier=10
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a cluster `slurm`, before -m looks at the marks."""
    for item in items:
        if CLUSTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def slurm(_no_stale_clusters: None) -> Iterator[SlurmCluster]:
    """Four nodes with 8 GPUs each, slurmdbd, and limits that are enforced; shared by all tests of this process.

    After each test that uses it, its jobs are ended and its daemons brought back.
    """
    cluster = SlurmCluster.start(make_directory())
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def slurm_without_accounting(_no_stale_clusters: None) -> Iterator[SlurmCluster]:
    """Four nodes where sacct knows nothing; otherwise as `slurm`."""
    cluster = SlurmCluster.start(make_directory(), accounting="none")
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def slurm_with_preemption(_no_stale_clusters: None) -> Iterator[SlurmCluster]:
    """Two nodes where jobs of the partition `urgent` take them from jobs of `scavenge`, after a time of grace."""
    cluster = SlurmCluster.start(make_directory(), nodes=2, accounting="none", extra_conf=PREEMPTION)
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def _no_stale_clusters() -> None:
    remove_stale_clusters()


@pytest.fixture(autouse=True)
def cluster_left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test sees the jobs and the faults of another."""
    clusters: list[SlurmCluster] = [request.getfixturevalue(name) for name in CLUSTERS & set(request.fixturenames)]
    yield
    for cluster in clusters:
        cluster.restore()
