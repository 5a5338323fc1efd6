"""Which split a document belongs to, decided by the documents' texts alone.

Equal texts are one document, so none can be trained on and held out at once; the order in which
documents come does not matter. A large corpus is split by chance, each document by its hash: it
keeps its split when the corpus grows. In a small one chance would leave a split empty, or fill it
with one long document; there the documents are taken in the order of their hashes until each
held-out split has its share of the characters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qad_core.config.schema import DatasetConfig
from qad_core.data.blend import SPLITS, Split
from qad_core.errors import DataError

SMALL_CORPUS_CHARACTERS = 32_000_000
"""A corpus up to this size is small."""
DOCUMENTS_AT_A_TIME = 2_000_000
"""So many digests are sorted at once: memory does not grow with the corpus beyond a byte a document."""
_CODES: dict[Split, int] = {split: code for code, split in enumerate(SPLITS)}


def check_fractions(dataset: DatasetConfig) -> None:
    """Raise `DataError` when nothing is left to train on."""
    held_out = dataset.valid_fraction + dataset.test_fraction
    if held_out >= 1:
        raise DataError(
            f"valid_fraction and test_fraction sum to {held_out}, which leaves nothing to train on",
            "Make their sum smaller than 1.",
        )


def find_repeats(tables: Sequence[np.ndarray], at_a_time: int = DOCUMENTS_AT_A_TIME) -> list[np.ndarray]:
    """For each table (`documents.DOCUMENT`), bool [documents]: whether the same text stands before, in any table."""
    repeats = [np.zeros(len(table), dtype=bool) for table in tables]
    parts = max(1, -(-sum(map(len, tables)) // at_a_time))
    for part in range(parts):
        # Equal texts have equal digests, so they are in the same part.
        chosen = [np.flatnonzero(table["digest"][:, 0] % np.uint64(parts) == part) for table in tables]
        digests = np.concatenate(
            [np.zeros((0, 2), ">u8"), *(table["digest"][rows] for table, rows in zip(tables, chosen, strict=True))]
        ).astype(np.uint64)
        order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: the first of equal ones stays first
        is_repeat = np.zeros(len(order), dtype=bool)
        is_repeat[order[1:]] = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
        ends = np.cumsum([len(rows) for rows in chosen])
        for flags, rows, end in zip(repeats, chosen, ends, strict=True):
            flags[rows] = is_repeat[end - len(rows) : end]
    return repeats


def split_documents(
    tables: Sequence[np.ndarray],
    dropped: Sequence[np.ndarray],
    dataset: DatasetConfig,
    small_corpus_characters: int = SMALL_CORPUS_CHARACTERS,
) -> list[np.ndarray]:
    """For each table of a source, int8 [documents]: place of the document's split in `SPLITS`; -1 where dropped."""
    characters = sum(int(table["characters"][~drop].sum()) for table, drop in zip(tables, dropped, strict=True))
    if characters > small_corpus_characters:
        splits = [_split_by_chance(table, dataset) for table in tables]
    else:
        splits = _split_by_share(tables, dropped, characters, dataset)
    return [np.where(drop, np.int8(-1), of_table) for of_table, drop in zip(splits, dropped, strict=True)]


def _split_by_chance(table: np.ndarray, dataset: DatasetConfig) -> np.ndarray:
    position = table["digest"][:, 0].astype(np.float64) / 2**64  # uniform in [0, 1)
    held_out = dataset.valid_fraction + dataset.test_fraction
    splits = np.full(len(table), _CODES["train"], dtype=np.int8)
    splits[position < held_out] = _CODES["test"]
    splits[position < dataset.valid_fraction] = _CODES["valid"]
    return splits


def _split_by_share(
    tables: Sequence[np.ndarray], dropped: Sequence[np.ndarray], characters: int, dataset: DatasetConfig
) -> list[np.ndarray]:
    shares: dict[Split, float] = {
        "valid": dataset.valid_fraction * characters,
        "test": dataset.test_fraction * characters,
    }
    left = dict(shares)
    splits = [np.full(len(table), _CODES["train"], dtype=np.int8) for table in tables]
    places = [
        (*table["digest"][row].tolist(), number, int(row))
        for number, (table, drop) in enumerate(zip(tables, dropped, strict=True))
        for row in np.flatnonzero(~drop)
    ]
    for *_, number, row in sorted(places):
        length = int(tables[number]["characters"][row])
        # A document larger than the whole share would take too much from training.
        fitting: list[Split] = [split for split in left if left[split] > 0 and length <= shares[split]]
        if fitting:
            splits[number][row] = _CODES[fitting[0]]
            left[fitting[0]] -= length
    return splits
