"""Which split a document belongs to, decided by its text alone.

The same text lands in the same split wherever and however often it stands, so that no document can be
trained on and held out at once; the second of two equal documents is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from qad_core.config.schema import DatasetConfig
from qad_core.data.blend import Split
from qad_core.data.tokenize import Document
from qad_core.errors import DataError

DIGEST_BYTES = 16


class DocumentSplitter:
    """Puts documents into splits and counts those that it drops; remembers 16 bytes a document."""

    def __init__(self, dataset: DatasetConfig) -> None:
        """Raises `DataError` when nothing is left to train on."""
        held_out = dataset.valid_fraction + dataset.test_fraction
        if held_out >= 1:
            raise DataError(
                f"valid_fraction and test_fraction sum to {held_out}, which leaves nothing to train on",
                "Make their sum smaller than 1.",
            )
        self._valid_below = dataset.valid_fraction
        self._test_below = held_out
        self._key = str(dataset.split_seed).encode()
        self._seen: set[bytes] = set()
        self.duplicate_documents = 0
        self.empty_documents = 0

    def split_documents(self, texts: Iterable[str]) -> Iterator[Document]:
        """The documents in their order, without empty ones and exact duplicates."""
        for text in texts:
            if not text.strip():
                self.empty_documents += 1
                continue
            digest = hashlib.blake2b(text.encode("utf-8"), digest_size=DIGEST_BYTES, key=self._key).digest()
            if digest in self._seen:
                self.duplicate_documents += 1
                continue
            self._seen.add(digest)
            yield Document(self._choose_split(digest), text)

    def _choose_split(self, digest: bytes) -> Split:
        position = int.from_bytes(digest, "big") / 2 ** (8 * DIGEST_BYTES)  # uniform in [0, 1)
        if position < self._valid_below:
            return "valid"
        return "test" if position < self._test_below else "train"
