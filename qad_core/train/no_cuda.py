"""What megatron-core needs on a machine without CUDA: every stand-in, with its reason.

Owns the patches of `torch.cuda`, `torch.distributed` and megatron-core, and nothing else: which device
a run computes on is chosen in `parallel.py`. The rest of the code is written as if for GPUs and never
asks whether a stand-in is at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")
_installed: CpuDeviceMode | None = None


def install_cpu_stand_ins() -> None:
    """Make megatron-core run on the CPU of this process; a second call, or a machine with CUDA, changes nothing more.

    The function mode is entered for good, in the calling thread: call it on the thread that trains.
    """
    global _installed
    _define_te_general_gemm()
    if _installed is not None or torch.cuda.is_available():
        return
    _stand_in_for_cuda_runtime()
    _stand_in_for_rng_states()
    _accept_tensor_split_sizes()
    _accept_uneven_parts()
    _skip_exchanges_of_one_rank()
    _installed = CpuDeviceMode()
    _installed.__enter__()


class CpuDeviceMode(TorchFunctionMode):
    """Answers calls for a CUDA device with the CPU.

    megatron-core writes `device="cuda"`, `.cuda()` and `.to("cuda")` in a hundred places. The mode sees
    every torch call, so whatever does not name a device leaves at once.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Rewrite the device of one torch call and make it."""
        if func in _HANDLERS:
            return _HANDLERS[func](*args, **(kwargs or {}))
        if not kwargs:
            return func(*args)
        if "device" in kwargs and _is_cuda(kwargs["device"]):
            kwargs = {**kwargs, "device": _CPU}
        return func(*args, **kwargs)


class CpuStream:
    """A stream on a device that has none: work is already done when the next call starts."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def wait_stream(self, _stream: object) -> None:
        """Nothing to wait for."""

    def wait_event(self, _event: object) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def record_event(self, event: CpuEvent | None = None) -> CpuEvent:
        """An event that happens now."""
        event = event or CpuEvent()
        event.record()
        return event


class CpuEvent:
    """An event that happens when it is recorded, since all work before it is done."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self._seconds = time.perf_counter()

    def record(self, _stream: object = None) -> None:
        """Happen now."""
        self._seconds = time.perf_counter()

    def elapsed_time(self, end: CpuEvent) -> float:
        """Milliseconds from this event to `end`."""
        return 1000 * (end._seconds - self._seconds)

    def wait(self, _stream: object = None) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """It has happened."""
        return True


def _is_cuda(device: object) -> bool:
    """Whether a device argument means a GPU; a bare integer is a GPU's index to torch."""
    if isinstance(device, str):
        return device.startswith("cuda")
    if isinstance(device, torch.device):
        return device.type == "cuda"
    return isinstance(device, int)


def _move_to_cuda(tensor: torch.Tensor, *_args: object, **_kwargs: object) -> torch.Tensor:
    return tensor


def _move_to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if args and _is_cuda(args[0]):
        args = (_CPU, *args[1:])
    if _is_cuda(kwargs.get("device")):
        kwargs["device"] = _CPU
    return torch.Tensor.to(tensor, *args, **kwargs)


def _name_or_change_type(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """Type names get the prefix of GPU tensors.

    megatron-core's optimizer and gradient clipping compare `tensor.type()` with 'torch.cuda.FloatTensor'.
    """
    answer = torch.Tensor.type(tensor, *args, **kwargs)
    return answer.replace("torch.", "torch.cuda.", 1) if isinstance(answer, str) else answer


# Calls whose device, or whose answer, does not stand in the `device` keyword.
_HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.Tensor.cuda: _move_to_cuda,
    torch.Tensor.to: _move_to,
    torch.Tensor.type: _name_or_change_type,
}


def _stand_in_for_cuda_runtime() -> None:
    """`torch.cuda` calls that need no CUDA to be answered."""
    cuda: Any = torch.cuda
    # megatron-core passes this as `device=`, so the device itself is the answer and the mode has less to do.
    cuda.current_device = lambda: _CPU
    cuda.set_device = lambda _device: None
    # Schedules and point-to-point communication wait for the GPU here.
    cuda.synchronize = lambda _device=None: None
    # Communication overlap and modelopt's timers make streams and events even where they are not used.
    cuda.Stream = CpuStream
    cuda.Event = CpuEvent
    cuda.current_stream = lambda _device=None: CpuStream()
    cuda.default_stream = lambda _device=None: CpuStream()
    cuda.stream = _enter_stream


