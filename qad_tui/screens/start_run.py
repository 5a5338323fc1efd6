"""The last look before a run is started: what will run, how many links, behind which jobs; the answer is No at first.

A SLURM run is submitted, one on this machine is started so that it lives on when the screen is closed. Both are done
by the command that is shown.
"""

from __future__ import annotations

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
from textual.timer import Timer
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qad_core.launch.detached import start_detached, wait_for_status
from qad_core.launch.draft import Draft
from qad_tui.form_model import FormModel
from qad_tui.headless import Answer, run_command
from qad_tui.slurm_word import SlurmWord, ask_slurm
from qad_tui.start_command import (
    PATIENCE_SECONDS,
    ChainOptions,
    command_words,
    describe_dry_run,
    submit_arguments,
    train_arguments,
)
from qad_tui.widgets.chain_options import ChainOptionsForm
from qad_tui.widgets.draft_summary import near_path, slurm_words
from qad_tui.widgets.script_preview import ScriptPreview

if TYPE_CHECKING:
    from qad_tui.app import QadApp

DEBOUNCE_SECONDS = 0.4
START_SECONDS = 30.0
"""A run here has said what it does after so long."""


@dataclass
class _DryRun(Message, bubble=False):
    """What the submission would do."""

    options: ChainOptions
    answer: Answer


@dataclass
class _SlurmAnswered(Message, bubble=False):
    """SLURM said whether it would take the job, or said nothing."""

    word: SlurmWord


@dataclass
class _Ended(Message, bubble=False):
    """The command has been carried out, or refused."""

    problems: tuple[str, ...]
    news: str = ""
    warnings: tuple[str, ...] = ()


