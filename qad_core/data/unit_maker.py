"""One unit of a source to token ids on the disk: read, sample, render, hash, tokenize, write.

Owns the files of a unit: its tokens, a table of its documents, and its counts, which are written last
and make it whole. It knows nothing of other units: repeated documents are dropped later.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from qad_core.config.schema import SourceConfig
from qad_core.data.documents import digest_text, make_table
from qad_core.data.fast_encoder import Encoder
from qad_core.data.partial_folder import own_path
from qad_core.data.render import ChatTemplate, Rendered, render_record
from qad_core.data.sources import Piece, Unit, describe_place, read_piece
from qad_core.errors import DataError

BAD_RECORDS_TOLD = 20
"""So many bad records of a unit are kept word by word; the others are counted."""


class UnitCounts(BaseModel):
    """What became of one unit's records."""

    model_config = ConfigDict(extra="forbid")

    records: int = 0
    """Records read."""
    left_out: int = 0
    """Records that the sample left out."""
    bad_records: int = 0
    """Records that were passed over because they cannot be read or rendered."""
    bad_examples: list[str] = []
    """The first of them: where, and why."""
    empty_documents: int = 0
    """Documents without text that were dropped."""
    documents: int = 0
    """Documents tokenized, repeated ones among them."""
    tokens: int = 0
    """Tokens, with end-of-document tokens."""
    characters: int = 0
    """Characters."""


@dataclass(frozen=True)
class UnitFiles:
    """Where a unit's files are; there when `counts` is."""

    folder: Path
    unit: Unit

    @property
    def tokens(self) -> Path:
        """Token ids, one document after another."""
        return self.folder / f"{self.unit.name}.tokens"

    @property
    def loss_mask(self) -> Path:
        """A byte a token: 1 where the loss counts it, 0 where not; there for masked datasets alone."""
        return self.folder / f"{self.unit.name}.loss_mask"

    @property
    def table(self) -> Path:
        """`documents.DOCUMENT` [documents], as numpy.save writes it."""
        return self.folder / f"{self.unit.name}.npy"

    @property
    def counts(self) -> Path:
        """`UnitCounts` as JSON."""
        return self.folder / f"{self.unit.name}.json"

    def read_counts(self, token_dtype: np.dtype, *, masked: bool) -> UnitCounts | None:
        """The counts of a unit that is whole, else None: a crash can leave files that are shorter than they say."""
        try:
            counts = UnitCounts.model_validate_json(self.counts.read_bytes())
            is_whole = (
                self.tokens.stat().st_size == counts.tokens * token_dtype.itemsize
                and (not masked or self.loss_mask.stat().st_size == counts.tokens)
                and len(np.load(self.table, mmap_mode="r")) == counts.documents
            )
        except (FileNotFoundError, ValueError, EOFError):  # ValueError: not JSON, or not a table
            return None
        return counts if is_whole else None


