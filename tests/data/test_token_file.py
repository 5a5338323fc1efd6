from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from qad_core.data.blend import token_file_pair
from qad_core.data.token_file import TokenFileWriter, check_token_file, check_token_ids, token_dtype
from qad_core.errors import DataError
from qad_core.models.tokenizer import Tokenizer

TEXTS = ["one", "zwei • drei", "x" * 1000]


def write_tokens(prefix: Path, token_ids: list[list[int]], vocab_size: int = 257) -> Path:
    writer = TokenFileWriter(prefix, token_dtype(vocab_size))
    for ids in token_ids:
        writer.add_documents(np.asarray(ids), np.array([len(ids)]))
    writer.close()
    return prefix


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, np.uint16), (151_936, np.int32)])
def test_token_files_read_back_through_megatron_are_the_tokens(
    tmp_path: Path, tokenizer: Tokenizer, vocab_size: int, dtype: type[np.number]
) -> None:
    encoded = [[*tokenizer.encode(text), tokenizer.eod_id or 0] for text in TEXTS]
    prefix = write_tokens(tmp_path / "v1.5_train", encoded, vocab_size)
    read: Any = IndexedDataset(str(prefix))
    assert [list(read[index]) for index in range(len(read))] == encoded
    assert read[0].dtype == dtype
    assert len(read.document_indices) == len(TEXTS) + 1


def test_a_whole_pair_of_token_files_is_counted(tmp_path: Path) -> None:
    file = check_token_file(write_tokens(tmp_path / "tokens", [[1, 2, 3], [4, 5]]))
    assert (file.documents, file.tokens) == (2, 5)


@pytest.mark.parametrize("which", [0, 1], ids=["bin", "idx"])
def test_a_truncated_token_file_is_refused_with_both_sizes(tmp_path: Path, which: int) -> None:
    prefix = write_tokens(tmp_path / "tokens", [[1, 2, 3], [4, 5]])
    file = token_file_pair(prefix)[which]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"{file.name} has {len(whole) - 1} bytes where .* promises {len(whole)}"):
        check_token_file(prefix)


@pytest.mark.parametrize("content", [b"", b"something else, and longer than a header is"])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    prefix = write_tokens(tmp_path / "tokens", [[1]])
    token_file_pair(prefix)[1].write_bytes(content)
    with pytest.raises(DataError, match="not the index of a Megatron token file"):
        check_token_file(prefix)


def test_tokens_of_a_larger_vocabulary_are_refused(tmp_path: Path) -> None:
    file = check_token_file(write_tokens(tmp_path / "tokens", [[7, 256]]))
    check_token_ids(file, 257)
    with pytest.raises(DataError, match="token 256, and the tokenizer's vocabulary ends at 255"):
        check_token_ids(file, 256)
