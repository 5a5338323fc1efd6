"""Micro-batches of a dataset, in an order that depends on consumed samples only, not on the layout.

Global batch number g holds samples [g * global_batch_size, (g + 1) * global_batch_size); each
data-parallel rank takes its slice of each micro-batch, as Megatron's pretraining sampler does. All
ranks of one model replica read the same samples, so nothing is broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Batch:
    """One micro-batch; every tensor is [b, s], on the device unless it says otherwise."""

    tokens: torch.Tensor
    labels: torch.Tensor
    loss_mask: torch.Tensor
    """On the host: how many tokens count decides the sizes of tensors, and asking a device for it would wait for it."""
    position_ids: torch.Tensor


@dataclass(frozen=True)
class BatchLayout:
    """Who takes which samples."""

    micro_batch_size: int
    """Sequences a rank and a forward pass."""
    data_parallel_rank: int
    """This rank's replica."""
    data_parallel_size: int
    """Replicas."""


def iterate_batches(
    dataset: Sequence[Any],
    layout: BatchLayout,
    *,
    first_sample: int,
    num_micro_batches: int,
    device: torch.device,
    end_sample: int | None = None,
) -> Iterator[Batch]:
    """Yield this rank's micro-batches of the samples from `first_sample` on.

    Samples from `end_sample` on only fill the last micro-batches up: their loss mask is zero.
    """
    stride = layout.micro_batch_size * layout.data_parallel_size
    mine = first_sample + layout.data_parallel_rank * layout.micro_batch_size
    for start in range(mine, mine + num_micro_batches * stride, stride):
        indices = range(start, start + layout.micro_batch_size)
        filling = [end_sample is not None and index >= end_sample for index in indices]
        samples = [dataset[first_sample if fills else index] for index, fills in zip(indices, filling, strict=True)]
        yield _collate(samples, filling, device)


def follow(
    batches: Iterator[Batch], layout: BatchLayout, sequences: int, tell: Callable[[int, int], None]
) -> Iterator[Batch]:
    """The same micro-batches; before each, `tell(done, sequences)` hears how many all replicas are through."""
    stride = layout.micro_batch_size * layout.data_parallel_size
    for number, batch in enumerate(batches):
        tell(min(number * stride, sequences), sequences)
        yield batch


def _collate(samples: list[Any], filling: list[bool], device: torch.device) -> Batch:
    def stack(key: str) -> torch.Tensor:
        return torch.stack([torch.as_tensor(sample[key]) for sample in samples])

    def move(stacked: torch.Tensor) -> torch.Tensor:
        # Only copies from pinned memory wait for nothing.
        return (stacked.pin_memory() if device.type == "cuda" else stacked).to(device, non_blocking=True)

    counts = ~torch.tensor(filling).unsqueeze(-1)  # [b, 1]
    return Batch(
        tokens=move(stack("tokens")),
        labels=move(stack("labels")),
        loss_mask=stack("loss_mask").float() * counts,
        position_ids=move(stack("position_ids")),
    )
