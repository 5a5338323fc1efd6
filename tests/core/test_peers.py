"""The nodes of a job tell each other of failures through files, and agree on the one that the others follow from."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qad_core.launch import peers
from qad_core.launch.peers import NodeEnd, Peers, choose_cause

ONE, TWO = ("node1",), ("node1", "node2")


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(peers, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(peers, "LOST_SECONDS", 0.6)


def test_a_killed_rank_is_the_cause_of_errors_that_were_seen_before_it(tmp_path: Path) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, TWO) for node_rank in (0, 1))
    first.report(NodeEnd(node_rank=0, exit_code=1, time=10.0, error="connection closed"))
    second.report(NodeEnd(node_rank=1, exit_code=4, killed=True, time=11.0, error="killed"))
    assert first.cause() and second.cause()
    cause = first.settle()
    assert cause is not None and cause.node_rank == 1 and cause.exit_code == 4


def test_among_errors_of_programs_the_first_is_the_cause() -> None:
    ends = [NodeEnd(node_rank=rank, exit_code=code, time=when) for rank, code, when in ((0, 1, 12.0), (1, 2, 11.0))]
    cause = choose_cause(ends)
    assert cause is not None and cause.exit_code == 2


def test_an_orderly_end_is_no_failure(tmp_path: Path) -> None:
    first = Peers(tmp_path, "7.0", 0, TWO)
    for code in (0, 3):
        first.report(NodeEnd(node_rank=0, exit_code=code))
        assert first.cause() is None and first.settle() is None


def test_the_first_word_of_a_node_counts(tmp_path: Path) -> None:
    only = Peers(tmp_path, "7.0", 0, ONE)
    only.report(NodeEnd(node_rank=0, exit_code=4, error="the cause"))
    only.report(NodeEnd(node_rank=0, exit_code=1, error="a consequence"))
    assert [end.error for end in only.ends()] == ["the cause"]


def test_a_job_that_slurm_starts_again_does_not_hear_the_words_of_its_first_start(tmp_path: Path) -> None:
    Peers(tmp_path, "7.0", 0, ONE).report(NodeEnd(node_rank=0, exit_code=4))
    assert Peers(tmp_path, "7.1", 0, ONE).ends() == ()


@pytest.mark.parametrize("word", [b'{"node_rank": 1, "exit_', b"\xff\xfe\x00", b"[]", b"\x00" * 40])
def test_a_word_that_is_none_is_not_heard_and_gives_way_to_a_whole_one(tmp_path: Path, word: bytes) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, TWO) for node_rank in (0, 1))
    (tmp_path / "7.0.node1").write_bytes(word)
    (tmp_path / "7.0.port").write_bytes(word)
    assert first.ends() == () and first.port() is None
    second.report(NodeEnd(node_rank=1, exit_code=3))
    assert [end.exit_code for end in first.ends()] == [3]


def test_a_launcher_that_never_starts_is_a_failure_with_the_name_of_its_node(tmp_path: Path) -> None:
    first = Peers(tmp_path, "7.0", 0, TWO, arrival_seconds=0.05)
    first.arrive()
    first.report_absent()
    assert first.cause() is None
    time.sleep(0.1)
    first.report_absent()
    cause = first.cause()
    assert cause is not None and cause.exit_code == 4 and "Node 1 (node2) has not started" in cause.error


def test_a_launcher_that_has_started_is_not_missed(tmp_path: Path) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, TWO, arrival_seconds=0.0) for node_rank in (0, 1))
    second.arrive()
    assert second.is_overdue(0) and not first.is_overdue(1)
    first.arrive()
    first.report_absent()
    assert first.cause() is None


def test_a_node_that_stays_silent_after_a_failure_is_lost_and_the_cause(tmp_path: Path) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, TWO) for node_rank in (0, 1))
    second.arrive()
    first.report(NodeEnd(node_rank=0, exit_code=1, error="connection closed"))
    cause = first.settle()
    assert cause is not None and cause.exit_code == 4 and "Node 1 (node2) is lost" in cause.error


def test_the_other_nodes_learn_the_port(tmp_path: Path) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, TWO) for node_rank in (0, 1))
    assert second.port() is None
    first.write_port(12345)
    assert second.port() == 12345


def test_the_batch_script_finds_the_exit_code(tmp_path: Path) -> None:
    Peers(tmp_path, "7.0", 0, ONE).write_exit_code(3)
    assert (tmp_path / "7.0.exit").read_text() == "3\n"
