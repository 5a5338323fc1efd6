"""Numbers as a person reads them, the same in every command."""

from __future__ import annotations

from qad_core.run.metrics import Number


def show_number(value: Number) -> str:
    """Four significant digits; a dash for what is not there."""
    return "-" if value is None else f"{value:.4g}"


def show_fraction(value: float | None) -> str:
    """A share as a percentage with one digit; a dash for what is not there."""
    return "-" if value is None else f"{100 * value:.1f} %"


def show_duration(seconds: float | None) -> str:
    """Seconds as `42 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`; a dash for what is not there."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if hours < 1:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{hours} h {minutes % 60:02d} min" if days < 1 else f"{days} d {hours % 24} h"
