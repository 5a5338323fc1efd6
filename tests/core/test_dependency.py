"""`--after`: what a job or a run stands for, and what can never come."""

from __future__ import annotations

import pytest

from qad_core.errors import ConfigError, QadError, RunError
from qad_core.launch.dependency import AwaitedRun, Wait, parse_after

CHAIN = AwaitedRun("a", done=False, jobs=("7", "8", "9"), submitted=True)
ONE_LINK = AwaitedRun("a", done=False, jobs=("7",), submitted=True)
DONE = AwaitedRun("a", done=True, jobs=("9",), submitted=True)
STOPPED = AwaitedRun("a", done=False, jobs=(), submitted=True)
NEVER_SUBMITTED = AwaitedRun("a", done=False, jobs=(), submitted=False)


def parse(text: str, run: AwaitedRun = CHAIN) -> Wait:
    return parse_after(text, lambda name: run)


def test_jobs_are_handed_on_as_they_are() -> None:
    for text in ("singleton", "afterok:12", "afterany:12:13", "after:12_3"):
        assert parse(text) == Wait(text)


def test_a_run_is_done_when_any_of_its_links_has_ended_well_and_over_when_all_have_ended() -> None:
    assert parse("afterok:a").dependency == "afterok:7?afterok:8?afterok:9"
    assert parse("afterany:a").dependency == "afterany:7:8:9"
    assert parse("afternotok:a").dependency == "afternotok:7:8:9"
    assert parse("after:a").dependency == "after:7"
    assert parse("afterok:a:12", ONE_LINK).dependency == "afterok:7:12"


def test_what_has_come_already_is_not_waited_for_and_is_said() -> None:
    wait = parse("afterok:a", DONE)
    assert wait.dependency is None and "a is done already" in wait.notes[0]
    for text in ("afterany:a", "afternotok:a", "after:a"):
        assert parse(text, STOPPED).dependency is None
    assert parse("afterany:a:12", STOPPED).dependency == "afterany:12"


@pytest.mark.parametrize(
    ("text", "run", "kind", "said"),
    [
        ("afterok:a", STOPPED, ConfigError, "can never be met"),
        ("afternotok:a", DONE, ConfigError, "can never be met"),
        ("afterany:a", NEVER_SUBMITTED, RunError, "no SLURM job to wait for"),
        ("afterok:a:12", CHAIN, ConfigError, "cannot wait for that and for another job"),
        ("afterok:0", CHAIN, ConfigError, "job 0"),
        ("afterok:99999999999", CHAIN, ConfigError, "99999999999"),
        ("afterok", CHAIN, ConfigError, "is no dependency"),
        ("before:12", CHAIN, ConfigError, "is no dependency"),
    ],
)
def test_what_can_never_come_is_refused(text: str, run: AwaitedRun, kind: type[QadError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        parse(text, run)
    assert caught.value.hint and caught.value.exit_code == 2
