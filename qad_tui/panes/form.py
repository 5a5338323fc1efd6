"""The form of a new run with its search line, its editor and its doc line: every way to change a field.

Owns how a key becomes another form, what is folded away, and undo. It checks nothing: it posts `FormPane.Edited`,
and what is known of a form comes to `show`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from qad_core.config.catalog import BLANK, EXPERIMENT, FOLDERS, CatalogEntry
from qad_core.launch.draft import Draft
from qad_tui.form_model import FormModel, choices_of, same_value, type_words
from qad_tui.form_rows import PICKED, base_of, form_rows, group_of, place_of, value_of
from qad_tui.widgets.config_form import ConfigForm
from qad_tui.widgets.field_doc import FieldDoc
from qad_tui.widgets.field_editor import FieldEditor
from qad_tui.widgets.part_picker import PartPicker, Pick

if TYPE_CHECKING:
    from qad_tui.app import QadApp

NOTHING_KNOWN = Draft({}, {}, ())


class FormPane(Vertical):
    """Shows a FormModel with what is known of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", id="new.search"),
        Binding("x,delete", "reset_field", "Reset", id="new.reset"),
        Binding("X", "reset_all", "Reset all fields", id="new.reset_all", show=False),
        Binding("u", "undo", "Undo", id="new.undo", show=False),
        Binding("z", "fold_all", "Open or close all groups", id="new.fold", show=False),
    ]

    @dataclass
    class Edited(Message):
        """The form is another one, maybe in the middle of a word."""

        form: FormModel

    def __init__(self, form: FormModel) -> None:
        super().__init__(id="form-side")
        self.form = form
        self.draft = NOTHING_KNOWN
        self._catalog: Mapping[str, Sequence[CatalogEntry]] = {}
        self._catalog_problem = ""
        self._before: list[FormModel] = []
        self._before_typing: FormModel | None = None
        self._kept = form
        self._opened: set[str] = set()
        self._search = ""

    @property
    def qad(self) -> QadApp:
        """The application."""
        return cast("QadApp", self.app)

    @property
    def was_edited(self) -> bool:
        """Whether something would be lost with this form."""
        return bool(self._before) and self.form != self._kept

    @property
    def is_searching(self) -> bool:
        """Whether the search line is open."""
        return self.query_one("#search").display

    def compose(self) -> ComposeResult:
        """Search line, form with its editor, doc line."""
        yield Input(placeholder="search all fields: enter keeps, escape ends it", compact=True, id="search")
        with Vertical(id="form-area"):
            yield ConfigForm()
            yield FieldEditor()
        yield FieldDoc()

    def on_mount(self) -> None:
        """Show the rows."""
        self.query_one("#search").display = False
        self.qad.open_forms.append(self)
        self._draw()

    def on_unmount(self) -> None:
        """It is open no more."""
        self.qad.open_forms.remove(self)

    def show(self, draft: Draft) -> None:
        """Show what is known of the form."""
        self.draft = draft
        self._draw()

    def show_catalog(self, catalog: Mapping[str, Sequence[CatalogEntry]], problem: str) -> None:
        """Take what can be picked; `problem` says why there is nothing."""
        self._catalog, self._catalog_problem = catalog, problem
        self._draw()

    def change(self, form: FormModel) -> None:
        """Take a form in place of the present one; undo comes back to that."""
        if form != self.form:
            self._before.append(self.form)
            self._set(form)

    def note_kept(self) -> None:
        """The form as it is now was saved or started, or is what it began with: nothing of it can be lost."""
        self._kept = self.form

    def go_to(self, key: str) -> None:
        """Move the cursor to a field, and open what it is folded away in."""
        form = self.query_one(ConfigForm)
        if not form.go_to(key):
            self._opened.add(group_of(key))
            self.end_search()
            form.go_to(key)
        form.focus()

    def go_to_problem(self, step: int) -> None:
        """Move the cursor to the next field that a problem is told beside, or to the one before."""
        form = self.query_one(ConfigForm)
        wrong = [row.key for row in form.rows if row.problems]
        wrong = wrong or [key for item in self.draft.problems if (key := place_of(self.form, item))][:1]
        here = form.cursor_row.key if form.cursor_row else ""
        if wrong:
            self.go_to(wrong[(wrong.index(here) + step if here in wrong else 0) % len(wrong)])

    def end_search(self) -> None:
        """Show all rows again."""
        search = self.query_one("#search", Input)
        search.value, search.display, self._search = "", False, ""
        self.query_one(ConfigForm).focus()
        self._draw()

    def action_search(self) -> None:
        """Type words that a field's name, value or doc line has."""
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    def action_reset_field(self) -> None:
        """Give the field under the cursor its value without the change; of a group, all of its fields."""
        row = self.query_one(ConfigForm).cursor_row
        if row is None:
            return
        keys = [key for key in self.form.changes if group_of(key) == row.key] if row.is_group else [row.key]
        self.change(FormModel() if row.key == EXPERIMENT and not row.is_group else self.form.without(keys))

    def action_reset_all(self) -> None:
        """Drop all changes; undo brings them back."""
        self.change(FormModel(self.form.experiment, like=self.form.like))

    def action_undo(self) -> None:
        """Take back the last change."""
        if self._before:
            self._set(self._before.pop())

    def action_fold_all(self) -> None:
        """Open all groups, or close all."""
        groups = {row.key for row in self.query_one(ConfigForm).rows if row.is_group}
        self._opened = set() if self._opened else groups
        self._draw()

    @on(Input.Changed, "#search")
    def _narrow(self, event: Input.Changed) -> None:
        event.stop()
        self._search = event.value.strip()
        self._draw()

    @on(Input.Submitted, "#search")
    def _keep_search(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(ConfigForm).focus()

    @on(ConfigForm.Moved)
    def _follow_cursor(self) -> None:
        self._draw_doc()
        self._place_editor()

    @on(ConfigForm.Asked)
    def _edit_row(self, message: ConfigForm.Asked) -> None:
        key, choices = message.row.key, choices_of(message.row.key)
        if message.row.is_group:
            self._fold(key, open_it=key not in self._opened)
        elif key in PICKED:
            self._pick_part(key)
        elif choices == ("false", "true"):
            self._step(key, choices, 1)
        elif choices:
            self._pick(key, PartPicker(key, [Pick(choice) for choice in choices], self._value(key)))
        else:
            self._type(key)

    @on(ConfigForm.Stepped)
    def _step_row(self, message: ConfigForm.Stepped) -> None:
        key = message.row.key
        if message.row.is_group:
            self._fold(key, open_it=message.step > 0 and key not in self._opened)
        elif choices := choices_of(key) or tuple(entry.name for entry in self._catalog.get(key, ())):
            self._step(key, choices, message.step)

    def _step(self, key: str, choices: Sequence[str], step: int) -> None:
        now = self._value(key)
        at = choices.index(now) + step if now in choices else 0
        self._take(key, choices[at % len(choices)])

    def _take(self, key: str, text: str) -> None:
        base = base_of(key, self.draft)
        is_base = base is not None and key not in PICKED and same_value(key, text, base)
        self.change(self.form.without([key]) if is_base else self.form.with_change(key, text))

    def _pick_part(self, key: str) -> None:
        picks = [
            Pick(entry.name, "none" if (key, entry.name) == (EXPERIMENT, BLANK) else "", entry.description)
            for entry in self._catalog.get(key, ())
        ]
        empty = self._catalog_problem or f"There is no file in configs/{FOLDERS[key]}; type the path of one."
        self._pick(key, PartPicker(f"Pick: {key}", picks, self._value(key), takes_path=True, empty=empty))

    def _pick(self, key: str, picker: PartPicker) -> None:
        def picked(text: str | None) -> None:
            if text is not None and text != self._value(key):
                self._take(key, text)

        self.qad.push_screen(picker, picked)

    def _type(self, key: str) -> None:
        region = self.query_one(ConfigForm).value_region()
        if region is not None:
            self._before_typing = self.form
            text = self._value(key)
            self.query_one(FieldEditor).edit(key, "" if text == "null" else text, type_words(key), region)

    @on(FieldEditor.Typed)
    def _take_typing(self, message: FieldEditor.Typed) -> None:
        self._set(self.form.with_change(message.key, message.text))

    @on(FieldEditor.Ended)
    def _end_typing(self, message: FieldEditor.Ended) -> None:
        before, self._before_typing = self._before_typing, None
        form = self.query_one(ConfigForm)
        if before is not None:
            typed, self.form = self.form, before
            if message.kept and typed != before:
                text = typed.changes.get(message.key, "")
                self._take(message.key, text or ("null" if type_words(message.key).endswith("null") else ""))
            self._set(self.form)
        form.focus()
        if message.step:
            form.action_move(message.step)

    def _set(self, form: FormModel) -> None:
        self.form = form
        self._draw()
        self.post_message(self.Edited(form))

    def _fold(self, group: str, *, open_it: bool) -> None:
        (self._opened.add if open_it else self._opened.discard)(group)
        self._draw()

    def _value(self, key: str) -> str:
        return value_of(key, self.form, self.draft)

    def _draw(self) -> None:
        form = self.query_one(ConfigForm)
        form.show(form_rows(self.form, self.draft, self._catalog, self._opened, self._search))
        self._draw_doc()
        self._place_editor()

    def _draw_doc(self) -> None:
        row = self.query_one(ConfigForm).cursor_row
        key = row.key if row else ""
        picked = [entry.description for entry in self._catalog.get(key, ()) if entry.name == self._value(key)]
        self.query_one(FieldDoc).show(row, self.draft, " ".join(picked), self._search)

    def _place_editor(self) -> None:
        editor = self.query_one(FieldEditor)
        if editor.key is None:
            return
        region = self.query_one(ConfigForm).value_region()
        if region is None:
            editor.action_leave_field(True)
        else:
            editor.place(region)