@dataclass(frozen=True)
class UnitMaker:
    """Everything that a unit's tokens depend on; made once, before the processes are forked."""

    folder: Path
    """Where the units' files go."""
    sources: dict[str, SourceConfig]
    """The dataset's sources by name."""
    encoder: Encoder
    apply_chat_template: ChatTemplate
    open_answer: ChatTemplate | None
    """The chat template up to where the assistant has to speak, where loss masks are made; else None."""
    eod_id: int | None
    """Token that ends each document; None for none."""
    token_dtype: np.dtype
    """Type of a token on the disk."""
    digest_seed: int
    """Seed of the documents' digests."""

    def make(self, unit: Unit, tell: Callable[[str], None], count: Callable[[int, int], None]) -> UnitCounts:
        """Write the unit's files; `count` is called with each document's tokens and characters.

        Raises `DataError` when the unit alone has too many bad records, and what `sources.read_piece` raises.
        """
        counts = UnitCounts()
        files = UnitFiles(self.folder, unit)
        digests: list[bytes] = []
        lengths: list[int] = []
        characters: list[int] = []
        with ExitStack() as stack:
            out = stack.enter_context(own_path(files.tokens).open("wb", buffering=1 << 20))
            masks = stack.enter_context(own_path(files.loss_mask).open("wb")) if self.open_answer is not None else None
            for text, answer_start in self._read_texts(unit, counts, tell):
                token_ids, unmasked_from = self._encode(text, answer_start or 0)
                out.write(token_ids.data)
                if masks is not None:
                    masks.write((np.arange(len(token_ids)) >= unmasked_from).astype(np.uint8).data)
                digests.append(digest_text(text, self.digest_seed))
                lengths.append(len(token_ids))
                characters.append(len(text))
                count(len(token_ids), len(text))
        counts.documents, counts.tokens, counts.characters = len(digests), sum(lengths), sum(characters)
        with own_path(files.table).open("wb") as table:
            np.save(table, make_table(digests, lengths, characters))
        own_path(files.counts).write_text(counts.model_dump_json(), encoding="utf-8")
        masked = [] if self.open_answer is None else [files.loss_mask]
        for path in (files.tokens, *masked, files.table, files.counts):
            os.replace(own_path(path), path)
        return counts

    def _encode(self, text: str, answer_start: int) -> tuple[np.ndarray, int]:
        """The token ids, and how many of them are before the answer, which is encoded apart, as it is generated."""
        parts = [self.encoder.encode(text[answer_start:])]
        if answer_start:
            parts.insert(0, self.encoder.encode(text[:answer_start]))
        if self.eod_id is not None:
            parts.append(np.array([self.eod_id]))
        return np.concatenate(parts).astype(self.token_dtype), len(parts[0]) if answer_start else 0

    def _read_texts(self, unit: Unit, counts: UnitCounts, tell: Callable[[str], None]) -> Iterator[Rendered]:
        """The unit's documents without empty ones; the last is cut where `max_characters` are reached."""
        source = self.sources[unit.source]
        left = source.max_characters
        for piece in unit.pieces:
            for number, content in _sample(source, piece, counts, read_piece(source, piece, tell)):
                rendered = self._render(source, piece, number, content, counts, tell)
                if rendered is None:
                    continue
                if left is not None:
                    rendered = rendered._replace(text=rendered.text[:left])
                    left -= len(rendered.text)
                if rendered.text.strip():
                    yield rendered
                else:
                    counts.empty_documents += 1
                if left == 0:
                    return

    def _render(
        self,
        source: SourceConfig,
        piece: Piece,
        number: int,
        content: Any,
        counts: UnitCounts,
        tell: Callable[[str], None],
    ) -> Rendered | None:
        """The record's text; None for a bad one that may be passed over."""
        if isinstance(content, str):
            return Rendered(content)
        try:
            record = parse_line(content) if isinstance(content, bytes) else content
            return render_record(record, source, self.apply_chat_template, self.open_answer)
        except DataError as error:
            problem = f"{describe_place(piece, number)}: {error.message}"
            counts.bad_records += 1
            if counts.bad_records > source.max_bad_records:
                raise too_many_bad_records(problem, error.hint, source) from error
            if counts.bad_records <= BAD_RECORDS_TOLD:
                counts.bad_examples.append(problem)
                tell(f"  bad record, passed over: {problem}")
            return None


def parse_line(line: bytes) -> object:
    """The JSON value of a line; `DataError` when there is none."""
    try:
        return json.loads(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"not JSON: {error}", "Write one JSON object a line.") from error


def too_many_bad_records(problem: str, hint: str, source: SourceConfig) -> DataError:
    """The error about one bad record too many."""
    if source.max_bad_records == 0:
        return DataError(problem, f"{hint} Or pass over a few: dataset.source.max_bad_records.")
    return DataError(
        f"more than {source.max_bad_records} bad records, the last at {problem}",
        f"{hint} Or raise max_bad_records: what is done is kept.",
    )


def _sample(
    source: SourceConfig, piece: Piece, counts: UnitCounts, records: Iterator[tuple[int, Any]]
) -> Iterator[tuple[int, Any]]:
    """Each record with the chance of `percentage`; the draws depend on the seed and the piece alone."""
    share = source.percentage / 100
    generator = random.Random(f"{source.sample_seed} {source.repository} {Path(piece.place).name} {piece.start}")
    for record in records:
        counts.records += 1
        if share == 1.0 or generator.random() < share:
            yield record
        else:
            counts.left_out += 1
