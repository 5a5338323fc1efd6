"""Where an experiment is to be saved, and under which first line; it is written when that is answered."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qad_core.config.experiment_file import experiment_path, experiment_text, write_experiment
from qad_core.config.library import find_library
from qad_core.errors import QadError
from qad_core.seen import is_file, is_there
from qad_tui.form_model import FormModel
from qad_tui.screens.confirm import Choice, ConfirmScreen
from qad_tui.widgets.draft_summary import near_path
from qad_tui.widgets.script_preview import ScriptPreview

if TYPE_CHECKING:
    from qad_tui.app import QadApp


@dataclass
class _Prepared(Message, bubble=False):
    """The file's place and text are known, or why not."""

    path: Path | None
    text: str
    problem: str = ""
    overwrites: bool = False
    """Whether something is there already."""


@dataclass
class _Written(Message, bubble=False):
    """The file was written, or could not be."""

    path: Path
    problem: str = ""
    is_taken: bool = False
    """Whether there is a file by that name, which a Yes would overwrite."""


class SaveExperimentScreen(ModalScreen[Path | None]):
    """Dismisses with the file that was written, or None. Never overwrites without a Yes."""

    CSS_PATH = "../styles/new_run.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "#save-name"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "refuse", "Back", id="save.back")]

    def __init__(self, form: FormModel, name: str) -> None:
        """Save `form`; `name` is proposed."""
        super().__init__()
        self._form, self._name = form, name
        self._problem = ""

    @property
    def qad(self) -> QadApp:
        """The application."""
        return cast("QadApp", self.app)

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(id="save") as box:
            box.border_title = " Save as an experiment "
            box.border_subtitle = " enter writes the file · escape leaves "
            yield Static("Name, or the path of a .yaml", classes="label")
            yield Input(self._name, id="save-name", compact=True)
            yield Static("What it is: the first line of the file", classes="label")
            yield Input(placeholder="what was changed, where it is empty", id="save-description", compact=True)
            yield Static("", id="save-said")
            yield ScriptPreview(id="save-text")

    def on_mount(self) -> None:
        """Show what would be written."""
        self._prepare()

    @on(Input.Changed)
    def _prepare(self) -> None:
        self._problem = ""
        name, description = self._typed("#save-name"), self._typed("#save-description")
        self._prepare_in_thread(name, description)

    @work(thread=True, exclusive=True, group="prepare")
    def _prepare_in_thread(self, name: str, description: str) -> None:
        try:
            text = experiment_text(self._form.experiment, self._form.overrides, description=description)
            path = experiment_path(name, find_library(os.environ))
        except QadError as error:
            self.post_message(_Prepared(None, "", f"{error.message} {error.hint}"))
        else:
            self.post_message(_Prepared(path, text, overwrites=is_there(path)))

    @on(_Prepared)
    def _show_prepared(self, message: _Prepared) -> None:
        said = self.query_one("#save-said", Static)
        problem = self._problem or message.problem
        if message.path is None or problem:
            said.update(Text(f"✗ {problem}", "bold red"))
            return
        there = " is there already: it is asked before it is overwritten" if message.overwrites else ""
        said.update(Text(f"{near_path(message.path)}{there}", "yellow" if there else "dim"))
        self.query_one(ScriptPreview).show(message.path.name, message.text)

    @on(Input.Submitted)
    def _write(self) -> None:
        self._write_in_thread(self._typed("#save-name"), self._typed("#save-description"), overwrite=False)

    @work(thread=True, group="write")
    def _write_in_thread(self, name: str, description: str, *, overwrite: bool) -> None:
        path = Path(name)
        try:
            path = experiment_path(name, find_library(os.environ))
            text = experiment_text(self._form.experiment, self._form.overrides, description=description)
            write_experiment(text, path, overwrite=overwrite)
        except QadError as error:
            self.post_message(_Written(path, f"{error.message} {error.hint}", is_taken=is_file(path)))
        else:
            self.post_message(_Written(path))

    @on(_Written)
    def _end(self, message: _Written) -> None:
        if not message.problem:
            self.dismiss(message.path)
        elif message.is_taken:
            self._ask_to_overwrite(message.path)
        else:
            self._problem = message.problem
            self.query_one("#save-said", Static).update(Text(f"✗ {message.problem}", "bold red"))

    def _ask_to_overwrite(self, path: Path) -> None:
        name, description = self._typed("#save-name"), self._typed("#save-description")

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._write_in_thread(name, description, overwrite=True)

        choice = Choice("overwrite", f"Overwrite {path.name}", "what is in it now is lost")
        self.qad.push_screen(ConfirmScreen(f"{near_path(path)} is there already.", choices=(choice,)), answered)

    def action_refuse(self) -> None:
        """Write nothing."""
        self.dismiss(None)

    def _typed(self, selector: str) -> str:
        return self.query_one(selector, Input).value.strip()
