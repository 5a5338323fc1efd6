"""Token chunks and row blocks: how much of [tokens, vocabulary] exists at once.

A token chunk is the set of tokens whose full-vocabulary float32 logits exist at once; it bounds the
scratch memory. A span is one or more chunks whose d(loss)/d(logits) exist at once, in the narrower type, so that the
gradient products are large and the weight's gradient is summed in few parts. A row block is a part of a chunk small
enough to stay in a core's cache while the elementwise passes run over it. This module owns these sizes and the loss
mask's row selection and weights; it does no arithmetic on logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_LOGITS_BYTES_CPU = 192 * 2**20
# Two float32 logits of 1,024 tokens and the gradients of 8,192 at a vocabulary of 151,936 are 3.5 GiB, of which 1.2
# fit into the memory of the weight's gradient where that is made in one part (`kd_loss.py`).
_SCRATCH_BYTES_GPU = int(2.375 * 2**30)
_CHUNK_TOKENS_GPU = (8192, 4096, 2048, 1024, 512, 256, 128)
# Row blocks of both models and their difference fit in the last-level cache. Smaller ones are no faster, and every
# pass over one ends in a barrier of all threads, which is slow where other programs take the cores.
_ROW_BLOCK_BYTES_CPU = 4 * 2**20
_ROW_COPY_BYTES_GPU = 256 * 2**20


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
    budget = _LOGITS_BYTES_CPU if device.type == "cpu" else _SCRATCH_BYTES_GPU
    return max(1, budget // logits_bytes_per_token)


@dataclass(frozen=True)
class ChunkPlan:
    """Tokens a chunk and tokens a span, which is a whole number of chunks unless it is all tokens."""

    chunk_tokens: int
    span_tokens: int
    logits_in_weight_gradient: bool = False
    """Whether the two float32 logits of a chunk lie where the weight's gradient is made afterwards, in one part."""


def plan_chunks(
    num_tokens: int, vocab_rows: int, hidden_size: int, dtype: torch.dtype, budget: int, *, makes_weight_gradient: bool
) -> ChunkPlan:
    """How to walk over `num_tokens` on a GPU with about `budget` bytes of scratch.

    Args:
        dtype: of hidden states, weight and d(loss)/d(logits); logits are float32, or float64 for float64.
        makes_weight_gradient: whether a new gradient [vocab_rows, hidden_size] is made; its memory is free until then.
    """
    row = vocab_rows * dtype.itemsize  # of d(loss)/d(logits)
    pair = 2 * vocab_rows * max(4, dtype.itemsize)  # of both logits
    shared = [size for size in _CHUNK_TOKENS_GPU if pair * size <= row * hidden_size and size >= 512]
    if makes_weight_gradient and shared and row * num_tokens <= budget:
        return ChunkPlan(shared[0], max(1, num_tokens), logits_in_weight_gradient=True)
    chunk = next((size for size in _CHUNK_TOKENS_GPU if pair * size <= budget // 2), 64)
    chunks_a_span = max(1, (budget - pair * chunk) // (row * chunk))
    return ChunkPlan(chunk, chunk * chunks_a_span)


def scratch_budget(device: torch.device, *, is_sharded: bool) -> int:
    """Bytes of scratch that a loss may take on a GPU: half of what is free, no more than pays.

    Shards have to cut their tokens alike, or their collective calls would not meet; theirs never looks at free memory.
    """
    if is_sharded:
        return _SCRATCH_BYTES_GPU
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_SCRATCH_BYTES_GPU, (free + unused) // 2)


def choose_row_block(logits: Tensor) -> int:
    """Rows of `logits` [tokens, vocab] that one elementwise pass takes at a time."""
    if logits.device.type != "cpu":
        return max(1, logits.shape[0])
    return max(1, _ROW_BLOCK_BYTES_CPU // (logits.shape[1] * logits.element_size()))


def choose_copy_rows(logits: Tensor) -> int:
    """Rows of `logits` [tokens, vocab] that a pass may copy at a time: a row block, or on a GPU so much as is small."""
    if logits.device.type == "cpu":
        return choose_row_block(logits)
    return max(1, _ROW_COPY_BYTES_GPU // (logits.shape[1] * logits.element_size()))


@dataclass(frozen=True)
class TokenSelection:
    """The rows that the loss counts; `index` is None when that is all of them, `weights` when each counts as one."""

    num_rows: int
    index: Tensor | None  # [n] int64
    weights: Tensor | None = None  # [n] float32 or float64

    @classmethod
    def from_mask(cls, loss_mask: Tensor | None, values: Tensor) -> TokenSelection:
        """Rows whose mask entry is not zero; the entry is the row's weight, and a bool one is 1.

        `loss_mask` has the shape of `values`, hidden states or logits, less their last axis. How many rows count has to
        be known on the host: it waits for the device of the mask, and for nothing where that is the host itself. Raises
        ValueError when the shapes differ, and when an entry is negative, infinite or NaN.
        """
        shape = values.shape[:-1]
        if loss_mask is None:
            return cls(shape.numel(), None)
        if loss_mask.shape != shape:
            raise ValueError(f"loss_mask has shape {tuple(loss_mask.shape)}, the tokens have {tuple(shape)}")
        entries = loss_mask.detach().reshape(-1)
        # All that the host has to know, in one read.
        facts = torch.stack((entries != 0, entries == 1, (entries >= 0) & (entries < torch.inf)))
        counted, ones, sound = facts.sum(1).tolist()
        if sound < shape.numel():
            raise ValueError(f"loss_mask has {shape.numel() - sound} entries that are negative, infinite or NaN")
        index = None if counted == shape.numel() else entries.nonzero().squeeze(-1)
        moved = None if index is None else _move(index, values.device)
        if ones == counted:
            return cls(shape.numel(), moved)
        weights = entries if entries.dtype == torch.float64 else entries.float()
        return cls(shape.numel(), moved, _move(weights if index is None else weights[index], values.device))

    def take(self, rows: Tensor) -> Tensor:
        """The counted rows [n, ...] of `rows` [num_rows, ...], contiguous."""
        return rows.contiguous() if self.index is None else rows.index_select(0, self.index)

    def put(self, counted: Tensor) -> Tensor:
        """The inverse of `take`: [num_rows, ...] with zeros in the rows that are not counted."""
        if self.index is None:
            return counted
        rows = counted.new_zeros(self.num_rows, *counted.shape[1:])
        return rows.index_copy_(0, self.index, counted)

    def weights_of(self, tokens: slice) -> Tensor | None:
        """Weights of these of the counted rows; None when each counts as one."""
        return None if self.weights is None else self.weights[tokens]


def _move(host_or_device: Tensor, device: torch.device) -> Tensor:
    """The same on `device`; from the host to a GPU through pinned memory, the only copy that waits for nothing."""
    is_sent = device.type == "cuda" and host_or_device.device.type == "cpu"
    return (host_or_device.pin_memory() if is_sent else host_or_device).to(device, non_blocking=True)
