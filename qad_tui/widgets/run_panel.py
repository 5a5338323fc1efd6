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

    @property
    def curve(self) -> CurveView:
        """The chart."""
        return self.query_one(CurveView)

    def show(self, detail: RunDetail | None, *, now: float) -> None:
        """Show a run as of Unix time `now`; None clears the panel."""
        shown = detail or None
        self.query_one(StatusCard).show(shown, now=now)
        if shown is not None:
            self.curve.show(shown.curve)
            self.query_one(LogView).show(shown.log)
