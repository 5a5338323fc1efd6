"""A source's tokens from its units to the token files of each split; a few million tokens are held at a time.

Owns which files a source has. Which split a document belongs to is `split.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qad_core.data.blend import SPLITS, Split
from qad_core.data.manifest import SplitCounts
from qad_core.data.token_file import TokenFileWriter

TOKENS_AT_A_TIME = 4_000_000
"""So many tokens are held while the splits are written."""


def token_prefix(folder: Path, source_name: str, split: Split) -> Path:
    """Prefix of a source's token files of a split, ending as Megatron's preprocessing ends it."""
    return folder / f"{source_name}_{split}_text_document"


class SplitWriter:
    """Writes a source's documents to the token files of their splits; a split without documents has no files."""

    def __init__(self, prefixes: Mapping[Split, Path], dtype: np.dtype) -> None:
        """`dtype` is that of one token on the disk."""
        self._dtype = dtype
        self._prefixes = prefixes
        self._writers: dict[Split, TokenFileWriter] = {}
        self._characters: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def add_unit(self, tokens_file: Path, table: np.ndarray, splits: np.ndarray) -> None:
        """Add the unit's documents by `splits`, int8 [documents], places in `SPLITS`; -1 is left out."""
        lengths = np.asarray(table["tokens"])
        ends = np.cumsum(lengths)
        with tokens_file.open("rb") as file:
            first = 0
            while first < len(lengths):
                read = ends[first] - lengths[first]
                last = max(first + 1, int(np.searchsorted(ends, read + TOKENS_AT_A_TIME, side="right")))
                count = int(ends[last - 1] - read)
                token_ids = np.frombuffer(file.read(count * self._dtype.itemsize), dtype=self._dtype)
                self._add_block(token_ids, table[first:last], splits[first:last])
                first = last

    def close(self) -> dict[Split, SplitCounts]:
        """Finish the files; what is in each split."""
        return {split: self._close_split(split) for split in SPLITS}

    def _add_block(self, token_ids: np.ndarray, table: np.ndarray, splits: np.ndarray) -> None:
        split_of_tokens = np.repeat(splits, table["tokens"])
        for code, split in enumerate(SPLITS):
            chosen = splits == code
            if not chosen.any():
                continue
            if split not in self._writers:
                self._writers[split] = TokenFileWriter(self._prefixes[split], self._dtype)
            self._writers[split].add_documents(token_ids[split_of_tokens == code], table["tokens"][chosen])
            self._characters[split] += int(table["characters"][chosen].sum())

    def _close_split(self, split: Split) -> SplitCounts:
        if split not in self._writers:
            return SplitCounts()
        writer = self._writers[split]
        bin_sha256, idx_sha256 = writer.close()
        return SplitCounts(
            documents=writer.documents,
            tokens=writer.tokens,
            characters=self._characters[split],
            bin_sha256=bin_sha256,
            idx_sha256=idx_sha256,
        )
