"""Which split a document belongs to, decided by the documents' texts alone.

Equal texts are one document, so none can be trained on and held out at once; the order in which
documents come does not matter. A large corpus is split by chance, each document by its hash: it
keeps its split when the corpus grows. In a small one chance would leave a split empty, or fill it
with one long document; there the documents are taken in the order of their hashes until each
held-out split has its share of the characters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from qad_core.config.schema import DatasetConfig
from qad_core.data.blend import Split
from qad_core.data.tokenize import Document
from qad_core.errors import DataError

DIGEST_BYTES = 16
SMALL_CORPUS_CHARACTERS = 32_000_000
"""A corpus up to this size is small; so much text is held in memory until its end is seen."""


@dataclass(frozen=True, slots=True)
class _Hashed:
    digest: bytes
    text: str


class DocumentSplitter:
    """Puts documents into splits and counts those that it drops; remembers 16 bytes a document."""

    def __init__(self, dataset: DatasetConfig, small_corpus_characters: int = SMALL_CORPUS_CHARACTERS) -> None:
        """Raises `DataError` when nothing is left to train on."""
        held_out = dataset.valid_fraction + dataset.test_fraction
        if held_out >= 1:
            raise DataError(
                f"valid_fraction and test_fraction sum to {held_out}, which leaves nothing to train on",
                "Make their sum smaller than 1.",
            )
        self._valid_fraction = dataset.valid_fraction
        self._test_fraction = dataset.test_fraction
        self._key = str(dataset.split_seed).encode()
        self._small_corpus_characters = small_corpus_characters
        self._seen: set[bytes] = set()
        self.duplicate_documents = 0
        self.empty_documents = 0

    def split_documents(self, texts: Iterable[str]) -> Iterator[Document]:
        """The documents in their order, without empty ones and exact duplicates."""
        documents = self._drop_repeated(texts)
        head: list[_Hashed] = []
        characters = 0
        for document in documents:
            head.append(document)
            characters += len(document.text)
            if characters > self._small_corpus_characters:
                return self._split_by_chance(chain(head, documents))
        return self._split_by_share(head, characters)

    def _drop_repeated(self, texts: Iterable[str]) -> Iterator[_Hashed]:
        for text in texts:
            if not text.strip():
                self.empty_documents += 1
                continue
            digest = hashlib.blake2b(text.encode("utf-8"), digest_size=DIGEST_BYTES, key=self._key).digest()
            if digest in self._seen:
                self.duplicate_documents += 1
                continue
            self._seen.add(digest)
            yield _Hashed(digest, text)

    def _split_by_chance(self, documents: Iterable[_Hashed]) -> Iterator[Document]:
        for document in documents:
            position = int.from_bytes(document.digest, "big") / 2 ** (8 * DIGEST_BYTES)  # uniform in [0, 1)
            if position < self._valid_fraction:
                split: Split = "valid"
            else:
                split = "test" if position < self._valid_fraction + self._test_fraction else "train"
            yield Document(split, document.text)

    def _split_by_share(self, documents: list[_Hashed], characters: int) -> Iterator[Document]:
        left: dict[Split, float] = {
            "valid": self._valid_fraction * characters,
            "test": self._test_fraction * characters,
        }
        shares = dict(left)
        splits: dict[bytes, Split] = {}
        for document in sorted(documents, key=lambda document: document.digest):
            # A document larger than the whole share would take too much from training.
            fitting: list[Split] = [split for split in left if left[split] > 0 and len(document.text) <= shares[split]]
            splits[document.digest] = fitting[0] if fitting else "train"
            if fitting:
                left[fitting[0]] -= len(document.text)
        return (Document(splits[document.digest], document.text) for document in documents)
