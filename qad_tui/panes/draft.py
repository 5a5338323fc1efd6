"""What a form comes to: its summary, all its problems, and the exact script or command."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from qad_core.launch.draft import Draft
from qad_tui.form_model import FormModel
from qad_tui.slurm_word import SlurmWord
from qad_tui.start_command import ChainOptions, command_words, submit_arguments, train_arguments
from qad_tui.widgets.draft_summary import DraftSummary
from qad_tui.widgets.problem_list import ProblemList
from qad_tui.widgets.script_preview import ScriptPreview


class DraftPane(Vertical):
    """Draws what it is told."""

    def __init__(self) -> None:
        super().__init__(id="panel")

    def compose(self) -> ComposeResult:
        """From short to long."""
        yield DraftSummary()
        yield ProblemList()
        yield ScriptPreview()

    def show(self, form: FormModel, draft: Draft, word: SlurmWord | None) -> None:
        """Show what is known of a form."""
        self.query_one(DraftSummary).show(form, draft, word)
        self.query_one(ProblemList).show(draft.problems)
        preview = self.query_one(ScriptPreview)
        preview.display = draft.config is not None
        if draft.config is None:
            return
        is_slurm = draft.config.cluster.kind == "slurm"
        arguments = submit_arguments(form, ChainOptions()) if is_slurm else train_arguments(form)
        title = "what will be submitted" if is_slurm else "what will run here"
        preview.show(title, f"{command_words(arguments)}\n\n{draft.script}")
