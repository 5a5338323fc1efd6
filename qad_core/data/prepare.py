"""One dataset made ready for training: its source to token files, a datablend and a manifest.

Owns the order of the steps, and when tokens that are there already are good enough. The folder
appears whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.schema import DatasetConfig, SourceConfig
from qad_core.data.blend import SPLITS, Blend, BlendEntry, Split, token_file_pair, write_blend
from qad_core.data.manifest import (
    Inputs,
    Manifest,
    SplitCounts,
    describe_inputs,
    hash_file,
    installed_versions,
    read_manifest,
    write_manifest,
)
from qad_core.data.partial_folder import partial_folder
from qad_core.data.sources import read_documents
from qad_core.data.split import DocumentSplitter
from qad_core.data.token_file import TokenFileWriter, check_token_file
from qad_core.data.tokenize import TokenizedDocument, available_processes, tokenize_documents
from qad_core.errors import DataError
from qad_core.models.tokenizer import Tokenizer

SECONDS_BETWEEN_REPORTS = 2.0
Counts = dict[Split, SplitCounts]


@dataclass(frozen=True)
class PreparedDataset:
    """A datablend that is there, and what its splits hold."""

    blend_path: Path
    manifest: Manifest
    reused: bool
    """Whether the tokens were there already and still fit their inputs."""

    @property
    def counts(self) -> Counts:
        """Documents, tokens and characters of each split."""
        return self.manifest.splits


def prepare_dataset(
    dataset: DatasetConfig,
    tokenizer: Tokenizer,
    out_dir: Path,
    *,
    processes: int | None = None,
    report: Callable[[Counts], None] | None = None,
) -> PreparedDataset:
    """Prepare `dataset.source` into `out_dir/datablend_<name>.json`, or find it prepared already.

    `processes` tokenize at once (null: as many as there are cores); `report` is called every two
    seconds with what is written so far. Equal settings and sources give equal files.
    Raises `DataError` for a source that cannot be read, and with the numbers for one too small.
    """
    if dataset.source is None:
        raise DataError(
            f"dataset {dataset.name} has no source to prepare from",
            "Set dataset.source, or dataset.blend to a datablend.",
        )
    blend_path = out_dir / f"datablend_{dataset.name}.json"
    inputs = describe_inputs(dataset, dataset.source, tokenizer)
    found = read_manifest(out_dir)
    if found is not None and found.inputs == inputs and blend_path.exists() and _tokens_are_whole(out_dir, found):
        return PreparedDataset(blend_path, found, reused=True)
    with partial_folder(out_dir) as folder:
        manifest = _write_dataset(dataset, dataset.source, inputs, tokenizer, folder, processes, report)
    return PreparedDataset(blend_path, manifest, reused=False)


def token_prefix(folder: Path, dataset_name: str, split: Split) -> Path:
    """Prefix of a split's token files, ending as Megatron's preprocessing ends it."""
    return folder / f"{dataset_name}_{split}_text_document"


def _write_dataset(
    dataset: DatasetConfig,
    source: SourceConfig,
    inputs: Inputs,
    tokenizer: Tokenizer,
    folder: Path,
    processes: int | None,
    report: Callable[[Counts], None] | None,
) -> Manifest:
    start = time.monotonic()
    texts = read_documents(source, seed=dataset.split_seed, apply_chat_template=tokenizer.apply_chat_template)
    splitter = DocumentSplitter(dataset)
    tokenized = tokenize_documents(
        splitter.split_documents(texts),
        tokenizer,
        append_eod=dataset.append_eod,
        processes=processes or available_processes(),
    )
    prefixes: dict[Split, Path] = {split: token_prefix(folder, dataset.name, split) for split in SPLITS}
    counts = _write_token_files(tokenized, prefixes, tokenizer.vocab_size, report)
    _check_splits(dataset, counts)
    entries = {split: (BlendEntry(1.0, prefixes[split]),) if counts[split].documents else () for split in SPLITS}
    manifest = Manifest(
        inputs=inputs,
        splits={split: _add_hashes(prefixes[split], counts[split]) for split in SPLITS},
        duplicate_documents=splitter.duplicate_documents,
        empty_documents=splitter.empty_documents,
        versions=installed_versions(),
        seconds=round(time.monotonic() - start, 3),
    )
    write_manifest(folder, manifest)
    write_blend(folder / f"datablend_{dataset.name}.json", Blend(**entries))
    return manifest


def _write_token_files(
    documents: Iterable[TokenizedDocument],
    prefixes: dict[Split, Path],
    vocab_size: int,
    report: Callable[[Counts], None] | None,
) -> Counts:
    """Write each split's documents in their order; a split without documents leaves no files."""
    writers: dict[Split, TokenFileWriter] = {}
    characters: dict[Split, int] = dict.fromkeys(prefixes, 0)

    def count() -> Counts:
        return {
            split: SplitCounts(documents=writer.documents, tokens=writer.tokens, characters=characters[split])
            for split, writer in writers.items()
        }

    last_report = time.monotonic()
    for document in documents:
        split = document.split
        if split not in writers:
            writers[split] = TokenFileWriter(prefixes[split], vocab_size)
        writers[split].add_document(document.token_ids)
        characters[split] += document.characters
        if report is not None and time.monotonic() - last_report > SECONDS_BETWEEN_REPORTS:
            report(count())
            last_report = time.monotonic()
    for writer in writers.values():
        writer.close()
    empty: Counts = {split: SplitCounts() for split in prefixes}
    return empty | count()


def _check_splits(dataset: DatasetConfig, counts: Counts) -> None:
    wanted = {"train": 1.0, "valid": dataset.valid_fraction, "test": dataset.test_fraction}
    empty = [split for split in SPLITS if wanted[split] > 0 and counts[split].documents == 0]
    if empty:
        held = ", ".join(f"{split} {counts[split].documents}" for split in SPLITS)
        raise DataError(
            f"dataset {dataset.name} is too small: no document fell to {' and '.join(empty)} (documents: {held})",
            "Documents are split whole: give more of them, raise valid_fraction and test_fraction, or set one to 0.",
        )


def _add_hashes(prefix: Path, counts: SplitCounts) -> SplitCounts:
    if counts.documents == 0:
        return counts
    bin_path, idx_path = token_file_pair(prefix)
    return counts.model_copy(update={"bin_sha256": hash_file(bin_path), "idx_sha256": hash_file(idx_path)})


def _tokens_are_whole(folder: Path, manifest: Manifest) -> bool:
    name = str(manifest.inputs.dataset["name"])
    try:
        return all(
            check_token_file(token_prefix(folder, name, split)).tokens == counts.tokens
            for split, counts in manifest.splits.items()
            if counts.documents
        )
    except (DataError, FileNotFoundError):
        return False
