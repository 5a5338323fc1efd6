"""What one rank really holds: the repository's own model, wrapper and optimizer built from a config, and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from megatron.core import parallel_state

from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.kernels.nvfp4_backend import enable_weight_cache
from qad_core.models.arch import make_transformer_config
from qad_core.models.spec import build_gpt_model
from qad_core.train.batches import Batch
from qad_core.train.distill import convert_to_distillation_model, make_forward_step, plain_forward_step, unwrap
from qad_core.train.evaluate import run_schedule
from qad_core.train.optim import build_optimizer, wrap_data_parallel
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.quantize import quantize_student
from qad_core.train.quantized_linears import shorten_linears

Counts = dict[str, int]


class LiveSavedTensors:
    """Bytes of the storages that autograd keeps for the backward pass, and the most there were at once."""

    def __init__(self, exclude: set[int]) -> None:
        self._exclude = exclude
        self._held: dict[int, tuple[int, int]] = {}  # address -> (bytes, how often it is saved)
        self.live = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> _Held:
        """Count a tensor's storage once, however often it is saved."""
        return _Held(tensor, self)

    def take(self, tensor: torch.Tensor) -> int:
        """Add a storage; returns its address."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        size, count = self._held.get(address, (storage.nbytes(), 0))
        if count == 0 and address not in self._exclude:
            self.live += size
            self.peak = max(self.peak, self.live)
        self._held[address] = (size, count + 1)
        return address

    def drop(self, address: int) -> None:
        """Take a storage away where nothing else saves it."""
        size, count = self._held.pop(address)
        if count > 1:
            self._held[address] = (size, count - 1)
        elif address not in self._exclude:
            self.live -= size


class _Held:
    def __init__(self, tensor: torch.Tensor, owner: LiveSavedTensors) -> None:
        self.tensor, self._owner = tensor, owner
        self._address = owner.take(tensor)

    def __del__(self) -> None:
        self._owner.drop(self._address)


def count_held_bytes(configs: Sequence[RunConfig]) -> list[Counts]:
    """Build this rank's model and optimizer of each config, run a step's passes, and count; for every rank to call."""
    try:
        return [_count_one(config) for config in configs]
    finally:
        shut_down_parallel()


def _count_one(config: RunConfig) -> Counts:
    parallel_state.destroy_model_parallel()  # of the config before; the ranks stay joined
    return _count(config, initialize_parallel(config.parallelism, device="cpu", precision=config.train.precision))


def _count(config: RunConfig, context: RankContext) -> Counts:
    architecture = config.model.architecture
    assert architecture is not None
    student, teacher = (_build(config, architecture, context) for _ in "st")
    if config.quantization.format == "nvfp4":
        batches = _batches(config, architecture)

        def calibrate(plain: torch.nn.Module) -> None:
            run_schedule(plain, batches, 1, train=config.train, forward_step=plain_forward_step)

        quantize_student(student, calibrate, config.quantization)
    teacher_bytes = _bytes(teacher.parameters())
    model = convert_to_distillation_model(student, teacher, objective="qad", distillation=config.distillation)
    enable_weight_cache(model)
    shorten_linears(model)
    wrapped: Any = wrap_data_parallel(model, context)
    optimizer = build_optimizer(wrapped, config.train, context.params_dtype)
    wrapped.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    saved = _run_step(config, architecture, wrapped)
    return {
        "weights": _bytes(trained),
        "gradients": _bytes(parameter.main_grad for parameter in trained),
        "gradient buffers": sum(
            _bytes([buffer.grad_data]) for buffer in (*wrapped.buffers, *wrapped.expert_parallel_buffers)
        ),
        "optimizer": _optimizer_bytes(optimizer, context),
        "quantized weights": _cached_bytes(model),
        "teacher": teacher_bytes,
        "activations": saved,
    }


def _build(config: RunConfig, architecture: ArchitectureConfig, context: RankContext) -> Any:
    transformer_config = make_transformer_config(
        architecture, config.parallelism, params_dtype=context.params_dtype, recompute=config.train.recompute
    )
    model = build_gpt_model(architecture, transformer_config, context)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
    return model


def _run_step(config: RunConfig, architecture: ArchitectureConfig, wrapped: Any) -> int:
    weights = {tensor.untyped_storage().data_ptr() for tensor in unwrap(wrapped).parameters()}
    batches = _batches(config, architecture)
    step = make_forward_step(evaluate=False)
    options: dict[str, Any] = {"train": config.train, "forward_step": step, "forward_only": False}
    run_schedule(wrapped, batches, config.num_micro_batches, **options)  # fills the cache of quantized weights
    counter = LiveSavedTensors(weights | {_address(value) for value in _cached(unwrap(wrapped))})
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda held: held.tensor):
        run_schedule(wrapped, batches, config.num_micro_batches, **options)
    return counter.peak


def _batches(config: RunConfig, architecture: ArchitectureConfig) -> Iterator[Batch]:
    shape = (config.train.micro_batch_size, config.train.sequence_length)
    tokens = torch.randint(0, architecture.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, tokens, torch.ones(shape), torch.arange(shape[1]).expand(shape))
    while True:
        yield batch


def _optimizer_bytes(optimizer: Any, context: RankContext) -> int:
    """Main weights and moments; float32 weights are their own main weights."""
    total = 0
    for part in optimizer.chained_optimizers:
        for group in part.optimizer.param_groups:
            for parameter in group["params"]:
                state = part.optimizer.state[parameter]
                total += _bytes([state["exp_avg"], state["exp_avg_sq"]])
                total += _bytes([parameter]) if context.params_dtype == torch.bfloat16 else 0
    return total


def _cached(model: torch.nn.Module) -> list[torch.Tensor]:
    caches = (getattr(module, "_quantizer_cache", None) for module in model.modules())
    values = (getattr(cache, "_value", None) for cache in caches)
    return [value for value in values if isinstance(value, torch.Tensor)]


def _cached_bytes(model: torch.nn.Module) -> int:
    return _bytes(_cached(model))


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
