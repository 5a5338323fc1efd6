"""The rows of the form of a new run: which fields are shown, in which group, with which value and which problem.

Pure functions of the form, of what is known of it, and of what is folded away. No Textual.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.catalog import BLANK, EXPERIMENT, CatalogEntry
from qad_core.config.fields import FIELDS
from qad_core.config.library import PART_FOLDERS
from qad_core.config.problems import Problem
from qad_core.launch.draft import Draft, DraftProblem
from qad_tui.form_model import FRESH, FormModel

MAIN = "main"
"""Key of the group that is never closed: what people choose first."""
MAIN_KEYS = (
    EXPERIMENT,
    *PART_FOLDERS,
    "loss",
    "tag",
    "train.micro_batch_size",
    "train.global_batch_size",
    "train.sequence_length",
    "train.train_samples",
    "train.learning_rate",
    "parallelism.tensor_model_parallel_size",
    "parallelism.pipeline_model_parallel_size",
    "cluster.nodes",
    "cluster.processes_per_node",
    "cluster.slurm.time_limit",
    FRESH,
)
FRESH_WORDS = "Whether an older run in the folder is moved aside, and this one starts from its beginning."
PICKED = (EXPERIMENT, *PART_FOLDERS)
"""Keys whose value is picked from the files of configs/."""
Catalog = Mapping[str, Sequence[CatalogEntry]]


@dataclass(frozen=True)
class Row:
    """One row; a group's head has no value."""

    key: str
    """Dotted key of a field; a group's key for its head."""
    name: str
    """What stands on the left."""
    is_group: bool = False
    is_open: bool = True
    """Of a group: whether all of its fields are shown."""
    value: str = ""
    note: str = ""
    """Where the value comes from, or what a part is."""
    changed: bool = False
    wrong: bool = False
    """Whether a problem is about this field, told here or beside another."""
    problems: tuple[Problem, ...] = ()
    """Those that are told here."""


def form_rows(form: FormModel, draft: Draft, catalog: Catalog, opened: Collection[str], search: str = "") -> list[Row]:
    """All rows. A closed group shows the fields that are changed or wrong; a search shows those that it finds."""
    told = problems_by_key(form, draft.problems)
    wrong = {key for item in draft.problems for key in item.keys}
    rows: list[Row] = []
    for group, keys in group_keys().items():
        fields = [_field(key, group, form, draft, catalog, told, wrong) for key in keys]
        is_open = group == MAIN or group in opened or bool(search)
        if search:
            shown = [row for row in fields if _matches(row, search)]
        else:
            shown = fields if is_open else [row for row in fields if row.changed or row.problems]
        if group != MAIN and (shown or not search):
            rows.append(_head(group, fields, is_open))
        rows += shown
    return rows


def group_keys() -> dict[str, list[str]]:
    """Group -> keys of its fields: the main ones, then the other fields by section."""
    groups: dict[str, list[str]] = {MAIN: list(MAIN_KEYS)}
    for key, known in FIELDS.items():
        is_row = known.section is None or (known.optional and key not in PART_FOLDERS)
        if is_row and key not in MAIN_KEYS:
            groups.setdefault(_group_of(key), []).append(key)
    return groups


def group_of(key: str) -> str:
    """The group that a field is in."""
    return MAIN if key in MAIN_KEYS else _group_of(key)


def problems_by_key(form: FormModel, problems: Sequence[DraftProblem]) -> dict[str, list[Problem]]:
    """Where each problem is told: beside its first key that was changed, else beside its first."""
    told: dict[str, list[Problem]] = {}
    for item in problems:
        keys = [_row_key(key) for key in item.keys]
        changed = [key for key in keys if form.is_changed(key)]
        for key in (changed or keys)[:1]:
            told.setdefault(key, []).append(item.problem)
    return told


def place_of(form: FormModel, item: DraftProblem) -> str | None:
    """The key of the field that a problem is told beside; None where there is none."""
    return next(iter(problems_by_key(form, [item])), None)


def describe(key: str) -> str:
    """A field's doc line."""
    if key == EXPERIMENT:
        return "What the run starts from; another one drops all changes."
    if key == FRESH:
        return FRESH_WORDS
    if key in PART_FOLDERS:
        return f"{FIELDS[key].description} One of configs/{PART_FOLDERS[key]}."
    return FIELDS[key].description