def _enter_stream(_stream: object) -> AbstractContextManager[None]:
    return nullcontext()


def _stand_in_for_rng_states() -> None:
    """One generator serves: the CPU's is what "CUDA" random numbers come from."""
    from megatron.core.tensor_parallel import random as megatron_random

    def get_state(*_args: object, **_kwargs: object) -> torch.Tensor:
        return torch.get_rng_state()

    def set_state(new_state: torch.Tensor, *_args: object, **_kwargs: object) -> None:
        torch.set_rng_state(new_state)

    cuda: Any = torch.cuda
    cuda.get_rng_state = get_state
    cuda.set_rng_state = set_state
    cuda.manual_seed = torch.manual_seed
    # These reach into CUDA's default generators rather than calling torch.cuda.
    tracker: Any = megatron_random
    tracker._get_cuda_rng_state = get_state
    tracker._set_cuda_rng_state = set_state


def _accept_tensor_split_sizes() -> None:
    """The mixture-of-experts dispatcher passes split sizes as tensors, which gloo refuses."""
    original = torch.distributed.all_to_all_single

    def all_to_all_single(
        output: torch.Tensor,
        input: torch.Tensor,  # noqa: A002 - torch's own parameter name
        output_split_sizes: Iterable[Any] | None = None,
        input_split_sizes: Iterable[Any] | None = None,
        group: Any = None,
        async_op: bool = False,
    ) -> Any:
        return original(
            output, input, _to_integers(output_split_sizes), _to_integers(input_split_sizes), group, async_op
        )

    distributed: Any = torch.distributed
    distributed.all_to_all_single = all_to_all_single


def _accept_uneven_parts() -> None:
    """Tensor-parallel ranks of a mixture of experts hold different numbers of tokens; gloo wants equal ones."""
    distributed: Any = torch.distributed
    even_gather, even_scatter = distributed.all_gather, distributed.reduce_scatter

    def all_gather(
        tensor_list: list[torch.Tensor], tensor: torch.Tensor, group: Any = None, async_op: bool = False
    ) -> Any:
        if len({part.shape for part in tensor_list}) == 1:
            return even_gather(tensor_list, tensor, group, async_op)
        longest = max(len(part) for part in tensor_list)
        padded = [part.new_zeros(longest, *part.shape[1:]) for part in (tensor, *tensor_list)]
        padded[0][: len(tensor)] = tensor
        even_gather(padded[1:], padded[0], group)
        for part, source in zip(tensor_list, padded[1:], strict=True):
            part.copy_(source[: len(part)])

    def reduce_scatter(
        output: torch.Tensor,
        input_list: list[torch.Tensor],
        op: Any = torch.distributed.ReduceOp.SUM,
        group: Any = None,
        async_op: bool = False,
    ) -> Any:
        if len({part.shape for part in input_list}) == 1:
            return even_scatter(output, input_list, op, group, async_op)
        whole = torch.cat(input_list)
        torch.distributed.all_reduce(whole, op, group)
        output.copy_(whole.split([len(part) for part in input_list])[torch.distributed.get_rank(group)])

    distributed.all_gather, distributed.reduce_scatter = all_gather, reduce_scatter


def _skip_exchanges_of_one_rank() -> None:
    """gloo copies what a rank alone reduces or gathers onto itself, all gradients and weights; NCCL does nothing."""
    from megatron.core.distributed import param_and_grad_buffer

    buffers: Any = param_and_grad_buffer
    for name in ("dist_reduce_scatter_func", "dist_all_gather_func"):
        setattr(buffers, name, _unless_alone(getattr(buffers, name)))


def _unless_alone(exchange: Callable[..., Any]) -> Callable[..., Any]:
    def exchange_unless_alone(output: torch.Tensor, source: torch.Tensor, *, group: Any, **options: Any) -> Any:
        if torch.distributed.get_world_size(group) == 1 and output.data_ptr() == source.data_ptr():
            return None
        return exchange(output, source, group=group, **options)

    return exchange_unless_alone


def _to_integers(sizes: Iterable[Any] | None) -> list[int] | None:
    return None if sizes is None else [int(size) for size in sizes]


def _define_te_general_gemm() -> None:
    """The router asks whether `te_general_gemm` is None; without TransformerEngine the name is not even defined.

    The import guard of megatron-core 0.16.1 forgets it, on GPUs too.
    """
    from megatron.core.transformer.moe import moe_utils

    if not hasattr(moe_utils, "te_general_gemm"):
        setattr(moe_utils, "te_general_gemm", None)  # noqa: B010 - the name is not in the module's type
