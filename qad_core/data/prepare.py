"""One dataset made ready for training: its sources to token files, a datablend and a manifest.

Owns the order of the steps, and when tokens that are there already are good enough. The folder
appears whole or not at all; a preparation that was stopped, by an error too, goes on where it was.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from qad_core.config.schema import DatasetConfig, SourceConfig, WeightedSource
from qad_core.data.blend import SPLITS, Blend, BlendEntry, Split, loss_mask_prefix, write_blend
from qad_core.data.documents import DOCUMENT
from qad_core.data.fast_encoder import Encoder, ReferenceEncoder, choose_encoder
from qad_core.data.hub import HUB_SCHEMES
from qad_core.data.manifest import (
    Inputs,
    Manifest,
    SourceCounts,
    SplitCounts,
    describe_inputs,
    installed_versions,
    read_manifest,
    unit_key,
    work_key,
    write_manifest,
)
from qad_core.data.partial_folder import (
    clear_finished_work,
    clear_other_work,
    finish_work,
    hold_work,
    own_path,
    work_path,
)
from qad_core.data.render import render_probe
from qad_core.data.sources import Unit, check_copies, list_units
from qad_core.data.split import check_fractions, find_repeats, split_documents
from qad_core.data.split_writer import SplitWriter, token_prefix
from qad_core.data.token_file import check_token_file, token_dtype
from qad_core.data.unit_maker import (
    BAD_RECORDS_TOLD,
    UnitCounts,
    UnitFiles,
    UnitMaker,
    too_many_bad_records,
)
from qad_core.data.unit_pool import available_processes, make_units
from qad_core.errors import DataError
from qad_core.models.tokenizer import Tokenizer

UNITS_FOR_FAST_ENCODER = 4
"""From so many units on, finding out whether tiktoken may be used takes less than it saves."""
MASK_DTYPE = np.dtype(np.uint8)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class PreparedDataset:
    """A datablend that is there, and what its splits hold."""

    blend_path: Path
    manifest: Manifest
    reused: bool
    """Whether the tokens were there already and still fit their inputs."""

    @property
    def counts(self) -> dict[Split, SplitCounts]:
        """Documents, tokens and characters of each split, over all sources."""
        return {split: self.manifest.split(split) for split in SPLITS}


def prepare_dataset(
    dataset: DatasetConfig,
    tokenizer: Tokenizer,
    out_dir: Path,
    *,
    processes: int | None = None,
    tell: Tell = lambda line: None,
) -> PreparedDataset:
    """Prepare the dataset's sources into `out_dir/datablend_<name>.json`, or find it prepared already.

    `processes` work at once (null: as many as there are cores); `tell` gets lines to print: how far it
    is, bad records, waits. Equal settings and sources give equal files, on any number of processes.
    Raises `DataError` for a source that cannot be read, and with the numbers for one too small;
    OutsideError where the hub does not answer.
    """
    if not dataset.named_sources:
        raise DataError(
            f"dataset {dataset.name} has no source to prepare from",
            "Set dataset.source, or dataset.blend to a datablend.",
        )
    check_fractions(dataset)
    check_copies(dataset.named_sources)
    inputs = describe_inputs(dataset, tokenizer)
    work = work_path(out_dir.parent, f"{dataset.name}-{work_key(inputs)}")
    found = _find_prepared(dataset, inputs, out_dir)
    if found is not None:
        clear_finished_work(work, out_dir, tell)
        return found
    _check_tokenizer(dataset, tokenizer)
    with hold_work(work, tell):
        found = _find_prepared(dataset, inputs, out_dir)  # made by the process that was waited for
        if found is None:
            _Preparation(dataset, inputs, tokenizer, work, processes or available_processes(), tell).run(out_dir)
    manifest = read_manifest(out_dir)
    assert manifest is not None
    return found or PreparedDataset(_blend_path(dataset, out_dir), manifest, reused=False)


@dataclass
class _Preparation:
    dataset: DatasetConfig
    inputs: Inputs
    tokenizer: Tokenizer
    work: Path
    processes: int
    tell: Tell
    done: dict[Unit, UnitCounts] = field(default_factory=dict[Unit, UnitCounts])
    bad_records: Counter[str] = field(default_factory=Counter[str])

    def run(self, out_dir: Path) -> None:
        start = time.monotonic()
        units = self._list_units()
        self._make_units(units)
        sources = self._write_splits(units)
        _check_splits(self.dataset, sources)
        manifest = Manifest(
            inputs=self.inputs,
            sources=sources,
            versions=installed_versions(),
            seconds=round(time.monotonic() - start, 3),
        )
        write_manifest(self._out, manifest)
        write_blend(_blend_path(self.dataset, self._out), self._make_blend(sources))
        finish_work(self.work, self._out, out_dir)

    @property
    def _units_folder(self) -> Path:
        return self.work / "units"

    @property
    def _out(self) -> Path:
        return own_path(self.work / "out")

    @property
    def _token_dtype(self) -> np.dtype:
        return token_dtype(self.tokenizer.vocab_size)

    def _list_units(self) -> dict[str, list[Unit]]:
        """Units of each source; the work folder holds those that are done, and none of another preparation."""
        seed = self.dataset.split_seed
        units = {
            name: list_units(name, source, seed=seed, tell=self.tell)
            for name, source in self.dataset.named_sources.items()
        }
        clear_other_work(self.work, unit_key(self.inputs, _all_units(units)))
        self._units_folder.mkdir(exist_ok=True)
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()
        return units

    def _make_units(self, units: Mapping[str, Sequence[Unit]]) -> None:
        missing: list[Unit] = []
        masked = self.dataset.answer_loss_only
        for unit in _all_units(units):
            counts = UnitFiles(self._units_folder, unit).read_counts(self._token_dtype, masked=masked)
            if counts is None:
                missing.append(unit)
            else:
                self._take(unit, counts)
        if self.done:
            self.tell(f"  going on: {len(self.done):,} of {len(self.done) + len(missing):,} pieces are there")
        template = self.tokenizer.apply_chat_template
        maker = UnitMaker(
            folder=self._units_folder,
            sources=self.dataset.named_sources,
            encoder=_encoder_for(missing, self.tokenizer),
            apply_chat_template=template,
            open_answer=partial(template, add_generation_prompt=True) if masked else None,
            eod_id=self.tokenizer.eod_id if self.dataset.append_eod else None,
            token_dtype=self._token_dtype,
            digest_seed=self.dataset.split_seed,
        )
        make_units(missing, maker, processes=self.processes, tell=self.tell, on_counts=self._take)

    def _take(self, unit: Unit, counts: UnitCounts) -> None:
        """Note a unit that is done; raise `DataError` when its source has too many bad records in all."""
        self.done[unit] = counts
        source = self.dataset.named_sources[unit.source]
        self.bad_records[unit.source] += counts.bad_records
        if self.bad_records[unit.source] > source.max_bad_records:
            raise too_many_bad_records((counts.bad_examples or ["a piece made before"])[-1], "", source)

    def _write_splits(self, units: Mapping[str, Sequence[Unit]]) -> dict[str, SourceCounts]:
        """Token files of every source and split, in the order of the units, without repeated documents."""
        order = _all_units(units)
        tables = self._join_tables(order)
        repeats = dict(zip(order, find_repeats(list(tables.values())), strict=True))
        sources: dict[str, SourceCounts] = {}
        for name, of_source in units.items():
            assigned = split_documents(
                [tables[unit] for unit in of_source], [repeats[unit] for unit in of_source], self.dataset
            )
            prefixes: dict[Split, Path] = {split: token_prefix(self._out, name, split) for split in SPLITS}
            writer = SplitWriter(prefixes, self._token_dtype)
            masks = SplitWriter({split: loss_mask_prefix(prefix) for split, prefix in prefixes.items()}, MASK_DTYPE)
            for unit, splits in zip(of_source, assigned, strict=True):
                files = UnitFiles(self._units_folder, unit)
                writer.add_unit(files.tokens, tables[unit], splits)
                if self.dataset.answer_loss_only:
                    masks.add_unit(files.loss_mask, tables[unit], splits)
            masks.close()
            duplicates = sum(int(repeats[unit].sum()) for unit in of_source)
            sources[name] = self._count_source(name, of_source, writer.close(), duplicates)
        return sources

    def _join_tables(self, units: Sequence[Unit]) -> dict[Unit, np.ndarray]:
        """Each unit's table of documents, all from one file: there may be more units than files can be open."""
        path = own_path(self.work / "documents")
        lengths: list[int] = []
        with path.open("wb") as file:
            for unit in units:
                table = np.load(UnitFiles(self._units_folder, unit).table)
                file.write(table.tobytes())
                lengths.append(len(table))
        joined = np.memmap(path, dtype=DOCUMENT, mode="r") if sum(lengths) else np.zeros(0, dtype=DOCUMENT)
        ends = np.cumsum(lengths, dtype=np.int64)
        return {unit: joined[end - length : end] for unit, length, end in zip(units, lengths, ends, strict=True)}

    def _count_source(
        self, name: str, units: Sequence[Unit], splits: dict[Split, SplitCounts], duplicates: int
    ) -> SourceCounts:
        counts = [self.done[unit] for unit in units]
        return SourceCounts(
            splits=splits,
            read_from=_read_from(self.dataset.named_sources[name], units),
            records=sum(unit.records for unit in counts),
            left_out=sum(unit.left_out for unit in counts),
            bad_records=sum(unit.bad_records for unit in counts),
            bad_examples=tuple(example for unit in counts for example in unit.bad_examples)[:BAD_RECORDS_TOLD],
            duplicate_documents=duplicates,
            empty_documents=sum(unit.empty_documents for unit in counts),
        )

    def _make_blend(self, sources: Mapping[str, SourceCounts]) -> Blend:
        """Every source that has documents in a split, by its weight."""
        entries = {
            split: tuple(
                BlendEntry(_weight(self.dataset.named_sources[name]), token_prefix(self._out, name, split))
                for name, counts in sources.items()
                if counts.splits[split].documents
            )
            for split in SPLITS
        }
        return Blend(**entries)


