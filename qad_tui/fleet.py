"""The fleet: every run under the roots with what SLURM says of it, at one moment.

Owns what a row holds; `fleet_model.py` looks. It imports little, since the first frame waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qad_core.run.health import Finding, Severity, worst_of

if TYPE_CHECKING:
    from qad_core.run.store import RunSummary
    from qad_core.slurm.views import RunView
    from qad_tui.states import RowState


@dataclass(frozen=True)
class RunRow:
    """One run as a row shows it."""

    view: RunView
    findings: tuple[Finding, ...] = ()
    """What the health rules say, the worst first."""
    gone: bool = False
    """Whether its folder has vanished; the rest is as it was seen last."""
    asking: bool = False
    """Whether SLURM has not been heard yet."""

    @property
    def run(self) -> RunSummary:
        """The run folder's own part."""
        return self.view.run

    @property
    def path(self) -> Path:
        """Its folder, which tells rows apart."""
        return self.view.run.path

    @property
    def state(self) -> RowState:
        """One word over run folder and SLURM, as `qad_core status` says it."""
        if self.gone:
            return "gone"
        return "asking" if self.asking and self.view.outlook.state == "unknown" else self.view.outlook.state

    @property
    def eta_seconds(self) -> float | None:
        """Time left at the present pace; None unless it runs."""
        return self.run.eta_seconds if self.state == "running" else None

    @property
    def health(self) -> Severity | None:
        """The worst that the health rules have found; None for nothing."""
        return worst_of(self.findings)

    @property
    def link_words(self) -> str:
        """`2/4`: the link that runs or comes next, of all; empty without links."""
        link = self.view.current_link
        return f"{link.job.link}/{max(link.job.links, link.job.link)}" if link is not None else ""


@dataclass(frozen=True)
class Fleet:
    """All runs at one moment."""

    rows: Mapping[Path, RunRow] = field(default_factory=dict[Path, RunRow])
    problems: tuple[str, ...] = ()
    """One sentence for each root or run that could not be read; what was known of it stays."""
    polled_at: float | None = None
    """Unix time at the end of the look; None before the first."""
    unread: Mapping[Path, str] = field(default_factory=dict[Path, str])
    """Runs that could not be read -> why."""
