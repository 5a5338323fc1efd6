"""Datasets on the Hugging Face hub: which files their splits have, and the files' records as a stream.

The `datasets` library says which files, by the dataset's card; they are read through `fsspec`, for
which the hub's own library serves `hf://`. The token is those libraries' business: HF_TOKEN, or what
`hf auth login` keeps. Copies on this machine are `sources.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

from qad_core.config.schema import SourceConfig
from qad_core.data.backoff import find_break, find_status, read_with_waits, with_waits
from qad_core.data.record_files import Record, open_parquet, read_lines, read_rows
from qad_core.errors import DataError, OutsideError

HUB_SCHEMES = ("hf://", "http://", "https://")
_REFUSALS = frozenset({401, 403, 404})
_COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")


def list_hub_files(source: SourceConfig, tell: Callable[[str], None]) -> list[str]:
    """URLs of every file of the source's splits, in their order, with the revision that is read in them.

    Raises `DataError` for a dataset or split that is not there or not open to this token, OutsideError
    when the hub cannot be reached.
    """
    repository = source.repository or ""
    # Imported here: it takes seconds, which other sources need not wait for.
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    try:
        builder = with_waits(repository, lambda: load_dataset_builder(repository, source.subset), tell)
    except DatasetNotFoundError as error:
        raise _refusal(f"the hub's dataset {repository}", error) from error
    except ValueError as error:
        raise DataError(f"the hub's dataset {repository}: {error}", "Correct dataset.source.subset.") from error
    except Exception as error:  # the libraries below have several of their own for a network that fails
        if find_status(error) in _REFUSALS:
            raise _refusal(f"the hub's dataset {repository}", error) from error
        if not isinstance(error, OSError) and find_break(error) is None:
            raise
        raise _no_answer(repository, str(error)) from error
    files = cast("dict[str, list[str]]", builder.config.data_files or {})
    if not files:  # what `datasets` keeps of an earlier time has no list of files
        raise _no_answer(repository, "it names no files")
    lacking = [split for split in source.splits if split not in files]
    if lacking:
        raise DataError(
            f"the hub's dataset {repository} has no split {', '.join(lacking)}",
            f"There are: {', '.join(map(str, files))}.",
        )
    return [str(url) for split in source.splits for url in files[split]]


def stream_hub_file(url: str, tell: Callable[[str], None]) -> Iterator[Record]:
    """The records of one file (.parquet, .jsonl, also compressed), as they come over the network.

    A server that is busy or breaks off is waited for, and the file read on from where it was; memory holds a
    few records. Raises `DataError` for a file of another kind or one that is not there or not open to this
    token, OutsideError when the waits do not help.
    """
    name = url
    for suffix in _COMPRESSIONS:
        name = name.removesuffix(suffix)
    if not name.endswith((".parquet", ".jsonl")):
        raise DataError(f"{url} is neither Parquet nor JSONL", "Fetch it, turn it into JSONL, and name it: --source.")

    def open_from(number: int) -> Iterator[Record]:
        # Imported here: it takes a while, and registers the scheme hf:// through huggingface_hub.
        import fsspec

        with cast("Any", fsspec.open(url, "rb", compression="infer")) as file:
            records = read_rows(open_parquet(file)) if name.endswith(".parquet") else read_lines(file)
            yield from islice(records, number, None)

    return _explain_refusals(url, read_with_waits(url, open_from, tell))


def _explain_refusals(url: str, records: Iterator[Record]) -> Iterator[Record]:
    try:
        yield from records
    except Exception as error:
        # `fsspec` makes a FileNotFoundError of a 404.
        if not isinstance(error, FileNotFoundError) and find_status(error) not in _REFUSALS:
            raise
        raise _refusal(url, error) from error


def _refusal(what: str, error: Exception) -> DataError:
    return DataError(
        f"{what} cannot be read: {error}",
        "A gated dataset wants its terms accepted on its page, and HF_TOKEN in the environment.",
    )


def _no_answer(repository: str, reason: str) -> OutsideError:
    return OutsideError(
        f"the hub's dataset {repository} cannot be reached: {reason}",
        "Check the network, or give copies of its files: --source PATH.",
    )