def _find_prepared(dataset: DatasetConfig, inputs: Inputs, out_dir: Path) -> PreparedDataset | None:
    """What is prepared already, when it was made from these inputs and is whole."""
    manifest = read_manifest(out_dir)
    blend_path = _blend_path(dataset, out_dir)
    if manifest is None or not manifest.inputs.fit(inputs) or not blend_path.exists():
        return None
    try:
        is_whole = all(
            check_token_file(token_prefix(out_dir, name, split)).tokens == counts.tokens
            for name, source in manifest.sources.items()
            for split, counts in source.splits.items()
            if counts.documents
        )
    except (DataError, FileNotFoundError):
        is_whole = False
    return PreparedDataset(blend_path, manifest, reused=True) if is_whole else None


def _check_tokenizer(dataset: DatasetConfig, tokenizer: Tokenizer) -> None:
    of_text = [name for name, source in dataset.named_sources.items() if source.kind not in ("jsonl", "hub")]
    if dataset.answer_loss_only and of_text:
        raise DataError(
            f"answer_loss_only asks for answers, and {', '.join(of_text)} is plain text", "Set it to false."
        )
    if dataset.append_eod and tokenizer.eod_id is None:
        raise DataError("the tokenizer has no end-of-document token", "Set dataset.append_eod to false.")
    if any(source.kind == "hub" and source.template == "chat" for source in dataset.named_sources.values()):
        render_probe(tokenizer.apply_chat_template)


