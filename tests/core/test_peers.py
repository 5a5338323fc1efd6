"""The nodes of a job tell each other of failures through files, and agree on the one that the others follow from."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.launch import peers
from qad_core.launch.peers import NodeEnd, Peers, choose_cause


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(peers, "SETTLE_SECONDS", 0.3)


def test_a_killed_rank_is_the_cause_of_errors_that_were_seen_before_it(tmp_path: Path) -> None:
    first, second = (Peers(tmp_path, "7.0", node_rank, 2) for node_rank in (0, 1))
    first.report(NodeEnd(node_rank=0, exit_code=1, time=10.0, error="connection closed"))
    second.report(NodeEnd(node_rank=1, exit_code=4, killed=True, time=11.0, error="killed"))
    assert first.has_failed() and second.has_failed()
    cause = first.settle()
    assert cause is not None and cause.node_rank == 1 and cause.exit_code == 4


def test_among_errors_of_programs_the_first_is_the_cause() -> None:
    ends = [NodeEnd(node_rank=rank, exit_code=code, time=when) for rank, code, when in ((0, 1, 12.0), (1, 2, 11.0))]
    cause = choose_cause(ends)
    assert cause is not None and cause.exit_code == 2


def test_an_orderly_end_is_no_failure(tmp_path: Path) -> None:
    first = Peers(tmp_path, "7.0", 0, 2)
    for code in (0, 3):
        first.report(NodeEnd(node_rank=0, exit_code=code))
        assert not first.has_failed() and first.settle() is None


def test_the_first_word_of_a_node_counts(tmp_path: Path) -> None:
    only = Peers(tmp_path, "7.0", 0, 1)
    only.report(NodeEnd(node_rank=0, exit_code=4, error="the cause"))
    only.report(NodeEnd(node_rank=0, exit_code=1, error="a consequence"))
    assert [end.error for end in only.ends()] == ["the cause"]


def test_a_job_that_slurm_starts_again_does_not_hear_the_words_of_its_first_start(tmp_path: Path) -> None:
    Peers(tmp_path, "7.0", 0, 1).report(NodeEnd(node_rank=0, exit_code=4))
    assert Peers(tmp_path, "7.1", 0, 1).ends() == ()


def test_a_half_written_word_is_not_heard(tmp_path: Path) -> None:
    (tmp_path / "7.0.node1").write_text('{"node_rank": 1, "exit_')
    assert Peers(tmp_path, "7.0", 0, 2).ends() == ()


def test_the_batch_script_finds_the_exit_code(tmp_path: Path) -> None:
    Peers(tmp_path, "7.0", 0, 1).write_exit_code(3)
    assert (tmp_path / "7.0.exit").read_text() == "3\n"
