"""SLURM's own word on a job before it is submitted: whether it would take it. No Textual; called in a thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from qad_core.config.problem_keys import keys_of_problem
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.errors import QadError
from qad_core.launch.draft import Draft, DraftProblem
from qad_core.launch.trial import find_refusal
from qad_core.slurm.client import SlurmClient
from qad_tui.form_model import FormModel


@dataclass(frozen=True)
class SlurmWord:
    """What `sbatch --test-only` said of a form."""

    form: FormModel
    """What it was asked about."""
    refusal: Problem | None = None
    silence: str = ""
    """Why it could not be asked; empty where it answered."""
    pending: bool = False
    """Whether it is being asked."""


def ask_slurm(client: SlurmClient, form: FormModel, config: RunConfig) -> SlurmWord:
    """Ask now; nothing is submitted."""
    try:
        return SlurmWord(form, find_refusal(client, config, Path.cwd()))
    except QadError as error:
        return SlurmWord(form, silence=f"{error.message} {error.hint}".strip())


def with_refusal(draft: Draft, form: FormModel, word: SlurmWord | None) -> Draft:
    """A draft with SLURM's refusal of this very form among its problems."""
    if word is None or word.refusal is None or word.form != form:
        return draft
    refused = DraftProblem(word.refusal, keys_of_problem(word.refusal))
    return replace(draft, problems=(*draft.problems, refused))
