"""Largest sum of live tensor bytes during a piece of code, by watching every operation's results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_new_bytes(function: Callable[[], Any]) -> int:
    """Largest total size of storages that `function` made and still held at one time."""
    with _LiveBytes() as live:
        function()
    return live.peak


class _LiveBytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self._known_before: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                storage = StorageWeakRef(leaf.untyped_storage())
                if storage.cdata not in self._storages:
                    self._known_before.add(storage.cdata)
        result = func(*args, **(kwargs or {}))
        self._storages = {k: v for k, v in self._storages.items() if not v[0].expired()}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                reference = StorageWeakRef(storage)
                if reference.cdata not in self._known_before:
                    self._storages[reference.cdata] = (reference, storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._storages.values()))
        return result