def value_of(key: str, form: FormModel, draft: Draft) -> str:
    """The text that a field has now."""
    if key == EXPERIMENT:
        return form.experiment
    if key == FRESH:
        return "true" if form.fresh else "false"
    if key in form.changes:
        return form.changes[key]
    if key in PART_FOLDERS:
        return draft.parts.get(key, "")
    return draft.values[key].text if key in draft.values else ""


def base_of(key: str, draft: Draft) -> str | None:
    """The text that a field has without its change; None where it has none."""
    return draft.values[key].text if key in draft.values else None


def short_origin(origin: str) -> str:
    """Where a value comes from, for a narrow column: `models/tiny.yaml`, `$LR`, `default`."""
    kind, _, name = origin.partition(" ")
    if kind == "file":
        return "/".join(Path(name).parts[-2:])
    return f"${name}" if kind == "environment" else origin


def _row_key(key: str) -> str:
    """A field that has a row: of a section that has none, the experiment."""
    known = FIELDS[key]
    return key if known.section is None or known.optional or key in PART_FOLDERS else EXPERIMENT


def _group_of(key: str) -> str:
    """`train`, or `cluster.slurm` for a section in a section; loose fields are the run's."""
    section = key.rpartition(".")[0]
    if FIELDS[key].section is not None:
        return key
    return section or "run"


def _field(
    key: str,
    group: str,
    form: FormModel,
    draft: Draft,
    catalog: Catalog,
    told: Mapping[str, Sequence[Problem]],
    wrong: Collection[str],
) -> Row:
    changed = form.is_changed(key)
    return Row(
        key=key,
        name=key.rpartition(".")[2] if group == MAIN else key.removeprefix(f"{group}."),
        value=_shown_value(key, form, draft),
        note=_note(key, form, draft, catalog, changed=changed),
        changed=changed,
        wrong=key in wrong or key in told,
        problems=tuple(told.get(key, ())),
    )


def _shown_value(key: str, form: FormModel, draft: Draft) -> str:
    value = value_of(key, form, draft)
    if key == EXPERIMENT:
        return f"clone of {form.clone_of}" if form.clone_of else "none" if value == BLANK else value
    if key == FRESH:
        return "yes" if form.fresh else "no"
    if FIELDS[key].section is not None and key not in PART_FOLDERS and not value:
        return "as below" if any(other.startswith(f"{key}.") for other in (*draft.values, *form.changes)) else "null"
    return value


def _note(key: str, form: FormModel, draft: Draft, catalog: Catalog, *, changed: bool) -> str:
    if key in PICKED:
        value = value_of(key, form, draft)
        if key == EXPERIMENT and (form.clone_of or value == BLANK):
            return "" if form.clone_of else "pick one, or parts of your own below"
        if not value:
            if _has_values(key, draft):
                return "set below"
            return "the defaults, or pick one" if FIELDS[key].has_default else "pick one"
        return next((entry.description for entry in catalog.get(key, ()) if entry.name == value), "")
    if key == FRESH:
        return "the older run is moved aside" if form.fresh else ""
    base = draft.values.get(key)
    if changed:
        return f"was {base.text or 'empty'}, {_origin(base.origin, form)}" if base else "was not set"
    return _origin(base.origin, form) if base else ""


def _origin(origin: str, form: FormModel) -> str:
    """Where a value comes from; what the cloned run has is not said by that run's long name on every line."""
    is_clones = bool(form.clone_of) and Path(origin).parent.name == form.clone_of
    return "as cloned" if is_clones else short_origin(origin)


def _has_values(section: str, draft: Draft) -> bool:
    return any(key.startswith(f"{section}.") and shown.origin != "default" for key, shown in draft.values.items())


def _head(group: str, fields: Sequence[Row], is_open: bool) -> Row:
    counts = list(_counts(fields))
    return Row(
        group, group, is_group=True, is_open=is_open, note=" · ".join(counts), wrong=any(row.problems for row in fields)
    )


def _counts(fields: Sequence[Row]) -> Iterator[str]:
    changed, wrong = sum(row.changed for row in fields), sum(len(row.problems) for row in fields)
    yield f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
    if changed:
        yield f"{changed} changed"
    if wrong:
        yield f"{wrong} problem{'s' if wrong > 1 else ''}"


def _matches(row: Row, search: str) -> bool:
    words = search.lower().split()
    text = f"{row.key} {row.value} {describe(row.key)}".lower()
    return all(word in text for word in words)
