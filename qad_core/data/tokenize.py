"""Documents to token ids, in order, on several processes; memory holds a few batches at a time.

It neither reads sources nor writes files. The worker processes are forked, so that the tokenizer is
there without being loaded again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from threading import Thread

import numpy as np

from qad_core.data.blend import Split
from qad_core.errors import DataError
from qad_core.models.tokenizer import Tokenizer

# Large enough to hide the cost of passing a batch to another process, small enough to share the work evenly.
CHARACTERS_PER_BATCH = 100_000
BATCHES_IN_FLIGHT_PER_PROCESS = 3


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the split that it belongs to."""

    split: Split
    text: str


@dataclass(frozen=True, slots=True)
class TokenizedDocument:
    """Its token ids, int32 [tokens], with the end-of-document token when that was asked for."""

    split: Split
    characters: int
    token_ids: np.ndarray


def tokenize_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, *, append_eod: bool, processes: int
) -> Iterator[TokenizedDocument]:
    """Tokenize in the order given, whatever the number of processes.

    Raises `DataError` when `append_eod` is asked of a tokenizer without an end-of-document token.
    """
    if append_eod and tokenizer.eod_id is None:
        raise DataError("the tokenizer has no end-of-document token", "Set dataset.append_eod to false.")
    encode = _Encode(tokenizer, tokenizer.eod_id if append_eod else None)
    batches = batch_by_characters(documents, CHARACTERS_PER_BATCH)
    first = list(islice(batches, 2))
    if processes == 1 or len(first) < 2:  # one batch is not worth a process
        return chain.from_iterable(map(encode, chain(first, batches)))
    return _tokenize_in_processes(chain(first, batches), encode, processes)


def batch_by_characters(documents: Iterable[Document], characters: int) -> Iterator[list[Document]]:
    """Batches of consecutive documents with at least so many characters each, but for the last."""
    batch: list[Document] = []
    filled = 0
    for document in documents:
        batch.append(document)
        filled += len(document.text)
        if filled >= characters:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


def available_processes() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class _Encode:
    tokenizer: Tokenizer
    eod_id: int | None

    def __call__(self, batch: list[Document]) -> list[TokenizedDocument]:
        return [self._encode_document(document) for document in batch]

    def _encode_document(self, document: Document) -> TokenizedDocument:
        token_ids = self.tokenizer.encode(document.text)
        if self.eod_id is not None:
            token_ids = [*token_ids, self.eod_id]
        return TokenizedDocument(document.split, len(document.text), np.asarray(token_ids, dtype=np.int32))


def _tokenize_in_processes(
    batches: Iterable[list[Document]], encode: _Encode, processes: int
) -> Iterator[TokenizedDocument]:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_set_worker, initargs=(encode,)) as pool:
        in_flight: deque[Future[list[TokenizedDocument]]] = deque()
        for batch in batches:
            in_flight.append(pool.submit(_encode_in_worker, batch))
            if len(in_flight) >= processes * BATCHES_IN_FLIGHT_PER_PROCESS:
                yield from in_flight.popleft().result()
        while in_flight:
            yield from in_flight.popleft().result()


_worker_encode: Callable[[list[Document]], list[TokenizedDocument]]


def _set_worker(encode: _Encode) -> None:
    # Each worker is a process of its own already; the tokenizer's own threads would only fight over the cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    Thread(target=_leave_with_parent, daemon=True).start()
    global _worker_encode
    _worker_encode = encode


def _leave_with_parent() -> None:
    # A worker waits for work on a pipe that its siblings hold open too: it would outlive a killed parent for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode_in_worker(batch: list[Document]) -> list[TokenizedDocument]:
    return _worker_encode(batch)
