"""When SLURM may be asked next: a pace that a controller does not feel, and that a person does not wait for.

Pure: from what came of the last question, whether somebody looks, and a clock, to a moment. Who asks, and what, is
the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SECONDS = 15.0
LEAST_SECONDS = 5.0
"""The least that a setting can ask for. One look comes so early: at an action's outcome, and at a queue just opened."""
BUSY_SHARE = 10.0
"""After a question that took so long, ten times that passes before the next one."""
LONGEST_BACK_OFF_SECONDS = 300.0
AWAY_SECONDS = 600.0
"""Nobody looks at a screen that has seen no key and no mouse for so long."""
AWAY_FACTOR = 4.0
"""While nobody looks and jobs of ours are live, questions come so much less often."""
JITTER_SHARE = 0.1
"""A question comes up to this share of its interval later, so that the screens of a site do not ask in step."""


@dataclass(frozen=True)
class Pace:
    """How often may be asked at most."""

    seconds: float = DEFAULT_SECONDS
    """What the person has set: between the end of a question and the next."""
    floor_seconds: float = 0.0
    """What the site asks for; nothing undercuts it."""

    @property
    def usual(self) -> float:
        """Seconds between two questions when nothing is special."""
        return max(self.seconds, self.least)

    @property
    def least(self) -> float:
        """Seconds before an early look."""
        return max(LEAST_SECONDS, self.floor_seconds)


@dataclass(frozen=True)
class Polled:
    """What came of the questions so far; times are Unix seconds."""

    ended_at: float | None = None
    """When the last question ended; None before the first."""
    took_seconds: float = 0.0
    failures: int = 0
    """Questions without an answer in a row, up to the last one."""
    jitter: float = 0.0
    """This time's share of `JITTER_SHARE`, 0 to 1."""


@dataclass(frozen=True)
class Need:
    """Why somebody might want an answer."""

    links: bool = False
    """Runs have links whose state SLURM knows."""
    live: bool = False
    """Some of them wait or run, as far as is known."""
    everyone: bool = False
    """The queue is on the screen."""
    opened: bool = False
    """It is there for the first time: there is no older answer to show meanwhile."""
    away: bool = False
    """Nobody looks: no key and no mouse for `AWAY_SECONDS`, or the terminal has not the focus."""
    acted_at: float | None = None
    """When a job was last submitted, cancelled or changed from here, Unix time."""


def next_question(pace: Pace, polled: Polled, need: Need) -> float | None:
    """Unix time of the next question; None while there is none to ask."""
    if not (need.links or need.everyone) or (need.away and not need.live):
        return None
    if polled.ended_at is None:
        return 0.0
    if polled.failures:
        return polled.ended_at + _jittered(back_off_seconds(pace, polled), polled)
    factor = AWAY_FACTOR if need.away else 1.0
    usual = polled.ended_at + _jittered(_kind_to_slow(pace.usual * factor, polled), polled)
    if need.opened:
        return min(usual, polled.ended_at + _kind_to_slow(pace.least, polled))
    early = _early_look(pace, polled, need.acted_at)
    return usual if early is None else min(usual, early)


def soonest_question(pace: Pace, polled: Polled) -> float:
    """Unix time of the next question when a person asks for it by a key."""
    if polled.ended_at is None:
        return 0.0
    return polled.ended_at + _kind_to_slow(pace.usual, polled)


def back_off_seconds(pace: Pace, polled: Polled) -> float:
    """Seconds to leave a controller alone that did not answer: doubled with each failure, to five minutes."""
    first = _kind_to_slow(pace.usual, polled)
    most = max(LONGEST_BACK_OFF_SECONDS, pace.usual)
    return min(first * 2.0 ** min(polled.failures - 1, 10), most)


def is_away(last_input_at: float, *, focused: bool, now: float) -> bool:
    """Whether nobody looks, as far as a program can tell."""
    return not focused or now - last_input_at >= AWAY_SECONDS


def _early_look(pace: Pace, polled: Polled, acted_at: float | None) -> float | None:
    """When to look at the outcome of an action; None without one, and once that has been looked at."""
    assert polled.ended_at is not None
    if acted_at is None or polled.ended_at - polled.took_seconds >= acted_at + pace.least:
        return None
    return max(polled.ended_at + _kind_to_slow(pace.least, polled), acted_at + pace.least)


def _kind_to_slow(seconds: float, polled: Polled) -> float:
    """The interval, or ten times what the last question took, to five minutes."""
    return max(seconds, min(BUSY_SHARE * polled.took_seconds, LONGEST_BACK_OFF_SECONDS))


def _jittered(seconds: float, polled: Polled) -> float:
    return seconds * (1.0 + JITTER_SHARE * polled.jitter)