def _check_splits(dataset: DatasetConfig, sources: Mapping[str, SourceCounts]) -> None:
    wanted = {"train": 1.0, "valid": dataset.valid_fraction, "test": dataset.test_fraction}
    for name, source in sources.items():
        empty = [split for split in SPLITS if wanted[split] > 0 and source.splits[split].documents == 0]
        if empty:
            held = ", ".join(f"{split} {source.splits[split].documents}" for split in SPLITS)
            what = f"dataset {dataset.name}" if name == dataset.name else f"source {name} of dataset {dataset.name}"
            raise DataError(
                f"{what} is too small: no document fell to {' and '.join(empty)} (documents: {held})",
                "Documents are split whole: give more of them, raise valid_fraction and test_fraction, "
                "or set one to 0.",
            )


def _encoder_for(units: Sequence[Unit], tokenizer: Tokenizer) -> Encoder:
    of_hub = any(piece.place.startswith(HUB_SCHEMES) for unit in units for piece in unit.pieces)
    is_large = of_hub or len(units) >= UNITS_FOR_FAST_ENCODER
    return choose_encoder(tokenizer) if is_large else ReferenceEncoder(tokenizer)


def _all_units(units: Mapping[str, Sequence[Unit]]) -> list[Unit]:
    return [unit for of_source in units.values() for unit in of_source]


def _read_from(source: SourceConfig, units: Sequence[Unit]) -> tuple[str, ...]:
    """The config's own paths; of the hub, the repository and revision that the URLs of its files begin with."""
    if source.kind != "hub" or source.paths:
        return source.paths or (source.kind,)
    urls = [piece.place for unit in units for piece in unit.pieces]
    return tuple(sorted({"/".join(url.split("/")[:5]) for url in urls}))


def _weight(source: SourceConfig) -> float:
    return source.weight if isinstance(source, WeightedSource) else 1.0


def _blend_path(dataset: DatasetConfig, folder: Path) -> Path:
    return folder / f"datablend_{dataset.name}.json"
