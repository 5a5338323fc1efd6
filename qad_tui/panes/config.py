"""The resolved config of a run: each value with where it came from, and in what another run's differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static

from qad_core.errors import QadError
from qad_core.run.folder import RunFolder
from qad_tui.formats import short_run_name, shorten_middle
from qad_tui.panes.base import RunPane
from qad_tui.widgets.config_table import ConfigTable
from qad_tui.widgets.filter_line import FilterLine

if TYPE_CHECKING:
    from qad_core.config.listing import ConfigLine

NO_FILE = -1.0
WORDS_BESIDE_NAME = 66
"""Cells of what is said beside the other run's name."""


@dataclass(frozen=True)
class ConfigWanted:
    """Of which files the config is: they are read again when one of them changes."""

    path: Path
    other: Path | None
    stamps: tuple[float, float]
    """When each was changed, Unix time; NO_FILE for one that is not there."""


@dataclass
class ConfigRead(Message, bubble=False):
    """The config was read, or could not be."""

    wanted: ConfigWanted
    lines: Sequence[ConfigLine]
    problem: str = ""


@dataclass
class ConfigUnchanged(Message, bubble=False):
    """The files are as they were."""


class ConfigPane(RunPane):
    """Key, value and origin; `d` lays another run beside it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Search", id="config.search"),
        Binding("u", "toggle_changed", "Changed", id="config.changed"),
        Binding("d", "compare", "Compare", id="config.compare"),
        Binding("e", "toggle_different", "Only different", id="config.different", show=False),
        Binding("y", "copy", "Copy key=value", id="config.copy", show=False),
        Binding("escape", "step_back", "Back", id="config.back", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.lines: Sequence[ConfigLine] = ()
        self.problem = ""
        self.is_gone = False
        """Whether the file of what is shown is there no more."""
        self.other: Path | None = None
        self.needle = ""
        self.only_changed = self.only_different = False
        self._read: ConfigWanted | None = None
        self._is_reading = False

    def compose(self) -> ComposeResult:
        """Words, search, table."""
        yield Static("", id="config-words")
        yield FilterLine(placeholder="part of a key, a value or an origin", id="config-filter")
        yield Static("", id="config-empty")
        yield ConfigTable()

    def take_keys(self) -> None:
        """Have the keys go to the table."""
        self.screen.set_focus(self.query_one(ConfigTable))
        self.read()

    def run_changed(self) -> None:
        """Forget the run before."""
        self.lines, self.problem, self.other, self._read = (), "", None, None
        self.is_gone = False

    def read(self) -> None:
        """Read the config, when it is another one."""
        if self.path is not None and not self._is_reading and self.is_on_display:
            self._is_reading = True
            self._read_in_thread(self.path, self.other, self._read)

    @work(thread=True, group="config")
    def _read_in_thread(self, path: Path, other: Path | None, known: ConfigWanted | None) -> None:
        wanted = ConfigWanted(path, other, (_stamp_of(path), _stamp_of(other)))
        if wanted == known:
            self.post_message(ConfigUnchanged())
            return
        # The schema takes a tenth of a second to import: nobody waits for it but this tab.
        from qad_core.config.listing import list_config
        from qad_core.config.load import read_resolved

        try:
            theirs = None if other is None else read_resolved(RunFolder(other).config)
            lines = list_config(read_resolved(RunFolder(path).config), theirs)
            self.post_message(ConfigRead(wanted, lines))
        except (QadError, OSError) as error:
            self.post_message(ConfigRead(wanted, (), _why(error, wanted)))

    @on(ConfigRead)
    def _keep(self, message: ConfigRead) -> None:
        self._is_reading = False
        wanted = message.wanted
        if (wanted.path, wanted.other) != (self.path, self.other):
            self.read()
            return
        was_read = bool(self.lines) and self._read is not None and self._read.other == wanted.other
        self.is_gone = was_read and bool(message.problem) and min(wanted.stamps) == NO_FILE
        if not self.is_gone:  # else what was read last stays
            self.lines, self.problem = message.lines, message.problem
        self._read = wanted
        self._show()

    @on(ConfigUnchanged)
    def _go_on(self) -> None:
        self._is_reading = False

    def action_filter(self) -> None:
        """Type what to look for."""
        self.query_one(FilterLine).open()

    def action_toggle_changed(self) -> None:
        """Show all keys, or those whose value is not the default."""
        self.only_changed = not self.only_changed
        self._show()

    def action_toggle_different(self) -> None:
        """Show all keys, or those in which the two runs differ."""
        self.only_different = self.other is not None and not self.only_different
        self._show()

    def action_compare(self) -> None:
        """Pick the run to lay beside this one."""
        from qad_tui.screens.pick_run import PickRunScreen

        rows = [row for row in self.qad.fleet.rows.values() if row.path != self.path]
        if rows:
            self.qad.push_screen(PickRunScreen("Compare the config with", rows), self._compare_with)
        else:
            self.notify("There is no other run to compare with.", severity="warning")

    def action_copy(self) -> None:
        """Copy the line under the cursor as an override."""
        line = self.query_one(ConfigTable).chosen
        if line is not None:
            self.qad.copy_to_clipboard(f"{line.key}={line.value}")
            self.notify(f"{line.key}={line.value}", title="Copied", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that have nothing to do are left to others."""
        if action == "step_back":
            return self.query_one(FilterLine).is_open or self.other is not None
        return True

    def action_step_back(self) -> None:
        """Drop the search, then the other run."""
        line = self.query_one(FilterLine)
        if line.is_open:
            line.action_drop()
        else:
            self._compare_with(None, drop=True)

    @on(FilterLine.Filtered)
    def _filter_by(self, message: FilterLine.Filtered) -> None:
        message.stop()
        self.needle = message.needle
        self._show()

    @on(FilterLine.Left)
    def _leave_filter(self, message: FilterLine.Left) -> None:
        message.stop()
        self.query_one(ConfigTable).display = True
        self.query_one(ConfigTable).focus()

    def _compare_with(self, other: Path | None, *, drop: bool = False) -> None:
        if other is not None or drop:
            self.other, self.only_different = other, other is not None
            self.read()

    def _show(self) -> None:
        from qad_core.config.listing import wanted_lines

        shown = wanted_lines(
            self.lines, self.needle, only_changed=self.only_changed, only_different=self.only_different
        )
        table = self.query_one(ConfigTable)
        table.show(shown, with_other=self.other is not None)
        table.display = bool(shown)
        self.query_one("#config-words", Static).update(self._words(len(shown)))
        page = self.query_one("#config-empty", Static)
        page.display = not shown
        page.update(self._why_empty())

    def _words(self, shown: int) -> Text:
        text = Text(f"{shown} of {len(self.lines)} keys", no_wrap=True, overflow="ellipsis")
        if self.other is not None:
            kind = "different from" if self.only_different else "beside"
            name = shorten_middle(short_run_name(self.other.name), max(20, self.size.width - WORDS_BESIDE_NAME))
            text.append(f"  ·  {kind} {name} (e, escape)", "bold yellow")
        if self.only_changed:
            text.append("  ·  changed only", "bold yellow")
        if self.is_gone:
            text.append("  ·  ⚠ as read last: config.yaml is gone", "bold yellow")
        return text

    def _why_empty(self) -> Text:
        if self.problem:
            return Text.assemble(("The config cannot be shown.\n\n", "bold"), self.problem)
        if not self.lines:
            return Text("reading …", "dim")
        if self.only_different and not self.needle:
            return Text.assemble("The two runs have the same config.\n\n", ("  e", "bold cyan"), "   shows all keys")
        return Text.assemble("No key is as asked.\n\n", ("  escape", "bold cyan"), "   drops the search")


def _stamp_of(path: Path | None) -> float:
    try:
        return 0.0 if path is None else RunFolder(path).config.stat().st_mtime
    except OSError:
        return NO_FILE


def _why(error: QadError | OSError, wanted: ConfigWanted) -> str:
    for path, stamp in zip((wanted.path, wanted.other), wanted.stamps, strict=True):
        if stamp == NO_FILE and path is not None:
            return f"{path.name} has no config.yaml: it was made by other scripts, or its folder is gone."
    return str(error) if isinstance(error, QadError) else f"config.yaml cannot be read: {error.strerror}"
