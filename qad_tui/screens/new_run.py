"""A new run: parts picked, values edited, problems beside their fields as one types, and what it comes to.

Wires the form, the check in its thread, SLURM's own word, and the screens that save and start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Static

from qad_core.config.catalog import BLANK
from qad_core.launch.draft import Draft
from qad_tui.form_model import FormModel
from qad_tui.form_rows import place_of
from qad_tui.panes.draft import DraftPane
from qad_tui.panes.draft_checker import DraftChecker
from qad_tui.panes.form import NOTHING_KNOWN, FormPane
from qad_tui.screens.base import QadScreen
from qad_tui.screens.save_experiment import SaveExperimentScreen
from qad_tui.screens.start_run import StartRunScreen
from qad_tui.slurm_word import SlurmWord, with_refusal
from qad_tui.widgets.config_form import ConfigForm
from qad_tui.widgets.draft_summary import headline
from qad_tui.widgets.part_picker import PartPicker, Pick
from qad_tui.widgets.problem_list import ProblemList
from qad_tui.widgets.script_preview import ScriptPreview
from qad_tui.widgets.words import Words


class NewRunScreen(QadScreen):
    """Form on the left; what it comes to on the right, or on the other side of `v` where the terminal is narrow."""

    PLACE = "new"
    CSS_PATH = "../styles/new_run.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "ConfigForm"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("S,f5", "start", "Start", id="new.start"),
        Binding("w,f2", "save", "Save as", id="new.save"),
        Binding("n", "next_problem(1)", "Next problem", id="new.next_problem"),
        Binding("N", "next_problem(-1)", "Previous problem", id="new.previous_problem", show=False),
        Binding("v", "other_side", "Script", id="new.script"),
        Binding("c", "clone", "Clone a run", id="new.clone", show=False),
        Binding("a", "ask_slurm", "Ask SLURM", id="new.ask_slurm", show=False),
        Binding("y", "copy_script", "Copy the script", id="new.copy", show=False),
        Binding("escape", "leave", "Back", id="new.back", show=False),
    ]

    def __init__(self) -> None:
        """An empty form; `begin_with` gives it something to start from."""
        super().__init__()
        self._first = FormModel()
        self._cloning: FormModel | None = None
        """The clone whose form is being made."""
        self.draft = NOTHING_KNOWN
        self._checked: FormModel | None = None
        self._start_when_checked = False
        self._word: SlurmWord | None = None

    @property
    def form(self) -> FormModel:
        """What is in the form now."""
        return self.query_one(FormPane).form

    @property
    def is_checked(self) -> bool:
        """Whether what is known is of the form as it is now."""
        return self._cloning is None and self._checked == self.form

    @property
    def known(self) -> Draft:
        """What is known, with SLURM's refusal of this very form among the problems."""
        return with_refusal(self.draft, self.form, self._word)

    def compose_body(self) -> ComposeResult:
        """Headline, form, and what it comes to."""
        yield DraftChecker()
        yield Words("", id="headline")
        yield Static("", id="new-problem")
        with Horizontal(id="new"):
            yield FormPane(self._first)
            yield DraftPane()

    def on_mount(self) -> None:
        """Read the configs folders, and check what the form starts from."""
        super().on_mount()
        self.query_one(DraftChecker).list_configs()
        self._begin(self._first)

    def begin_with(self, start_from: Path | str, changes: Sequence[str] = ()) -> None:
        """Put a run or an experiment into the form, with changes `key=value`; undo brings back what was there."""
        form = FormModel.from_run(start_from, changes)
        if not self.stands:
            self._first = form
            return
        pane = self.query_one(FormPane)
        pane.end_search()
        self._show_form()
        if pane.was_edited:
            self.notify("What was in the form before comes back by undo: u.")
        self._begin(form)

    def _begin(self, form: FormModel) -> None:
        """Start from a form; one of a run gets first the tag that keeps the two apart."""
        self._cloning = form if form.like is not None else None
        if self._cloning is not None:
            self.query_one(DraftChecker).make_clone(form)
        else:
            self._take(form)

    def on_screen_resume(self) -> None:
        """Look again: files may have changed below another screen."""
        super().on_screen_resume()
        if self._checked is not None:
            self.query_one(DraftChecker).check(self.form)

    def refresh_now(self) -> None:
        """Read everything again."""
        super().refresh_now()
        checker = self.query_one(DraftChecker)
        checker.list_configs()
        checker.check(self.form)

    @on(DraftChecker.Listed)
    def _keep_catalog(self, message: DraftChecker.Listed) -> None:
        said = self.query_one("#new-problem", Static)
        said.display = bool(message.problem)
        said.update(Text(f"⚠ {message.problem}"))
        self.query_one(FormPane).show_catalog(message.entries, message.problem)

    @on(DraftChecker.Cloned)
    def _keep_clone(self, message: DraftChecker.Cloned) -> None:
        if message.asked != self._cloning:
            return  # another clone was asked for meanwhile
        self._cloning = None
        self._take(message.form)
        if message.form.changes:
            self.query_one(FormPane).go_to(next(iter(message.form.changes)))

    def _take(self, form: FormModel) -> None:
        pane = self.query_one(FormPane)
        pane.change(form)
        pane.note_kept()
        self.query_one(DraftChecker).check(form)

    @on(FormPane.Edited)
    def _check_soon(self, message: FormPane.Edited) -> None:
        self.query_one(DraftChecker).check_soon(message.form)
        self._draw()

    @on(DraftChecker.Checked)
    def _keep_draft(self, message: DraftChecker.Checked) -> None:
        self.draft, self._checked = message.draft, message.form
        self._draw()
        if self._start_when_checked and self.is_checked:
            self.action_start()

    @on(DraftChecker.SlurmAnswered)
    def _keep_slurm_word(self, message: DraftChecker.SlurmAnswered) -> None:
        self._word = message.word
        self._draw()

    def _draw(self) -> None:
        known, form = self.known, self.form
        self.query_one(FormPane).show(known)
        self.query_one("#headline", Words).say(headline(form, known, checking=not self.is_checked))
        self.query_one(DraftPane).show(form, known, self._word)

    def action_copy_script(self) -> None:
        """Copy what would be submitted."""
        self.query_one(ScriptPreview).action_copy()

    def action_ask_slurm(self) -> None:
        """Ask SLURM whether it would take the job; nothing is submitted."""
        config = self.draft.config
        if config is None or config.cluster.kind != "slurm":
            self.notify("The cluster of this form has no queue to ask.")
            return
        self._word = SlurmWord(self.form, pending=True)
        self._draw()
        self.query_one(DraftChecker).ask_slurm(self.qad.slurm_client, self.form, config)

    def action_next_problem(self, step: int) -> None:
        """Go to the next field with a problem, or to the one before."""
        self._show_form()
        self.query_one(FormPane).go_to_problem(step)

    @on(ProblemList.Chosen)
    def _go_to_problem(self, message: ProblemList.Chosen) -> None:
        key = place_of(self.form, message.problem)
        if key is not None:
            self._show_form()
            self.query_one(FormPane).go_to(key)

    def action_other_side(self) -> None:
        """Go to the script and back; where the terminal is narrow they take turns."""
        script = self.query_one(ScriptPreview)
        if script.has_focus or self.has_class("-script"):
            self._show_form()
        else:
            self.add_class("-script")
            script.focus()

    def _show_form(self) -> None:
        self.remove_class("-script")
        self.query_one(ConfigForm).focus()

    def action_leave(self) -> None:
        """End the search, or come back from the script; else go where one came from: the form stays as it is."""
        pane = self.query_one(FormPane)
        if pane.is_searching:
            pane.end_search()
        elif self.has_class("-script"):
            self._show_form()
        else:
            self.qad.action_go(self.qad.came_from)

    def action_clone(self) -> None:
        """Pick a run to start from."""
        rows = [row for row in self.qad.fleet.rows.values() if row.run.state != "foreign"]
        picks = [Pick(str(row.run.path), row.run.name, row.run.words) for row in rows]

        def picked(text: str | None) -> None:
            if text is not None:
                self.begin_with(Path(text))

        self.qad.push_screen(PartPicker("Clone a run", picks, "", empty="There is no run to clone yet."), picked)

    def action_save(self) -> None:
        """Save the form as an experiment, and go on from that."""
        is_named = self.form.experiment != BLANK and not self.form.clone_of
        name = f"{Path(self.form.experiment).stem}-2" if is_named else "my-experiment"

        def saved(path: Path | None) -> None:
            if path is not None:
                self.notify(f"Saved: {path}")
                self.query_one(DraftChecker).list_configs()
                self.query_one(FormPane).change(replace(self.form, experiment=str(path), changes={}))
                self.query_one(FormPane).note_kept()

        self.qad.push_screen(SaveExperimentScreen(self.form, name), saved)

    def action_start(self) -> None:
        """Ask once more before the run is started; a form with problems goes to the first of them instead."""
        self._start_when_checked = not self.is_checked
        if self._start_when_checked:
            return
        count = len(self.known.problems)
        if count or self.draft.config is None:
            words = f"{count} problem{'s' if count != 1 else ''}; nothing can be started yet."
            self.notify(words, severity="warning")
            self.action_next_problem(1)
            return

        self.qad.push_screen(StartRunScreen(self.form, self.draft), self._open_started)

    def _open_started(self, folder: Path | None) -> None:
        """Open the run by the path that the fleet has it under; one that is in no root can only be named."""
        if folder is None:
            return
        self.query_one(FormPane).note_kept()
        root = next((root for root in self.qad.roots if root.absolute() == folder.parent), None)
        if root is None:
            self.notify(f"The run is in {folder.parent}, which is not shown here: qad-tui {folder.parent}", timeout=20)
        else:
            self.qad.action_refresh_now()
            self.qad.open_run(root / folder.name)
