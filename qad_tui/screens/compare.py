"""Compare."""

from __future__ import annotations

from qad_tui.screens.base import QadScreen


class CompareScreen(QadScreen):
    """Compare."""

    PLACE = "compare"
