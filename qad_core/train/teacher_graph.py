"""The teacher's forward pass recorded as a CUDA graph, one for each shape of a batch, and replayed.

A frozen model does the same work on every batch of a shape, and at small batches Python starts its kernels more slowly
than a GPU runs them; a replay starts them all at once. Owns recording and replay; the distillation model calls it as
it would the teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from torch import Tensor

_WARM_UPS = 2
"""Passes before the recording, in which kernels are compiled and tables of angles made."""


def can_record(model: Any) -> bool:
    """Whether passes of this model are ones that a CUDA graph can replay.

    Communication between its shards would be recorded too; that has not been tried. A mixture of experts waits for its
    token counts on the host, which cannot be recorded.
    """
    shards = parallel_state.get_tensor_model_parallel_world_size()
    is_whole = shards * parallel_state.get_pipeline_model_parallel_world_size() == 1
    return torch.cuda.is_available() and is_whole and model.config.num_moe_experts is None


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    position_ids: Tensor
    hidden_states: Tensor


class ReplayedForward:
    """Stands in for a model's `forward(tokens, position_ids, None)`; its result is overwritten by the next call."""

    def __init__(self, forward: Callable[..., Tensor], captured: Any) -> None:
        """`captured` is the module whose output modelopt's hook keeps, as `_intermediate_output`; replays call none."""
        self._forward = forward
        self._captured = captured
        self._recordings: dict[torch.Size, _Recording] = {}

    def __call__(self, tokens: Tensor, position_ids: Tensor, attention_mask: None) -> Tensor:
        """Hidden states [s, b, h] of tokens and positions [b, s]."""
        recording = self._recordings.get(tokens.shape)
        if recording is None:
            recording = self._recordings[tokens.shape] = self._record(tokens.clone(), position_ids.clone())
        recording.tokens.copy_(tokens)
        recording.position_ids.copy_(position_ids)
        recording.graph.replay()
        self._captured._intermediate_output = recording.hidden_states
        return recording.hidden_states

    def _record(self, tokens: Tensor, position_ids: Tensor) -> _Recording:
        def run() -> Tensor:
            self._captured._intermediate_output = None
            return self._forward(tokens, position_ids, None)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as NCCL's watchdog, may ask about events meanwhile.
        with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            hidden_states = run()
        return _Recording(graph, tokens, position_ids, hidden_states)
