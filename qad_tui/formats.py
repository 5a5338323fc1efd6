"""Words and numbers as people read them: durations, ages, counts, run names.

Pure functions of their arguments; no Textual, no clock (the caller passes spans in seconds).
"""

from __future__ import annotations

import math
import re

from qad_core.run.show import show_count

MISSING = "–"
_RUN_NAME = re.compile(r"(.+?)-Teacher-(.+?)-Data-(.+?)-lr(\d.*)")


def format_duration(seconds: float | None) -> str:
    """Two units at most: `42 s`, `5 m 07 s`, `3 h 20 m`, `2 d 04 h`; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_short_duration(seconds: float | None) -> str:
    """One unit, for a narrow column: `42s`, `5m`, `3h`, `2d`; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    whole = max(0, round(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole / size:.1f}{unit}" if whole < 10 * size else f"{whole // size}{unit}"
    return f"{whole}s"


def format_loss(value: float | None) -> str:
    """Four significant digits, exponents only below 0.001; `nan` and `inf` as they are; a dash for None."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:#.4g}"
    return f"{value:.2e}"


def format_rate(value: float | None) -> str:
    """A count a second with a thousands unit: `920`, `12.4k`, `1.31M`; a dash for None."""
    if value is None or not math.isfinite(value):
        return MISSING
    return show_count(value)


def format_fraction(fraction: float | None) -> str:
    """A share as whole percent; a dash for None."""
    return MISSING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.0f} %"


def progress_fraction(step: int, train_iterations: int) -> float | None:
    """Share of the optimizer steps done, or None when the total is not known."""
    return min(1.0, step / train_iterations) if train_iterations > 0 else None


def progress_bar(fraction: float, width: int) -> str:
    """A bar of `width` cells, in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width, "░")


def short_run_name(name: str) -> str:
    """A run folder's name without what it says twice: `student · data · lr`, and the teacher where it is another model.

    Names that are not in the layout `student-Teacher-teacher-Data-data-lr...` come back unchanged.
    """
    parts = _RUN_NAME.fullmatch(name)
    if parts is None:
        return name
    student, teacher, data, rate = parts.groups()
    models = student if student == teacher else f"{student} ← {teacher}"
    return f"{models} · {data} · lr{rate}"


def shorten_middle(text: str, width: int) -> str:
    """The text in `width` cells, its middle replaced by an ellipsis where it is longer.

    More of the end is kept than of the beginning: there stand data, learning rate and tag, which tell runs apart.
    """
    if len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    tail = (width - 1) * 3 // 5
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
