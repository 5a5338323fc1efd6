"""What a screen says of one run, fact by fact, as styled text. Pure: no Textual, and no clock but `now`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from qad_core.run.show import is_worse, show_won_back
from qad_core.slurm.stages import LOCAL_STAGES, STAGES
from qad_tui.curve_data import loss_of_line
from qad_tui.formats import (
    MISSING,
    format_duration,
    format_fraction,
    format_loss,
    format_rate,
    progress_bar,
    progress_fraction,
)
from qad_tui.states import HEALTH_LOOKS, LOOKS, state_phrase

if TYPE_CHECKING:
    from qad_core.run.metrics import MetricsLine, Number
    from qad_core.run.store import RunSummary
    from qad_core.slurm.links import LinkView
    from qad_core.slurm.views import RunView
    from qad_tui.fleet import RunRow

STALE_SECONDS = 30.0
"""A running run without a change for so long is called out."""
_BAR_WIDTH = 20
_WARNING_STYLE = "bold yellow"
_LABEL_WIDTH = 17
_NUMBER_WIDTH = 14


def progress(row: RunRow) -> list[Text]:
    """State, bar, steps, time left."""
    run, look = row.run, LOOKS[row.state]
    facts = [Text(f"{look.mark} {_state_words(row)}", look.style)]
    fraction = progress_fraction(run.step, run.train_iterations)
    if fraction is not None:
        bar = Text(progress_bar(fraction, _BAR_WIDTH), "green" if run.state == "running" else "dim")
        facts.append(bar.append(f" {format_fraction(fraction)}", "default not dim"))
        facts.append(Text(f"step {run.step} of {run.train_iterations}"))
    elif run.step:
        facts.append(Text(f"step {run.step}"))
    if row.eta_seconds is not None:
        facts.append(Text(f"{format_duration(row.eta_seconds)} left"))
    if row.state == "done" and (took := _took(row.view)):
        facts.append(Text(took))
    return facts


def way(row: RunRow) -> Text:
    """The stages on the way to steady training, that of the run marked; empty where it does nothing or is there."""
    view = row.view
    if view.stage in (None, "steady") or row.gone:
        return Text("")
    stages = STAGES if view.links else LOCAL_STAGES
    at = stages.index(view.stage) if view.stage in stages else 0
    words = [
        Text(f"✓ {stage}", "green") if number < at else Text(stage, "dim") if number > at else _here(stage)
        for number, stage in enumerate(stages)
    ]
    return Text(" › ", "dim").join(words)


def circumstance(row: RunRow) -> Text:
    """What SLURM adds to the state, and what to do about it; empty where the state says all."""
    outlook, text = row.view.outlook, Text("")
    if row.gone or row.state == "asking":
        return text
    if outlook.state == "never started" and not row.view.jobs:
        return _first_command(row)
    if outlook.state in ("queued", "blocked", "silent", "starting", "unknown", "killed") and row.view.links:
        text.append(outlook.words, "" if outlook.state in ("queued", "starting") else "yellow")
    if outlook.what_to_do:
        text.append("\n" if text.plain else "").append(f"→ {outlook.what_to_do}")
    return text


def numbers(run: RunSummary) -> list[Text]:
    """The newest training line."""
    latest = run.last_training
    if latest is None:
        return []
    loss = loss_of_line(latest)
    facts = [
        named(loss.name, format_loss(latest.get(loss.key))),
        named("tokens/s", format_rate(run.tokens_per_s)),
        named("step", _milliseconds(latest.get("step_ms"))),
        named("grad norm", format_loss(latest.get("grad_norm"))),
        named("lr", format_loss(latest.get("learning_rate"))),
        named("memory", _gibibytes(latest.get("memory_gib"))),
    ]
    return [fact for fact in facts if not fact.plain.endswith(MISSING)]


def evaluations(run: RunSummary) -> list[Text]:
    """The newest evaluation against plain quantization, in a line."""
    if run.last_kl is None:
        return []
    newest = run.evaluations[-1]
    facts = [named("held-out KL", format_loss(run.last_kl))]
    if run.first_kl is not None and len(run.evaluations) > 1:
        facts.append(named("plain PTQ", format_loss(run.first_kl)))
    if run.recovered is not None:
        style = "bold red" if is_worse(run.recovered) else "bold"
        facts.append(named("gap won back", show_won_back(run.recovered, digits=0), style))
    if (agreement := newest.get("eval/top1_agreement")) is not None:
        facts.append(named("top-1 agreement", format_fraction(agreement)))
    return facts


def evaluation_table(run: RunSummary) -> list[Text]:
    """BF16 teacher, plain quantization, now, and the gap won back, a line each; empty without evaluations."""
    if not run.evaluations:
        return []
    newest = run.evaluations[-1]
    heads = ("KL to teacher", "cross-entropy", "perplexity", "top-1 agreed")
    lines = [_table_line("held out", heads, "dim")]
    if run.last_kl is not None:
        lines.append(_teacher_line(newest))
    if run.first_kl is not None:
        lines.append(_evaluation_line("PTQ, step 0", run.evaluations[0]))
    if newest.get("step") != 0:
        lines.append(_evaluation_line(f"now, step {newest.get('step')}", newest, "bold"))
    if run.recovered is not None:
        style = "bold red" if is_worse(run.recovered) else "bold green"
        lines.append(_table_line("gap won back", (show_won_back(run.recovered, digits=0),), style))
    return lines


def ages(run: RunSummary, *, now: float) -> list[Text]:
    """Last sign of life, checkpoint, start."""
    facts: list[Text] = []
    if run.updated:
        age = now - run.updated
        stale = run.state == "running" and age > STALE_SECONDS
        words = f"last change {format_duration(age)} ago"
        facts.append(warning(words) if stale else Text(words, "dim"))
    if run.status is not None:
        saved = run.status.checkpoint_step
        facts.append(Text("no checkpoint yet" if saved is None else f"checkpoint at step {saved}", "dim"))
        if run.state == "running" and run.status.started:
            facts.append(Text(f"started {format_duration(now - run.status.started)} ago", "dim"))
    return facts


def links(view: RunView, *, now: float) -> list[Text]:
    """The chain in a line: the link that runs or comes next, its walltime, how many wait."""
    current = view.current_link
    if current is None:
        return []
    job = current.job
    facts = [Text.assemble((f"link {job.link} of {max(job.links, job.link)}", "bold"), f" {_link_words(current)}")]
    if current.stage == "running" and current.left_seconds is not None:
        facts.append(named("walltime left", format_duration(current.left_seconds)))
    elif current.stage == "pending" and current.estimated_start is not None:
        facts.append(named("starts in", format_duration(current.estimated_start - now)))
    waiting = sum(link.stage == "pending" for link in view.links if link is not current)
    if waiting:
        facts.append(Text(f"{waiting} more wait{'s' if waiting == 1 else ''}", "dim"))
    return facts


def health(row: RunRow, *, compact: bool) -> list[Text]:
    """What the health rules have found; that they found nothing, where there is room to say so."""
    shown = [finding for finding in row.findings if not (compact and finding.severity == "note")]
    lines = [
        Text(f"{HEALTH_LOOKS[finding.severity].mark} {finding.sentence}", HEALTH_LOOKS[finding.severity].style)
        for finding in shown
    ]
    is_judged = row.state not in ("gone", "killed", "failed")
    if is_judged and not row.findings and not compact and row.run.last_training is not None:
        no_stall = "no stall, " if row.run.status is not None else ""  # of other scripts' runs nobody knows
        lines.append(Text(f"✓ healthy: {no_stall}no NaN, no spikes, loss and held-out KL fall, steady pace", "green"))
    return lines


def failure(run: RunSummary) -> list[Text]:
    """What the run itself says went wrong."""
    lines: list[Text] = []
    if run.status is not None and run.status.error:
        lines.append(Text(run.status.error, LOOKS["failed"].style))
    if run.status is not None and run.status.hint:
        lines.append(Text(f"→ {run.status.hint}"))
    return lines


def unreadable(run: RunSummary) -> list[Text]:
    """Lines of the metrics that could not be read, where there are any."""
    words = f"metrics.jsonl: {run.bad_lines} unreadable line(s) left out"
    return [warning(words)] if run.bad_lines else []


def gone() -> Text:
    """That a run folder was there and is no more."""
    return warning("this run folder is gone; below is what was last seen of it")


def warning(sentence: str) -> Text:
    """A sentence that is to be seen."""
    return Text(f"⚠ {sentence}", _WARNING_STYLE)


def named(name: str, value: str, style: str = "") -> Text:
    """A value behind its name."""
    return Text.assemble((f"{name} ", "dim"), (value, style))


def _took(view: RunView) -> str:
    """How long a finished run took, from its first start to its end; empty where its start is not known."""
    status = view.run.status
    if status is None or not status.started:
        return ""
    starts = [job.started for job in view.jobs if job.started is not None and job.started <= status.updated]
    words = f"took {format_duration(status.updated - min([status.started, *starts]))}"
    return f"{words} from its first start, in {len(starts)} starts" if len(starts) > 1 else words


def _state_words(row: RunRow) -> str:
    if row.gone:
        return "gone"
    return "asking SLURM …" if row.state == "asking" else state_phrase(row.view)


def _first_command(row: RunRow) -> Text:
    text = Text("It was never submitted.\n")
    text.append(f"→ On SLURM: qad_core submit {row.run.name}, or a on its Chain.\n")
    return text.append(f"→ Here: qad_core train {row.run.folder.config}, which Y copies.")


def _here(stage: str) -> Text:
    return Text(f"● {stage}", "bold cyan")


def _link_words(link: LinkView) -> str:
    job = f"job {link.job.slurm_job_id}" if link.job.slurm_job_id else "job unknown"
    return f"({job}) {link.words}"


def _teacher_line(evaluation: MetricsLine) -> Text:
    entropy = evaluation.get("eval/teacher_ce")
    perplexity = math.exp(entropy) if entropy is not None and entropy < 100 else None
    return _table_line("BF16 teacher", ("0", format_loss(entropy), format_loss(perplexity), "100 %"))


def _evaluation_line(label: str, line: MetricsLine, style: str = "") -> Text:
    losses = (format_loss(line.get(key)) for key in ("eval/kl", "eval/ce", "eval/perplexity"))
    return _table_line(label, (*losses, format_fraction(line.get("eval/top1_agreement"))), style)


def _table_line(label: str, values: tuple[str, ...], style: str = "") -> Text:
    text = Text(f"{label:<{_LABEL_WIDTH}}", "dim", no_wrap=True)
    for value in values:
        text.append(f"{value:>{_NUMBER_WIDTH}}", f"{style} not dim" if style != "dim" else style)
    return text


def _milliseconds(value: Number) -> str:
    if value is None or value < 10_000:
        return MISSING if value is None else f"{value:.0f} ms"
    return format_duration(value / 1000)


def _gibibytes(value: Number) -> str:
    return MISSING if value is None else f"{value:.1f} GiB"
