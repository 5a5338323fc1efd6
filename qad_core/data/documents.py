"""What is remembered of a document once it is tokenized: 32 bytes, in a table a unit.

Owns the table's form and the digest that stands for a document's text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

DIGEST_BYTES = 16
DOCUMENT = np.dtype([("digest", ">u8", (2,)), ("tokens", "<i8"), ("characters", "<i8")])
"""One document: the hash of its text, its tokens with the one that ends it, its characters."""


def digest_text(text: str, seed: int) -> bytes:
    """16 bytes that stand for a text; other ones for another seed."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=DIGEST_BYTES, key=str(seed).encode()).digest()


def make_table(digests: Sequence[bytes], tokens: Sequence[int], characters: Sequence[int]) -> np.ndarray:
    """The table of documents, `DOCUMENT` [documents]."""
    table = np.zeros(len(digests), dtype=DOCUMENT)
    table["digest"] = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2)
    table["tokens"] = tokens
    table["characters"] = characters
    return table
