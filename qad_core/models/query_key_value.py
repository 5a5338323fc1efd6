"""Query, key and value rows as megatron-core's fused linear has them, group by group, and back.

Owns the order of the rows alone; which tensors they are of is the callers'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def join_query_key_value(tensors: Sequence[Tensor], groups: int) -> Tensor:
    """[(heads + 2 * groups) * channels, n] of query, key and value [rows, n]: each group's queries, key and value."""
    by_group = [tensor.reshape(groups, -1, tensor.shape[-1]) for tensor in tensors]  # [groups, rows, n]
    return torch.cat(by_group, dim=1).flatten(0, 1)


def split_query_key_value(tensor: Tensor, groups: int, channels: int) -> list[Tensor]:
    """Query, key and value rows of [(heads + 2 * groups) * channels, ...], where they lie group by group."""
    by_group = tensor.unflatten(0, (groups, -1))  # [groups, (heads per group + 2) * channels, ...]
    queries = by_group.shape[1] - 2 * channels
    return [part.flatten(0, 1) for part in by_group.split([queries, channels, channels], dim=1)]
