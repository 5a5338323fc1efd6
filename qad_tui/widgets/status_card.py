"""Status of one run in a few lines: state, progress, speed, losses, what went wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual import events, on
from textual.widgets import Static

from qad_core.run.metrics import Number
from qad_core.run.store import RunSummary
from qad_tui.curve_data import loss_of_line
from qad_tui.formats import (
    MISSING,
    format_duration,
    format_fraction,
    format_loss,
    format_rate,
    progress_bar,
    progress_fraction,
    short_run_name,
)
from qad_tui.run_follower import RunDetail
from qad_tui.states import LOOKS, state_phrase

STALE_SECONDS = 30.0
"""A running run without a change for so long is called out."""
_BAR_WIDTH = 20
_GAP = "   "
_WARNING_STYLE = "bold yellow"


class StatusCard(Static):
    """Shows one RunDetail; redrawn only when its words or its width changed."""

    def __init__(self) -> None:
        super().__init__("")
        self._detail: RunDetail | None = None
        self._now = 0.0
        self._shown = Text()

    def show(self, detail: RunDetail | None, *, now: float) -> None:
        """Show a run as of Unix time `now`, or nothing when none is chosen."""
        self._detail, self._now = detail, now
        self._redraw()

    @on(events.Resize)
    def _redraw(self) -> None:
        text = describe_run(self._detail, now=self._now, width=self.content_size.width)
        if text != self._shown:
            self._shown = text
            self.update(text)


def describe_run(detail: RunDetail | None, *, now: float, width: int) -> Text:
    """The card's lines, broken between facts rather than inside them."""
    if detail is None:
        return Text()
    lines = [_warning("this run folder is gone; below is what was last seen of it")] if detail.gone else []
    lines += [_warning(problem) for problem in detail.problems]
    if run := detail.summary:
        lines.append(Text(short_run_name(run.name), "bold"))
        groups = (_progress(run), _numbers(run), _evaluations(run), _ages(run, now=now))
        lines += [pack(facts, width) for facts in groups]
        lines += _failure(run)
    return Text("\n").join(line for line in lines if line)


def pack(facts: Iterable[Text], width: int) -> Text:
    """Facts side by side in lines of at most `width` cells; one fact is never broken."""
    packed, room = Text(), 0
    for fact in facts:
        if packed and fact.cell_len + len(_GAP) <= room:
            packed.append(_GAP)
            room -= len(_GAP)
        elif packed:
            packed.append("\n")
            room = width
        else:
            room = width
        packed.append_text(fact)
        room -= fact.cell_len
    return packed


def _progress(run: RunSummary) -> list[Text]:
    look = LOOKS[run.state]
    facts = [Text(f"{look.mark} {state_phrase(run)}", look.style)]
    fraction = progress_fraction(run.step, run.train_iterations)
    if fraction is not None:
        bar = Text(progress_bar(fraction, _BAR_WIDTH), "green" if run.state == "running" else "dim")
        facts.append(bar.append(f" {format_fraction(fraction)}", "default not dim"))
        facts.append(Text(f"step {run.step} of {run.train_iterations}"))
    if run.eta_seconds is not None:
        facts.append(Text(f"{format_duration(run.eta_seconds)} left"))
    return facts


def _numbers(run: RunSummary) -> list[Text]:
    latest = run.last_training
    if latest is None:
        return []
    loss = loss_of_line(latest)
    facts = [
        _named(loss.name, format_loss(latest.get(loss.key))),
        _named("tokens/s", format_rate(run.tokens_per_s)),
        _named("step", _milliseconds(latest.get("step_ms"))),
        _named("grad norm", format_loss(latest.get("grad_norm"))),
        _named("lr", format_loss(latest.get("learning_rate"))),
        _named("memory", _gibibytes(latest.get("memory_gib"))),
    ]
    return [fact for fact in facts if not fact.plain.endswith(MISSING)]


def _evaluations(run: RunSummary) -> list[Text]:
    if run.last_kl is None:
        return []
    newest = run.evaluations[-1]
    facts = [_named("held-out KL", format_loss(run.last_kl))]
    if run.first_kl is not None and len(run.evaluations) > 1:
        facts.append(_named("plain PTQ", format_loss(run.first_kl)))
    if run.recovered is not None:
        facts.append(_named("gap won back", format_fraction(run.recovered), "bold"))
    if (agreement := newest.get("eval/top1_agreement")) is not None:
        facts.append(_named("top-1 agreement", format_fraction(agreement)))
    return facts


def _ages(run: RunSummary, *, now: float) -> list[Text]:
    facts: list[Text] = []
    if run.updated:
        age = now - run.updated
        stale = run.state == "running" and age > STALE_SECONDS
        words = f"last change {format_duration(age)} ago"
        facts.append(_warning(words) if stale else Text(words, "dim"))
    if run.status is not None:
        saved = run.status.checkpoint_step
        facts.append(Text("no checkpoint yet" if saved is None else f"checkpoint at step {saved}", "dim"))
        if run.state == "running" and run.status.started:
            facts.append(Text(f"started {format_duration(now - run.status.started)} ago", "dim"))
    return facts


def _failure(run: RunSummary) -> list[Text]:
    lines: list[Text] = []
    if run.status is not None and run.status.error:
        lines.append(Text(run.status.error, LOOKS["failed"].style))
    if run.status is not None and run.status.hint:
        lines.append(Text(f"→ {run.status.hint}"))
    if run.bad_lines:
        lines.append(_warning(f"metrics.jsonl: {run.bad_lines} unreadable line(s) left out"))
    return lines


def _warning(sentence: str) -> Text:
    return Text(f"⚠ {sentence}", _WARNING_STYLE)


def _named(name: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{name} ", "dim"), (value, style))


def _milliseconds(value: Number) -> str:
    if value is None or value < 10_000:
        return MISSING if value is None else f"{value:.0f} ms"
    return format_duration(value / 1000)


def _gibibytes(value: Number) -> str:
    return MISSING if value is None else f"{value:.1f} GiB"
