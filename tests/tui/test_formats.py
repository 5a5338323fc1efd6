from __future__ import annotations

import math

import pytest

from qad_tui.formats import (
    format_duration,
    format_loss,
    format_rate,
    format_short_duration,
    progress_bar,
    short_run_name,
    shorten_middle,
)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.6, "1 m 00 s"), (247, "4 m 07 s"), (12_000, "3 h 20 m"), (190_000, "2 d 04 h"), (None, "–")],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(42, "42s"), (102, "1.7m"), (1800, "30m"), (9000, "2.5h")])
def test_a_short_duration_fits_five_cells(seconds: float, shown: str) -> None:
    assert format_short_duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.1235"), (12.0, "12.00"), (4.5e-7, "4.50e-07"), (math.nan, "nan"), (0.0, "0.000"), (None, "–")],
)
def test_a_loss_has_four_digits(value: float | None, shown: str) -> None:
    assert format_loss(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(920.4, "920"), (12_400, "12.4k"), (1_310_000, "1.31M")])
def test_a_rate_has_a_thousands_unit(value: float, shown: str) -> None:
    assert format_rate(value) == shown


def test_a_run_name_says_nothing_twice() -> None:
    assert short_run_name("Smol-Teacher-Smol-Data-web-text-lr1e-06-qat-b") == "Smol · web-text · lr1e-06-qat-b"
    assert short_run_name("A-Teacher-B-Data-c-lr0.001") == "A ← B · c · lr0.001"
    assert short_run_name("A-Teacher-A-Data-c-lr1e-06-lr-high") == "A · c · lr1e-06-lr-high"
    assert short_run_name("anything else") == "anything else"


def test_a_long_text_loses_its_middle() -> None:
    assert shorten_middle("abcdefghij", 6) == "ab…hij"
    assert shorten_middle("abc", 6) == "abc"


def test_a_bar_is_as_wide_as_asked() -> None:
    assert progress_bar(0.5, 4) == "██░░"
    assert {len(progress_bar(share / 100, 7)) for share in range(101)} == {7}
