"""Waiting for a silent SLURM: what is said meanwhile, and what is not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from qad_core.errors import ConfigError
from qad_core.launch import patience
from qad_core.launch.patience import PatientSlurm
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmUnavailable


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.01)
    return []


def silent(times: int) -> Iterator[str]:
    """A question that is answered after so many silences."""
    for _ in range(times):
        yield ""
    yield "answer"


def ask(slurm: PatientSlurm, times: int) -> str:
    answers = silent(times)

    def question(client: SlurmClient) -> str:
        answer = next(answers)
        if not answer:
            raise SlurmUnavailable("SLURM is silent.")
        return answer

    return slurm.ask(question)


def test_a_silence_is_said_when_it_begins_and_when_it_is_over(said: list[str]) -> None:
    slurm = PatientSlurm(SlurmClient(), said.append)
    assert ask(slurm, 20) == "answer"
    assert said == ["SLURM is silent. Asking again.", "SLURM answers again, after 0 s."]
    assert slurm.has_just_come_back()


def test_a_silence_that_lasts_is_said_again_now_and_then(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REMINDER_SECONDS", 0.1)
    ask(PatientSlurm(SlurmClient(), said.append), 30)
    reminders = [text for text in said if text.startswith("Still no answer")]
    assert 2 <= len(reminders) <= 6


def test_patience_ends_with_slurms_own_error_and_a_patience_without_end_is_none(said: list[str]) -> None:
    with pytest.raises(SlurmUnavailable, match="SLURM is silent"):
        ask(PatientSlurm(SlurmClient(), said.append, patience_seconds=0), 1)
    assert said == []
    for seconds in (math.inf, math.nan):
        with pytest.raises(ConfigError, match="--patience"):
            PatientSlurm(SlurmClient(), said.append, patience_seconds=seconds)
