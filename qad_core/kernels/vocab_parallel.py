"""Combining statistics of vocabulary shards under tensor parallelism.

Each rank holds an equal, consecutive range of vocabulary rows and computes statistics of its own shard
for every token. One all-gather a chunk brings the few numbers together, and every rank combines them
alone, in the same order, so that all ranks hold the same loss to the last bit. Nothing here is
differentiated: the losses make their gradients by hand, so no gradient passes through a collective, and
the mistake of a gradient multiplied by the tensor-parallel size has no place to happen.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def shard_count(group: dist.ProcessGroup | None) -> int:
    """Vocabulary shards: the group's size, or 1 without a group."""
    return 1 if group is None else dist.get_world_size(group)


def shard_index(group: dist.ProcessGroup | None) -> int:
    """Which vocabulary shard this rank holds."""
    return 0 if group is None else dist.get_rank(group)


def gather_statistics(local: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Statistics of all shards [shards, k, n] from this rank's [k, n]: one collective call."""
    shards = shard_count(group)
    if shards == 1:
        return local.unsqueeze(0)
    gathered = local.new_empty(shards, *local.shape)
    dist.all_gather_into_tensor(gathered.view(-1), local.contiguous().view(-1), group=group)
    return gathered


def sum_over_shards_(partial: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """All-reduce `partial` in place; every rank ends with the sum."""
    if shard_count(group) > 1:
        dist.all_reduce(partial, group=group)
    return partial


def local_labels(labels: Tensor, vocab_rows: int, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
    """(column of each label in this rank's shard, 0 if it lies in another; whether it lies in this one), [n] each."""
    column = labels - shard_index(group) * vocab_rows
    inside = (column >= 0) & (column < vocab_rows)
    return torch.where(inside, column, 0), inside


def softmax_(logits: Tensor) -> Tensor:
    """Turn `logits` [n, V_shard] into the shard's softmax in place; return the shard's log-sum-exp [n] float64."""
    highest = logits.amax(-1).double()
    torch.softmax(logits, -1, out=logits)
    return highest - logits.amax(-1).double().log()


def shard_weights(logsumexp: Tensor) -> tuple[Tensor, Tensor]:
    """(log-sum-exp of the whole vocabulary [n], probability in each shard [shards, n]) from the shards' [shards, n]."""
    total = torch.logsumexp(logsumexp, dim=0)
    return total, torch.exp(logsumexp - total)
