"""What is asked before jobs are changed: the question, the facts below it, and the choices.

Owns the words. Nothing is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qad_core.slurm.queue_actions import Action, saves_first
from qad_core.slurm.queue_view import RunOfJob, short_state
from qad_core.slurm.records import QueueEntry
from qad_tui.formats import short_run_name
from qad_tui.screens.confirm import Choice

JOBS, CHAIN = "jobs", "chain"
"""Keys of the choices: the jobs alone, or the whole chain."""
Question = tuple[str, Sequence[str], Sequence[Choice]]
MOST_NAMED = 8
_NOTES: dict[Action, str] = {
    "cancel": "They end; what runs is lost back to its last save.",
    "hold": "They do not start until they are released; one that runs goes on, and is held once it is requeued.",
    "release": "They may start.",
    "requeue": "They end without a save and start again from their last checkpoint, in two minutes at the soonest.",
}


def ask_about_jobs(action: Action, jobs: Sequence[QueueEntry], name_of: Callable[[QueueEntry], str]) -> Question:
    """A question about some jobs."""
    count = f"{len(jobs)} jobs" if len(jobs) > 1 else f"job {jobs[0].job_id}"
    facts = [f"{entry.job_id:>8}  {short_state(entry)}  {name_of(entry)}" for entry in jobs[:MOST_NAMED]]
    facts += [f"… and {len(jobs) - MOST_NAMED} more"] if len(jobs) > MOST_NAMED else []
    saving = sum(saves_first(entry) for entry in jobs)
    if action == "cancel" and saving:
        facts += [f"{'It saves' if len(jobs) == 1 else f'{saving} of them save'} first."]
    note = _NOTES[action] if not (action == "cancel" and saving == len(jobs)) else ""
    if len(jobs) == 1:
        note = note.replace("They end", "It ends").replace("They do", "It does").replace("They may", "It may")
        note = note.replace("they are", "it is").replace("start again from their", "starts again from its")
    return f"{action.capitalize()} {count}?", facts, [Choice(JOBS, f"Yes, {action} {count}", note)]


def ask_about_chain(entry: QueueEntry, run: RunOfJob, live: Sequence[str]) -> Question:
    """A question about a link: it alone, or all that is left of its chain. `live` are the ids of the latter."""
    place = f"link {run.job.link} of {run.job.links}" if run.job.links else "a link"
    facts = [short_run_name(run.path.name), f"job {entry.job_id} is {place}, {short_state(entry)}"]
    return f"Cancel job {entry.job_id}?", facts, chain_choices(entry.job_id, live, saves=saves_first(entry))


def chain_choices(job_id: str, live: Sequence[str], *, saves: bool) -> list[Choice]:
    """A link alone, and the whole chain, where that is more."""
    others = [other for other in live if other != job_id]
    alone = "It saves first." if saves else "It has not begun: nothing is lost."
    if others:
        alone += " The chain goes on with the next link."
    choices = [Choice(JOBS, "This job only", alone)]
    if others:
        links = f"{len(live)} links"
        choices.append(Choice(CHAIN, f"The whole chain ({links}), saves first", "Nothing of the run is left queued."))
    return choices
