"""Everything of one run on one panel: status card, loss curve, end of the log."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from qad_tui.run_follower import RunDetail
from qad_tui.widgets.curve_view import CurveView
from qad_tui.widgets.log_view import LogView
from qad_tui.widgets.status_card import StatusCard


class RunPanel(Vertical):
    """Hands each RunDetail to the three widgets that draw it."""

    def compose(self) -> ComposeResult:
        """Card above curve above log."""
        yield StatusCard()
        yield CurveView()
        yield LogView()

    def show(self, detail: RunDetail | None, *, now: float, log_scale: bool) -> None:
        """Show a run as of Unix time `now`, its curve on a linear or logarithmic scale; None clears the panel."""
        self.query_one(StatusCard).show(detail, now=now)
        self.query_one(CurveView).show(detail.curve if detail else None, log_scale=log_scale)
        self.query_one(LogView).show(detail.log if detail else None)
