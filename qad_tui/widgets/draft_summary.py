"""What a run would come to, in a few lines: name and folder, ranks, GPUs, batches, steps, hours, SLURM's word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text
from textual.widgets import Static

from qad_core.config.catalog import BLANK
from qad_core.config.compose import COMMAND_LINE
from qad_core.config.forecast import Forecast, memory_notes
from qad_core.config.forecast_words import cost_words, memory_words
from qad_core.config.schema import RunConfig
from qad_core.launch.draft import Draft
from qad_core.launch.draft_numbers import DraftNumbers
from qad_tui.form_model import FormModel
from qad_tui.formats import format_duration, format_rate, short_run_name
from qad_tui.slurm_word import SlurmWord

_NAME_WIDTH = 10


class DraftSummary(Static):
    """Redrawn only when its words changed."""

    def __init__(self) -> None:
        super().__init__("", id="summary")
        self._shown = Text()

    def show(self, form: FormModel, draft: Draft, word: SlurmWord | None) -> None:
        """Show what a form comes to."""
        text = describe_draft(form, draft, word)
        if text != self._shown:
            self._shown = text
            self.update(text)


def describe_draft(form: FormModel, draft: Draft, word: SlurmWord | None) -> Text:
    """The lines."""
    config, numbers = draft.config, draft.numbers
    if config is None or numbers is None:
        return Text("Pick a model and a dataset, or an experiment to start from: enter on a line of the form.", "dim")
    lines = [Text(numbers.run_name, "bold"), _fact("folder", *_folder_words(form, numbers))]
    awaited = refused_fields(draft)
    if awaited:  # what is counted or predicted now is of the values that stand in for theirs
        lines.append(_fact("forecast", f"waits for {', '.join(awaited)}", "yellow"))
    else:
        lines += _facts(config, numbers)
        lines += _forecast_facts(draft.forecast) if draft.forecast is not None else ()
    if config.cluster.kind == "slurm":
        lines.append(_fact("SLURM", *slurm_words(form, word)))
    left_out = memory_notes(draft.forecast) if awaited else []
    lines += [Text(f"note: {note.what}", "yellow") for note in draft.notes if note not in left_out]
    return Text("\n").join(lines)


def headline(form: FormModel, draft: Draft, *, checking: bool) -> Text:
    """One line over the form: from what, how much is changed, what is wrong, what it takes."""
    start = (
        f"clone of {short_run_name(form.clone_of)}"
        if form.clone_of
        else "a new run"
        if form.experiment == BLANK
        else form.experiment
    )
    text = Text(f" {start}", "bold")
    if form.changes or form.fresh:
        text.append(f" · {len(form.changes) + form.fresh} changed", "yellow")
    text.append_text(problem_words(len(draft.problems), checking=checking))
    if draft.numbers is not None and not refused_fields(draft):
        numbers = draft.numbers
        text.append(f" · {_gpu_words(numbers)} · {numbers.iterations:,} steps", "dim")
    return text


def refused_fields(draft: Draft) -> list[str]:
    """Keys whose typed value cannot be taken, so that another stands in for it: text in a field of numbers."""
    written = (item for item in draft.problems if item.problem.where.startswith(f"{COMMAND_LINE}: "))
    return list(dict.fromkeys(key for item in written for key in item.keys))


def problem_words(count: int, *, checking: bool) -> Text:
    """How many problems there are; that they are being looked for while a check runs."""
    if checking:
        return Text(" · checking …", "dim")
    if not count:
        return Text(" · ✓ no problem", "green")
    return Text(f" · ✗ {count} problem{'s' if count > 1 else ''}", "bold red")


def near_path(path: Path) -> str:
    """The path from the working directory, where it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _facts(config: RunConfig, numbers: DraftNumbers) -> Iterator[Text]:
    layout = config.parallelism
    sizes = (
        ("TP", layout.tensor_model_parallel_size),
        ("PP", layout.pipeline_model_parallel_size),
        ("CP", layout.context_parallel_size),
    )
    split = " x ".join(f"{name} {size}" for name, size in (*sizes, ("DP", numbers.data_parallel_size)) if size > 1)
    nodes = f"{config.cluster.nodes} x {config.cluster.processes_per_node}"
    yield _fact("ranks", f"{numbers.ranks} = {nodes}" + (f" · {split}" if split else ""))
    yield _fact("GPUs", _gpu_words(numbers))
    train = config.train
    each = (
        f"{numbers.micro_batches} micro batch{'es' if numbers.micro_batches != 1 else ''} of {train.micro_batch_size}"
    )
    yield _fact("batch", f"{train.global_batch_size} x {train.sequence_length:,} tokens · {each} a rank")
    yield _fact("steps", f"{numbers.iterations:,} · {format_rate(numbers.tokens)} tokens")
    if numbers.time_limit_seconds is not None:
        yield _fact("walltime", _walltime_words(config, numbers))
        yield _fact("links", _links_words(numbers))


def _forecast_facts(forecast: Forecast) -> Iterator[Text]:
    style = {"too large": "bold red", "tight": "yellow"}.get(forecast.verdict, "")
    yield _fact("memory", memory_words(forecast), style)
    yield _fact("time", cost_words(forecast.cost))


def _folder_words(form: FormModel, numbers: DraftNumbers) -> tuple[str, str]:
    folder = near_path(numbers.run_folder.parent)
    if not numbers.folder_is_there:
        return f"new, in {folder}", ""
    if form.fresh:
        return f"in {folder}; the older run is moved aside", "yellow"
    if numbers.checkpoint_step is None:
        return f"in {folder}, is there already without a checkpoint", "yellow"
    return f"in {folder}, is there: goes on from step {numbers.checkpoint_step}", "yellow"


def _gpu_words(numbers: DraftNumbers) -> str:
    if numbers.gpus is None:
        return f"up to {numbers.ranks} GPU{'s' if numbers.ranks > 1 else ''}, where there are any"
    return f"{numbers.gpus} GPU{'s' if numbers.gpus != 1 else ''}" if numbers.gpus else "no GPU"


def _walltime_words(config: RunConfig, numbers: DraftNumbers) -> str:
    hours = numbers.gpu_hours(1)
    limit = config.cluster.slurm.time_limit
    return f"{limit} a link" + (f" · at most {hours:,.4g} GPU hours each" if hours else "")


def _links_words(numbers: DraftNumbers) -> str:
    estimate = numbers.estimate
    if estimate is None:
        return "how many are needed is not known: no step has been timed"
    needed = numbers.gpu_hours_needed
    time = f"{format_duration(estimate.hours * 3600)} at {estimate.seconds_per_iteration:.3g} s a step"
    words = f"{estimate.links} needed: {time}"
    cost = f" · {needed:,.4g} GPU hours" if needed else ""
    return words + cost + (f", as {numbers.pace_of} went" if numbers.pace_of != numbers.run_name else "")


def slurm_words(form: FormModel, word: SlurmWord | None) -> tuple[str, str]:
    """What SLURM says, and in which style."""
    if word is None:
        return "not asked yet: a asks whether it takes the job", "dim"
    if word.pending:
        return "is being asked …", "dim"
    if word.form != form:
        return "was asked before the last change: a asks again", "dim"
    if word.silence:
        return f"⚠ {word.silence}", "yellow"
    if word.refusal is not None:
        return f"✗ refuses: {word.refusal.what}" + (f" → {word.refusal.hint}" if word.refusal.hint else ""), "bold red"
    return "✓ takes the job as it stands", "green"


def _fact(name: str, words: str, style: str = "") -> Text:
    return Text.assemble((name.ljust(_NAME_WIDTH), "dim"), (words, style))
