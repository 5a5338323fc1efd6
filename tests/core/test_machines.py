"""The further nodes of a job wait for the first one, whatever it has to do before, and end with it."""

from __future__ import annotations

from pathlib import Path
from threading import Timer

import pytest

from qad_core.config.load import load_experiment
from qad_core.errors import OutsideError
from qad_core.launch.machines import join_first_machine
from qad_core.launch.peers import NodeEnd, Peers
from qad_core.launch.plan import LaunchPlan, make_plan
from qad_core.launch.ports import choose_port

NODES = ("node1", "node2")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaunchPlan:
    """The second node's, with a collective's timeout of 0.6 s."""
    monkeypatch.chdir(Path(__file__).parents[2])
    overrides = ["cluster.kind=slurm", "cluster.nodes=2", "train.distributed_timeout_minutes=0.01"]
    environ = {"SLURM_JOB_ID": "7", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    return make_plan(load_experiment("tiny", overrides, {}).config, tmp_path, environ)


def test_no_preparation_of_the_first_node_is_too_long_and_its_end_ends_the_waiting(
    plan: LaunchPlan, tmp_path: Path
) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, NODES) for node_rank in (0, 1))
    first.arrive()
    first.write_port(choose_port(0))
    Timer(2.0, first.report, [NodeEnd(node_rank=0, exit_code=2, error="no tokens")]).start()
    ending = join_first_machine(plan, second, lambda: None)
    assert (ending.exit_code, ending.error) == (2, "no tokens")


def test_a_first_node_whose_launcher_never_starts_is_named(plan: LaunchPlan, tmp_path: Path) -> None:
    second = Peers(tmp_path, "7.0", 1, NODES, arrival_seconds=0.1)
    with pytest.raises(OutsideError, match=r"Node 0 \(node1\) has not started"):
        join_first_machine(plan, second, lambda: None)