class StartRunScreen(ModalScreen[Path | None]):
    """Dismisses with the folder of the run that was started, or None."""

    CSS_PATH = "../styles/new_run.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "#start-choices"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "refuse", "No", id="start.no"),
        Binding("n", "refuse", "No", id="start.refuse", show=False),
        Binding("y", "accept", "Yes", id="start.yes", show=False),
        Binding("j", "move(1)", "Next choice", id="start.next", show=False),
        Binding("k", "move(-1)", "Previous choice", id="start.previous", show=False),
    ]

    def __init__(self, form: FormModel, draft: Draft) -> None:
        """Start what `form` describes; `draft` is what is known of it, without problems."""
        super().__init__()
        assert draft.config is not None and draft.numbers is not None
        self._form, self._draft, self._numbers = form, draft, draft.numbers
        self._is_slurm = draft.config.cluster.kind == "slurm"
        self._ready = not self._is_slurm
        self._is_refused = False
        self._busy_since: float | None = None
        self._options = ChainOptions()
        self._timer: Timer | None = None

    @property
    def qad(self) -> QadApp:
        """The application."""
        return cast("QadApp", self.app)

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(id="start") as box:
            box.border_title = " Submit " if self._is_slurm else " Start here "
            box.border_subtitle = " enter chooses · tab goes to the fields · escape is No "
            yield Static(self._question(), id="start-question")
            if self._is_slurm:
                names = [row.run.name for row in self.qad.fleet.rows.values()]
                yield ChainOptionsForm(self._numbers.seconds_per_iteration, names)
                yield Static("", id="start-word")
            yield ScriptPreview()
            yield Static("", id="start-said")
            yield OptionList(id="start-choices")

    def on_mount(self) -> None:
        """Show the command, and ask it what it would do."""
        self._draw()
        self.set_interval(1.0, self._show_busy)
        if self._is_slurm:
            self._show_word(SlurmWord(self._form, pending=True))
            self._ask_slurm_in_thread()
            self._dry_run()
        else:
            self.query_one(ScriptPreview).show("what runs", f"{self._command()}\n\n{self._draft.script}")

    @work(thread=True, group="ask-slurm")
    def _ask_slurm_in_thread(self) -> None:
        config = self._draft.config
        assert config is not None
        self.post_message(_SlurmAnswered(ask_slurm(self.qad.slurm_client, self._form, config)))

    @on(_SlurmAnswered)
    def _keep_word(self, message: _SlurmAnswered) -> None:
        self._show_word(message.word)

    def _show_word(self, word: SlurmWord) -> None:
        words, style = slurm_words(self._form, word)
        self.query_one("#start-word", Static).update(Text.assemble(("SLURM ", "dim"), (words, style)))

    @on(ChainOptionsForm.Changed)
    def _options_changed(self, message: ChainOptionsForm.Changed) -> None:
        self._options, self._ready, self._is_refused = message.options, False, False
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DEBOUNCE_SECONDS, self._dry_run)
        self._draw()

    def _dry_run(self) -> None:
        self._dry_run_in_thread(self._options)

    @work(thread=True, exclusive=True, group="dry-run")
    def _dry_run_in_thread(self, options: ChainOptions) -> None:
        answer = run_command([*submit_arguments(self._form, options), "--dry-run", "--patience", "0"])
        self.post_message(_DryRun(options, answer))

    @on(_DryRun)
    def _show_dry_run(self, message: _DryRun) -> None:
        if message.options != self._options or self._busy_since is not None:
            return
        self._ready, self._is_refused = message.answer.ok, not message.answer.ok
        preview = self.query_one(ScriptPreview)
        if message.answer.ok:
            needed = message.answer.data["links_needed"]
            self._say(f"the run's pace asks for {_links(needed)}" if needed else "", "dim")
            preview.show("what will be submitted", f"{self._command()}\n{describe_dry_run(message.answer)}")
        else:
            self._say("\n".join(f"✗ {problem}" for problem in message.answer.problems), "bold red")
            preview.show("what would be submitted", f"{self._command()}\n\n{self._draft.script}")
        self._draw()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id == "yes":
            self._start()
        else:
            self.action_refuse()

    def action_accept(self) -> None:
        """Put the cursor on Yes; Enter there does it."""
        if self._ready and self._busy_since is None:
            choices = self.query_one("#start-choices", OptionList)
            choices.focus()
            choices.highlighted = 1

    def action_refuse(self) -> None:
        """Start nothing; while something is being started, that is waited for."""
        if self._busy_since is None:
            self.dismiss(None)
        else:
            self._say("It is under way and cannot be taken back here; wait for its end.", "yellow")

    def action_move(self, step: int) -> None:
        """Move the cursor over the choices."""
        choices = self.query_one("#start-choices", OptionList)
        if step > 0:
            choices.action_cursor_down()
        else:
            choices.action_cursor_up()

    def _start(self) -> None:
        if not self._ready or self._busy_since is not None:
            return
        self._busy_since = self.qad.now()
        self._draw()
        self._show_busy()
        if self._is_slurm:
            self._submit_in_thread(submit_arguments(self._form, self._options))
        else:
            self._train_in_thread()

    @work(thread=True, group="start")
    def _submit_in_thread(self, arguments: tuple[str, ...]) -> None:
        answer = run_command([*arguments, "--patience", str(PATIENCE_SECONDS)])
        if not answer.ok:
            self.post_message(_Ended(answer.problems))
            return
        jobs = ", ".join(str(job["job_id"]) for job in answer.data["jobs"])
        self.post_message(_Ended((), f"Submitted: job {jobs}", tuple(answer.data.get("warnings", ()))))

    @work(thread=True, group="start")
    def _train_in_thread(self) -> None:
        folder = self._numbers.run_folder
        try:
            start = start_detached(train_arguments(self._form), folder)
            said = wait_for_status(start, folder, START_SECONDS)
        except OSError as error:
            self.post_message(_Ended((f"it cannot be started: {error.filename}: {error.strerror}",)))
            return
        self.post_message(_Ended((said,) if said else (), f"Started: its words are in {near_path(start.log)}"))

    @on(_Ended)
    def _end(self, message: _Ended) -> None:
        self._busy_since = None
        if message.problems:
            self._say("\n".join(f"✗ {problem}" for problem in message.problems), "bold red")
            self._draw()
            return
        self.notify(message.news)
        for warning in message.warnings:
            self.notify(warning, severity="warning", timeout=20)
        self.dismiss(self._numbers.run_folder)

    def _question(self) -> Text:
        numbers, config = self._numbers, self._draft.config
        assert config is not None
        where = f"{config.cluster.nodes} node{'s' if config.cluster.nodes > 1 else ''} of {config.cluster.name}"
        gpus = f", {numbers.gpus} GPUs" if numbers.gpus else ""
        text = Text(numbers.run_name, "bold")
        return text.append(f"\n{numbers.ranks} rank{'s' if numbers.ranks > 1 else ''} on {where}{gpus}", "not bold")

    def _command(self) -> str:
        arguments = submit_arguments(self._form, self._options) if self._is_slurm else train_arguments(self._form)
        return command_words(arguments)

    def _draw(self) -> None:
        choices = self.query_one("#start-choices", OptionList)
        at = choices.highlighted or 0
        choices.display = self._busy_since is None
        choices.clear_options()
        choices.add_options(
            [Option("No, go back", id="no"), Option(self._yes_words(), id="yes", disabled=not self._ready)]
        )
        choices.highlighted = at if self._ready else 0

    def _yes_words(self) -> str:
        if not self._is_slurm:
            return "Yes, start it here; it lives on when this screen is closed"
        options = self._options
        if self._ready:
            return f"Yes, submit {'links until it is done' if options.until_done else _links(options.links or '1')}"
        return f"Yes … once {'what is wrong above is mended' if self._is_refused else 'the command has been tried'}"

    def _show_busy(self) -> None:
        if self._busy_since is not None:
            what = "Submitting" if self._is_slurm else "Starting"
            self._say(f"{what} … {self.qad.now() - self._busy_since:.0f} s", "bold")

    def _say(self, words: str, style: str = "") -> None:
        said = self.query_one("#start-said", Static)
        said.display = bool(words)
        said.update(Text(words, style))


def _links(count: int | str) -> str:
    return f"{count} link{'' if str(count) == '1' else 's'}"
