"""The student's layers recorded as CUDA graphs, forward and backward, and replayed.

At small batches, and on slow hosts at larger ones, a GPU waits for Python to start the kernels of a layer; a replay
starts them all at once. Owns recording and replay. What a recording leaves out is done at every replay: weights are
quantized once an optimizer step, and Megatron's data-parallel wrapper is told of each gradient that is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qad_core.kernels.nvfp4_backend import weight_cache_of

_WARM_UPS = 1
"""Passes before the recording, in which kernels are compiled and tables made."""


def record_layers(wrapped: Any, layers: Sequence[Any]) -> None:
    """Have the trained layers of a data-parallel model recorded when they are next trained, and replayed from then on.

    They have to do the same work for every batch of a shape and wait for nothing on the host; forward and backward
    passes have to take turns. Evaluations, and batches of another shape than the first, run as they are.
    """
    recorder = _Recorder(wrapped, layers)
    for index, layer in enumerate(layers):
        layer.forward = partial(recorder.run, index)


@dataclass
class _Recording:
    """One layer's two graphs and the tensors whose places in memory they know."""

    forward: torch.cuda.CUDAGraph
    hidden_states: Tensor
    output: Tensor
    backward: torch.cuda.CUDAGraph
    output_gradient: Tensor
    gradient: Tensor

    def replay_forward(self, hidden_states: Tensor) -> Tensor:
        """The layer's output [s, b, h], overwritten by the next pass."""
        _put(hidden_states, self.hidden_states)
        self.forward.replay()
        return self.output

    def replay_backward(self, output_gradient: Tensor) -> Tensor:
        """The gradient of the layer's input [s, b, h]; those of its parameters are added to their `main_grad`."""
        _put(output_gradient, self.output_gradient)
        self.backward.replay()
        return self.gradient


def _put(value: Tensor, place: Tensor) -> None:
    # The layer before, or behind, has mostly written it there.
    if value.data_ptr() != place.data_ptr():
        place.copy_(value)


class _Layer:
    """A layer, its own forward pass, and what a replay of it has to do besides."""

    def __init__(self, wrapped: Any, layer: Any) -> None:
        self.module = layer
        self.forward: Callable[..., tuple[Tensor, Tensor | None]] = layer.forward
        self.parameters = [each for each in layer.parameters() if each.requires_grad]
        caches = ((weight_cache_of(module), module) for module in layer.modules())
        self._quantized = [(cache, module) for cache, module in caches if cache is not None]
        self._hooks = [wrapped._make_backward_post_hook(each) for each in self.parameters]
        # The wrapper's hook wants to see a gradient, and drops it where `main_grad` has it already.
        self._placeholders = [each.new_empty(()).expand(each.shape) for each in self.parameters]

    def quantize_weights(self) -> None:
        """Bring the quantized weights, which a graph reads, up to date."""
        for cache, module in self._quantized:
            cache.quantize(module.weight, module.weight_quantizer)

    def tell_of_gradients(self) -> None:
        """Do what autograd does once a parameter's gradient is there."""
        for parameter, placeholder, hook in zip(self.parameters, self._placeholders, self._hooks, strict=True):
            parameter.grad = placeholder
            parameter.grad_added_to_main_grad = True
            hook()


class _Recorder:
    def __init__(self, wrapped: Any, layers: Sequence[Any]) -> None:
        self._layers = [_Layer(wrapped, layer) for layer in layers]
        self._recordings: list[_Recording] = []
        self._passes = 0

    def run(self, index: int, hidden_states: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        """The layer's forward pass; options are megatron-core's, the same for every layer and batch."""
        layer = self._layers[index]
        if not (torch.is_grad_enabled() and layer.module.training):
            return layer.forward(hidden_states=hidden_states, **options)
        if index == 0:
            self._passes += 1
            if self._passes == _WARM_UPS + 1:
                self._recordings = _record(self._layers, hidden_states, options)
        if not self._recordings or hidden_states.shape != self._recordings[index].hidden_states.shape:
            return layer.forward(hidden_states=hidden_states, **options)
        return _Replay.apply(hidden_states, layer, self._recordings[index]), None


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, layer: _Layer, recording: _Recording) -> Tensor:
        ctx.layer, ctx.recording = layer, recording
        layer.quantize_weights()
        return recording.replay_forward(hidden_states).detach()

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = ctx.recording.replay_backward(output_gradient)
        ctx.layer.tell_of_gradients()
        return gradient, None, None


def _record(layers: Sequence[_Layer], hidden_states: Tensor, options: dict[str, Any]) -> list[_Recording]:
    """Record all layers' forward passes in order, then their backward passes the other way round.

    All graphs share a pool of memory, as replays come in the order of the recording: what one has let go of, a later
    one may take.
    """
    torch.cuda.empty_cache()  # what passes before have used outside the pool
    pool = torch.cuda.graph_pool_handle()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    passes: list[tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = []
    recordings: list[_Recording] = []
    with torch.cuda.stream(stream):
        entering = hidden_states.detach().clone().requires_grad_()
        twins = [_Twins(layer) for layer in layers]
        for layer, each in zip(layers, twins, strict=True):
            layer.quantize_weights()
            with each.in_place():
                graph, (output, _) = _capture(partial(layer.forward, hidden_states=entering, **options), pool)
            passes.append((graph, entering, output))
            entering = output.detach().requires_grad_()
        output_gradient = torch.empty_like(entering)
        for each in reversed(twins):
            forward, entering, output = passes.pop()
            backward, gradient = _capture(partial(each.backward, entering, output, output_gradient), pool)
            recording = _Recording(forward, entering.detach(), output.detach(), backward, output_gradient, gradient)
            recordings.append(recording)
            output_gradient = gradient
    torch.cuda.current_stream().wait_stream(stream)
    return recordings[::-1]


def _capture(run: Callable[[], Any], pool: Any) -> tuple[torch.cuda.CUDAGraph, Any]:
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as NCCL's watchdog, may ask about events meanwhile.
    graph.capture_begin(pool, capture_error_mode="thread_local")
    try:
        answer = run()
    finally:
        graph.capture_end()
    return graph, answer


class _Twins:
    """Stand-ins for a layer's parameters, in the same memory, while it is recorded.

    A parameter's own node of the backward pass was made on the stream of the program, which a recording must not touch.
    """

    def __init__(self, layer: _Layer) -> None:
        self._places = [
            (module._parameters, name, parameter)
            for module in layer.module.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None and parameter.requires_grad
        ]
        self._twins = [torch.nn.Parameter(parameter.detach()) for _, _, parameter in self._places]
        for twin, (_, _, parameter) in zip(self._twins, self._places, strict=True):
            setattr(twin, "main_grad", parameter.main_grad)  # noqa: B010 - attributes of Megatron's on a plain tensor
            setattr(twin, "grad_added_to_main_grad", False)  # noqa: B010

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the layer compute with them."""
        for twin, (parameters, name, _) in zip(self._twins, self._places, strict=True):
            parameters[name] = twin
        try:
            yield
        finally:
            for parameters, name, parameter in self._places:
                parameters[name] = parameter

    def backward(self, entering: Tensor, output: Tensor, output_gradient: Tensor) -> Tensor:
        """The gradient of `entering`; the parameters' are added to their `main_grad`, where a product has not."""
        gradient, *gradients = torch.autograd.grad(output, (entering, *self._twins), output_gradient)
        for twin, each in zip(self._twins, gradients, strict=True):
            if not getattr(twin, "grad_added_to_main_grad"):  # noqa: B009
                getattr(twin, "main_grad").add_(each)  # noqa: B009
        return gradient
