"""Token chunks and row blocks: how much of [tokens, vocabulary] exists at once.

A token chunk is the set of tokens whose full-vocabulary float32 logits exist at once; it bounds the
scratch memory. A row block is a part of a chunk small enough to stay in a core's cache while the
elementwise passes run over it. This module owns both sizes and the loss mask's row selection; it does
no arithmetic on logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_LOGITS_BYTES_CPU = 192 * 2**20
_LOGITS_BYTES_GPU = 2 * 2**30
# Row blocks of both models and their difference fit in the last-level cache. Smaller ones are no faster, and every
# pass over one ends in a barrier of all threads, which is slow where other programs take the cores.
_ROW_BLOCK_BYTES_CPU = 4 * 2**20


def token_spans(num_tokens: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` tokens that cover `num_tokens`."""
    for start in range(0, num_tokens, size):
        yield slice(start, min(start + size, num_tokens))


def choose_chunk_tokens(logits_bytes_per_token: int, device: torch.device, requested: int = 0) -> int:
    """Tokens a chunk: `requested`, or where that is 0 what fits the device's logits budget.

    The choice depends on sizes only, never on free memory, so that all tensor-parallel ranks make the
    same number of collective calls.
    """
    if requested > 0:
        return requested
    budget = _LOGITS_BYTES_CPU if device.type == "cpu" else _LOGITS_BYTES_GPU
    return max(1, budget // logits_bytes_per_token)


def choose_row_block(logits: Tensor) -> int:
    """Rows of `logits` [tokens, vocab] that one elementwise pass takes at a time."""
    if logits.device.type != "cpu":
        return max(1, logits.shape[0])
    return max(1, _ROW_BLOCK_BYTES_CPU // (logits.shape[1] * logits.element_size()))


@dataclass(frozen=True)
class TokenSelection:
    """The rows that the loss counts; `index` is None when that is all of them."""

    num_rows: int
    index: Tensor | None  # [n] int64

    @classmethod
    def from_mask(cls, loss_mask: Tensor | None, shape: torch.Size) -> TokenSelection:
        """Rows whose mask entry is not zero. `loss_mask` has the shape of the hidden states less their last axis.

        Raises ValueError when the shapes differ.
        """
        if loss_mask is None:
            return cls(shape.numel(), None)
        if loss_mask.shape != shape:
            raise ValueError(f"loss_mask has shape {tuple(loss_mask.shape)}, the tokens have {tuple(shape)}")
        index = loss_mask.reshape(-1).nonzero().squeeze(-1)
        return cls(shape.numel(), None if index.numel() == shape.numel() else index)

    def take(self, rows: Tensor) -> Tensor:
        """The counted rows [n, ...] of `rows` [num_rows, ...], contiguous."""
        return rows.contiguous() if self.index is None else rows.index_select(0, self.index)

    def put(self, counted: Tensor) -> Tensor:
        """The inverse of `take`: [num_rows, ...] with zeros in the rows that are not counted."""
        if self.index is None:
            return counted
        rows = counted.new_zeros(self.num_rows, *counted.shape[1:])
        return rows.index_copy_(0, self.index, counted)
