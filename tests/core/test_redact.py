"""Redaction takes a time that grows with the text and not with its square, whatever is in it."""

from __future__ import annotations

import time

import pytest

from qad_core.run.redact import fit_to_show, redact

UNITS = ("a", "-", "TOKEN", "token=", "--token ", "x://a:", "a-", "_", "bearer ", "Bearer" + " " * 99, "a://")


@pytest.mark.parametrize("unit", UNITS)
def test_a_line_of_megabytes_is_redacted_in_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    began = time.monotonic()
    redact(text)
    assert time.monotonic() - began < 2  # the square would be hours


def test_a_line_of_ten_megabytes_is_made_fit_in_time() -> None:
    began = time.monotonic()
    assert len(fit_to_show("a" * 10_000_000, 4000)) == 4000
    assert time.monotonic() - began < 1


def test_what_is_shown_holds_no_secret_and_no_command_for_a_terminal() -> None:
    assert fit_to_show("\x1b[31mHF_TOKEN=abc\ud800\nnext", 100) == " [31mHF_TOKEN=***\nnext"
    assert redact("x-token: abcdefghijklmnop https://u:pw@h MAX_TOKENS=4096") == (
        "x-token: *** https://u:***@h MAX_TOKENS=4096"
    )
