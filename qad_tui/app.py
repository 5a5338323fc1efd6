"""The application: looks at run folders and at SLURM for all screens, and holds the keys that work everywhere.

It wires screens to `FleetModel`, `SlurmWatch` and the settings, and shows nothing itself. What the first frame does not
need is imported when it is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from qad_core.slurm.client import SlurmClient
from qad_core.slurm.polling import Pace, is_away
from qad_core.slurm.site import read_site_floor
from qad_tui.charts import CurveOptions
from qad_tui.daemon_threads import DaemonThreads
from qad_tui.fleet import Fleet
from qad_tui.messages import FleetSeen, KeysChecked, SlurmSeen, StateKept
from qad_tui.notifications import Ending, EndingWatch, tell_desktop, terminal_sequence
from qad_tui.output_filter import WithoutCommands
from qad_tui.screens.base import SPLIT_COLUMNS, QadScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.settings import SettingsStore, State, load_settings
from qad_tui.signals import end_by_signals
from qad_tui.slurm_asker import SlurmAsker
from qad_tui.slurm_watch import QUESTION_SECONDS, SlurmSnapshot, SlurmWatch, Wish
from qad_tui.widgets.top_bar import PLACES

if TYPE_CHECKING:
    from qad_core.slurm.answers import SlurmAnswers
    from qad_tui.fleet_model import FleetModel
    from qad_tui.panes.form import FormPane


def _new_run() -> Screen[None]:
    from qad_tui.screens.new_run import NewRunScreen

    return NewRunScreen()


def _queue() -> Screen[None]:
    from qad_tui.screens.queue import QueueScreen

    return QueueScreen()


def _compare() -> Screen[None]:
    from qad_tui.screens.compare import CompareScreen

    return CompareScreen()


def _system() -> Screen[None]:
    from qad_tui.screens.system import SystemScreen

    return SystemScreen()


REST_SECONDS = 15.0
"""So long after the last key or mouse event the screen is at rest."""
REST_TICKS = 3


class QadApp(App[None]):
    """Experiment manager for QAD runs."""

    TITLE = "qad-tui"
    CSS_PATH = [  # noqa: RUF012 - as Textual declares it
        f"styles/{name}.tcss" for name in ("app", "runs", "detail", "curves", "log")
    ]
    # Screens but the first are imported when they are asked for: the first frame does not wait for them.
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {
        "runs": RunsScreen,
        "new": _new_run,
        "queue": _queue,
        "compare": _compare,
        "system": _system,
    }
    DEFAULT_MODE = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"go('{name}')", word, id=f"app.{name}", show=False)
            for number, (name, word) in enumerate(PLACES, 1)
        ),
        Binding("p", "toggle_pause", "Pause", id="app.pause", show=False),
        Binding("r", "refresh_now", "Refresh", id="app.refresh", show=False),
        Binding("colon", "command_palette", "Commands", id="app.palette", show=False),
        Binding("question_mark", "open_help", "Keys", id="app.help"),
        Binding("q", "quit", "Quit", id="app.quit"),
    ]

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        now: Callable[[], float] = time.time,
        poll_seconds: float | None = None,
        settings: SettingsStore | None = None,
        client: SlurmClient | None = None,
    ) -> None:
        """Show the runs below `roots`; `now` is the clock that ages are measured by, in Unix seconds."""
        super().__init__()
        self.settings = load_settings() if settings is None else settings
        self.now = now
        self.poll_seconds = self.settings.settings.poll_seconds if poll_seconds is None else poll_seconds
        self.roots = tuple(roots)
        self.fleet = Fleet()
        self.slurm_client = client or SlurmClient(timeout_seconds=QUESTION_SECONDS)
        floor = read_site_floor(os.environ)
        self.settings.problems += floor.problems
        pace = Pace(self.settings.settings.squeue_seconds, floor.seconds)
        self.slurm_watch = SlurmWatch(self.slurm_client, clock=now, pace=pace)
        self.slurm_asker = SlurmAsker(self.slurm_watch, lambda news: self.post_message(SlurmSeen(news)))
        self.slurm = SlurmSnapshot()
        self.paused = False
        self.selected: list[Path] = []
        """Runs that are marked for the comparison."""
        self.curve_options = CurveOptions()
        self.came_from = self.DEFAULT_MODE
        """The place before the present one."""
        self.open_forms: list[FormPane] = []
        """Forms of new runs, on any screen."""
        self._writing_state = False
        self._output_filter = WithoutCommands()
        self._looking_at_fleet = False
        self._endings = EndingWatch()
        self.started_at = self._last_input_at = now()
        """Unix time."""
        self._ticks = 0

    @cached_property
    def runs(self) -> FleetModel:
        """The known set of runs; for the thread that looks, which imports what reads them."""
        from qad_tui.fleet_model import FleetModel

        return FleetModel(self.roots, clock=self.now)

    def on_load(self) -> None:
        """Have threads that nobody waits for, and an end by signal that leaves the terminal as it was."""
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        if not (self.is_headless or self.is_web):  # a browser's terminal has its own way to end
            end_by_signals(self)

    def on_mount(self) -> None:
        """Apply the settings and begin to look, after the first frame."""
        self._take_keys(self.settings.settings.keys)
        self._apply_theme()
        self.theme_changed_signal.subscribe(self, lambda theme: self._keep_theme(theme.name))
        self.call_after_refresh(self._tick)
        self.set_interval(self.poll_seconds, self._tick)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and ours behind them."""
        return [*super().get_line_filters(), self._output_filter]

    def open_run(self, path: Path, *, tab: str = "overview") -> None:
        """Open a run full screen, at one of its tabs."""
        from qad_tui.screens.run_detail import RunDetailScreen

        self.push_screen(RunDetailScreen(path, tab=tab))

    def new_run(self, start_from: Path | str, changes: Sequence[str] = ()) -> None:
        """Go to New with a run's folder or an experiment in its form, and changes `key=value`; escape comes back."""
        from qad_tui.screens.new_run import NewRunScreen

        self.action_go("new")
        while len(self.screen_stack) > 1:
            self.pop_screen()
        screen = self.screen
        assert isinstance(screen, NewRunScreen)
        screen.begin_with(start_from, changes)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Commands of the palette: Textual's, the places, and every key of the screen below."""
        for command in super().get_system_commands(screen):  # pyright: ignore[reportUnknownMemberType]
            if command.title != "Keys":  # Textual's panel beside the screen, where ours is a page of its own
                yield command
        for name, word in PLACES:
            yield SystemCommand(f"Go to {word}", f"The screen {word}", lambda name=name: self.action_go(name))
        seen = {f"go('{name}')" for name, _ in PLACES} | {"command_palette", "quit"}
        for active in list(screen.active_bindings.values()):
            binding = active.binding
            if binding.id and binding.description and binding.action not in seen:
                seen.add(binding.action)
                run = self._runner(active.node, binding.action)
                yield SystemCommand(binding.description, f"key {self.get_key_display(binding)}", run)

    def _runner(self, node: object, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self.run_action, action, node)  # pyright: ignore[reportArgumentType]

        return run

    def action_go(self, place: str) -> None:
        """Go to a place of the bar."""
        if self.current_mode == place:
            while len(self.screen_stack) > 1:
                self.pop_screen()
        else:
            self.came_from = self.current_mode
            self.switch_mode(place)

    def action_toggle_pause(self) -> None:
        """Stop reading, or go on."""
        self.paused = not self.paused
        self._tick()

    def action_refresh_now(self) -> None:
        """Read everything now, even while paused; SLURM no sooner than it may be asked."""
        self._look_at_fleet()
        self.slurm_asker.ask_now(self.slurm_wish)
        if (top := self._top) is not None:
            top.refresh_now()

    def action_open_help(self) -> None:
        """Show the keys of the screen below."""
        from qad_tui.screens.help import HelpScreen, described_keys

        keys = described_keys(self.screen.active_bindings.values(), self.get_key_display)
        self.push_screen(HelpScreen(keys, is_wide=self.size.width >= SPLIT_COLUMNS))

    async def action_quit(self) -> None:
        """Leave; ask first where that would lose what was typed into a form."""
        if not any(form.was_edited for form in self.open_forms):
            self.exit()
            return
        from qad_tui.screens.confirm import Choice, ConfirmScreen

        def answered(answer: str | None) -> None:
            if answer is not None:
                self.exit()

        choice = Choice("quit", "Quit, and lose what was changed in the form of a new run")
        self.push_screen(ConfirmScreen("Quit?", choices=(choice,), no="No, stay"), answered)

    @property
    def crash(self) -> Exception | None:
        """What ended the application, where that was a bug."""
        return self._exception

    @property
    def _top(self) -> QadScreen | None:
        """The screen on top, where it is one of ours; a message may come before it stands, or when all have gone."""
        top = self.screen_stack[-1] if self.screen_stack else None
        return top if isinstance(top, QadScreen) and top.stands else None

    @property
    def _is_resting(self) -> bool:
        """Whether nobody has touched anything for a while: then one of REST_TICKS ticks counts."""
        return self.now() - self._last_input_at > REST_SECONDS

    def _tick(self) -> None:
        self._ticks += 1
        if self._is_resting and self._ticks % REST_TICKS:
            return
        if not self.paused:
            self._look_at_fleet()
            self.slurm_asker.ask_when_due(self.slurm_wish)
        if (top := self._top) is not None:
            top.tick()

    def _look_at_fleet(self) -> None:
        if not self._looking_at_fleet:
            self._looking_at_fleet = True
            self._look_at_fleet_in_thread(self.slurm.answers)

    @work(thread=True, group="fleet")
    def _look_at_fleet_in_thread(self, answers: SlurmAnswers) -> None:
        self.post_message(FleetSeen(self.runs.look(answers)))

    @on(FleetSeen)
    def _keep_fleet(self, message: FleetSeen) -> None:
        self._looking_at_fleet = False
        self.fleet = message.fleet
        for ending in self._endings.look(message.fleet):
            self._tell(ending)
        if (top := self._top) is not None:
            top.fleet_changed()
            top.draw_bar()

    def _tell(self, ending: Ending) -> None:
        way = self.settings.settings.notify
        if way == "off":
            return
        self.notify(
            ending.words, title=ending.title, severity="error" if ending.is_bad else "information", markup=False
        )
        if way == "desktop":
            self._tell_desktop_in_thread(ending)
        else:
            self.write_to_terminal(terminal_sequence(ending))

    @work(thread=True, group="notify")
    def _tell_desktop_in_thread(self, ending: Ending) -> None:
        if not tell_desktop(ending):
            self.call_from_thread(self.write_to_terminal, terminal_sequence(ending))

    def write_to_terminal(self, sequence: str) -> None:
        """Send the terminal a control sequence that Textual has no call for; nothing where there is no terminal."""
        if self._driver is not None:
            self._driver.write(sequence)

    async def on_event(self, event: events.Event) -> None:
        """Note that somebody is here. What is typed behind the key that quits is meant for the shell."""
        if isinstance(event, events.InputEvent):
            if self._exit:
                return
            self._last_input_at = self.now()
        await super().on_event(event)

    @property
    def slurm_wish(self) -> Wish:
        """What the screens want to know of SLURM."""
        links = tuple(link.job for row in self.fleet.rows.values() for link in row.view.links)
        everyone = any(isinstance(screen, QadScreen) and screen.WANTS_QUEUE for screen in self.screen_stack)
        away = is_away(self._last_input_at, focused=self.app_focus, now=self.now())
        return Wish(links, everyone, away)

    @property
    def slurm_next_at(self) -> float | None:
        """When SLURM is asked next, Unix time; None while there is nothing to ask, or nobody looks."""
        return None if self.paused else self.slurm_watch.next_at(self.slurm_wish)

    def note_slurm_action(self) -> None:
        """Something was done to a job: see soon what came of it."""
        self.slurm_watch.note_action()

    @on(SlurmSeen)
    def _keep_slurm(self, message: SlurmSeen) -> None:
        if isinstance(message.snapshot, Exception):
            raise message.snapshot
        self.slurm = message.snapshot
        if (top := self._top) is not None:
            top.slurm_changed()
            top.draw_bar()

    def _apply_theme(self) -> None:
        wanted = self.settings.settings.theme or self.settings.state.theme
        if wanted and wanted not in self.available_themes:
            self.settings.problems.append(f"There is no theme {wanted!r}; `:` and Theme show those that are.")
        elif wanted:
            self.theme = wanted

    def _keep_theme(self, name: str) -> None:
        self.keep_choice(theme=name)

    def _take_keys(self, keys: Mapping[str, str]) -> None:
        self.set_keymap(dict(keys))
        if keys:
            self._check_keys_in_thread(keys)

    @work(thread=True, group="keys")
    def _check_keys_in_thread(self, keys: Mapping[str, str]) -> None:
        from qad_tui.keys import find_key_problems  # it imports all screens

        self.post_message(KeysChecked(find_key_problems(keys)))

    @on(KeysChecked)
    def _tell_key_problems(self, message: KeysChecked) -> None:
        self.settings.problems += message.problems
        if (top := self._top) is not None:
            top.draw_bar()

    def keep_choice(self, **changes: object) -> None:
        """Take what was chosen on the screen, and write it down for the next time."""
        self.settings.change_state(**changes)
        self._write_state()

    def _write_state(self) -> None:
        if not self._writing_state:
            self._writing_state = True
            self._write_state_in_thread(self.settings.state)

    @work(thread=True, group="state")
    def _write_state_in_thread(self, state: State) -> None:
        self.post_message(StateKept(state, self.settings.write_state(state)))

    @on(StateKept)
    def _go_on_writing(self, message: StateKept) -> None:
        self._writing_state = False
        if message.state != self.settings.state:
            self._write_state()
        elif message.problem:
            self.notify(message.problem, severity="warning", markup=False)
