"""One pair of Megatron `.bin/.idx` token files: writing it, and checking that it is whole.

Reading the tokens while training is megatron-core's own `IndexedDataset`. The writer is ours because
megatron-core's keeps Python numbers of every document until its end. The checks are here because
`IndexedDataset` reads a truncated `.bin` without complaint until the loop reaches the missing bytes.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from megatron.core.datasets.indexed_dataset import DType

from qad_core.data.blend import token_file_pair
from qad_core.errors import DataError

# Layout of the .idx: megatron/core/datasets/indexed_dataset.py, _IndexWriter.
MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, documents + 1
TOKENS_CHECKED = 1_000_000
REPAIR_HINT = "Prepare the data again, or copy both files anew."


def token_dtype(vocab_size: int) -> np.dtype:
    """Type of one token on disk: uint16 where it is enough, else int32."""
    return np.dtype(DType.optimal_dtype(vocab_size))


class TokenFileWriter:
    """Writes documents one after another; whole only after `close`. Holds 4 bytes a document."""

    def __init__(self, prefix: Path, dtype: np.dtype) -> None:
        """`dtype` is that of one token on disk."""
        bin_path, self._idx_path = token_file_pair(prefix)
        self._dtype = dtype
        self._bin = bin_path.open("wb")
        self._bin_hash = hashlib.sha256()
        self._lengths: list[np.ndarray] = []
        self.documents = 0
        self.tokens = 0

    def add_documents(self, token_ids: np.ndarray, lengths: np.ndarray) -> None:
        """Append documents: their token ids one after another, int [tokens], and the tokens of each, > 0."""
        data = np.ascontiguousarray(token_ids, dtype=self._dtype).view(np.uint8).data
        self._bin.write(data)
        self._bin_hash.update(data)
        self._lengths.append(np.asarray(lengths, dtype=np.int32))
        self.documents += len(lengths)
        self.tokens += len(token_ids)

    def close(self) -> tuple[str, str]:
        """Write the index; the pair is whole now. Returns the SHA-256 of the .bin and of the .idx."""
        self._bin.close()
        lengths = np.concatenate([np.zeros(0, dtype=np.int32), *self._lengths])
        starts = np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize - lengths * np.int64(self._dtype.itemsize)
        code = DType.code_from_dtype(self._dtype.type)
        parts = (
            HEADER.pack(MAGIC, VERSION, code, len(lengths), len(lengths) + 1),
            lengths.tobytes(),
            starts.tobytes(),
            np.arange(len(lengths) + 1, dtype=np.int64).tobytes(),
        )
        idx_hash = hashlib.sha256()
        with self._idx_path.open("wb") as file:
            for part in parts:
                file.write(part)
                idx_hash.update(part)
        return self._bin_hash.hexdigest(), idx_hash.hexdigest()


@dataclass(frozen=True)
class TokenFile:
    """What a whole pair of token files holds."""

    prefix: Path
    documents: int
    tokens: int
    dtype: np.dtype
    """Type of one token on disk."""


def check_token_file(prefix: Path) -> TokenFile:
    """Read the index and hold it against the sizes on disk.

    Raises `DataError` with the sizes when either file is not whole, or when there is no token in them.
    """
    bin_path, idx_path = token_file_pair(prefix)
    dtype, sequences, documents = _read_header(idx_path)
    expected_idx = HEADER.size + sequences * (4 + 8) + documents * 8
    if idx_path.stat().st_size != expected_idx:
        raise DataError(
            f"{idx_path} has {idx_path.stat().st_size:,} bytes where its header promises {expected_idx:,}", REPAIR_HINT
        )
    lengths = np.memmap(idx_path, dtype=np.int32, mode="r", offset=HEADER.size, shape=(sequences,))
    tokens = int(lengths.sum(dtype=np.int64))
    expected_bin = tokens * dtype.itemsize
    if bin_path.stat().st_size != expected_bin:
        raise DataError(
            f"{bin_path} has {bin_path.stat().st_size:,} bytes where its index promises {expected_bin:,}", REPAIR_HINT
        )
    return TokenFile(prefix, documents - 1, tokens, dtype)


def check_token_ids(file: TokenFile, vocab_size: int) -> None:
    """Raise `DataError` when one of the first million tokens is not in a vocabulary of this size."""
    bin_path, _ = token_file_pair(file.prefix)
    largest = int(np.fromfile(bin_path, dtype=file.dtype, count=TOKENS_CHECKED).max())
    if largest >= vocab_size:
        raise DataError(
            f"{bin_path} holds the token {largest:,}, and the tokenizer's vocabulary ends at {vocab_size - 1:,}",
            "Use the tokenizer that the data was prepared with, or prepare it with this one.",
        )


def _read_header(idx_path: Path) -> tuple[np.dtype, int, int]:
    """(dtype of a token, sequences, documents + 1)."""
    with idx_path.open("rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise DataError(f"{idx_path} is not the index of a Megatron token file", REPAIR_HINT)
    _, version, code, sequences, documents = HEADER.unpack(header)
    if version != VERSION or code not in {dtype.value for dtype in DType}:
        raise DataError(f"{idx_path} has version {version} and token type {code}, which are not known", REPAIR_HINT)
    if sequences == 0:
        raise DataError(f"{idx_path} holds no document", "Leave it out of the blend, or prepare the data again.")
    return np.dtype(DType.dtype_from_code(code)), sequences, documents
