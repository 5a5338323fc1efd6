"""Finds out, in threads, what a form comes to: its check, the files to pick from, a clone's tag, SLURM's word.

Owns when a check begins: it waits until typing rests, one runs at a time, and the newest form wins. It shows nothing;
what was found out goes up as messages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textual import on, work
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from qad_core.config.catalog import CatalogEntry, list_catalog
from qad_core.config.clone import clone_overrides
from qad_core.config.library import find_library
from qad_core.config.schema import RunConfig
from qad_core.errors import QadError
from qad_core.launch.draft import Draft, examine_draft
from qad_core.slurm.client import SlurmClient
from qad_tui.form_model import FormModel
from qad_tui.slurm_word import SlurmWord, ask_slurm

DEBOUNCE_SECONDS = 0.2
"""A check begins when nothing has been changed for so long."""


class DraftChecker(Widget):
    """Takes no room on the screen."""

    @dataclass
    class Listed(Message):
        """The configs folders were looked at, or could not be."""

        entries: Mapping[str, Sequence[CatalogEntry]]
        problem: str = ""

    @dataclass
    class Cloned(Message):
        """The form of a clone, with the tag that keeps it apart; without one where the config cannot be used."""

        asked: FormModel
        form: FormModel

    @dataclass
    class Checked(Message):
        """A form was checked."""

        form: FormModel
        draft: Draft

    @dataclass
    class SlurmAnswered(Message):
        """SLURM said whether it would take the job, or said nothing."""

        word: SlurmWord

    def __init__(self) -> None:
        super().__init__()
        self.display = False
        self._wanted: FormModel | None = None
        self._is_checking = False
        self._timer: Timer | None = None

    def check_soon(self, form: FormModel) -> None:
        """Check this form once typing rests."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DEBOUNCE_SECONDS, lambda: self.check(form))

    def check(self, form: FormModel) -> None:
        """Check this form now, or when the check that runs has ended."""
        self._wanted = form
        if not self._is_checking:
            self._is_checking, self._wanted = True, None
            self._check_in_thread(form)

    @on(Checked)
    def _check_newest(self) -> None:
        self._is_checking = False
        if self._wanted is not None:
            self.check(self._wanted)

    @work(thread=True, group="check")
    def _check_in_thread(self, form: FormModel) -> None:
        draft = examine_draft(form.experiment, form.overrides, fresh=form.fresh, like=form.like)
        self.post_message(self.Checked(form, draft))

    @work(thread=True, group="list")
    def list_configs(self) -> None:
        """Look at the configs folders."""
        try:
            library = find_library(os.environ)
            entries = list_catalog(library)
        except QadError as error:
            self.post_message(self.Listed({}, f"{error.message} {error.hint}"))
            return
        places = ", ".join(["./configs", *(str(root) for root in library.roots if root != Path("configs"))])
        found = any(entries.values())
        self.post_message(self.Listed(entries, "" if found else f"No configs found; looked in {places}."))

    @work(thread=True, group="clone")
    def make_clone(self, form: FormModel) -> None:
        """Find the tag that a clone needs."""
        try:
            changes = clone_overrides(Path(form.experiment), form.overrides)
        except QadError:
            changes = form.overrides  # the check tells what is wrong with it, beside its field
        pairs = (text.partition("=") for text in changes)
        self.post_message(self.Cloned(form, replace(form, changes={key: text for key, _, text in pairs})))

    @work(thread=True, group="ask-slurm")
    def ask_slurm(self, client: SlurmClient, form: FormModel, config: RunConfig) -> None:
        """Ask SLURM whether it would take the job; nothing is submitted."""
        self.post_message(self.SlurmAnswered(ask_slurm(client, form, config)))
