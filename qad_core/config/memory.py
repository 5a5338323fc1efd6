"""Bytes that each GPU holds while a run trains, from the config and the models' shapes alone.

Owns the account: what is held all the time, what comes and goes, and what lies outside the allocator. Parameters are
counted in `parameters.py`, activations in `activations.py`. Nothing is asked of a device here.

The account is of a training step. A start, a checkpoint and an evaluation take no more on the GPU: activations are not
kept there, and the optimizer's states are gathered on the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qad_core.config.activations import SavedActivations, Widths, saved_activations
from qad_core.config.checks_layout import NVFP4_BLOCK
from qad_core.config.devices import GIB, Device
from qad_core.config.parameters import StageParameters, chosen_experts, count_stage, mlp_width
from qad_core.config.schema import ArchitectureConfig, RunConfig

UNCERTAINTY = 0.1
"""Share by which a prediction may be off: peaks on one GPU and of data- and expert-parallel ranks were within it."""
UNCERTAINTY_UNMEASURED = 0.2
"""The same for what no GPU has been measured with, tensor- and pipeline-parallel ranks; assumed."""
UNCERTAINTY_CPU = 0.3
"""The same on a CPU, where the C library's heap and the libraries themselves weigh more."""
CONTEXT_BYTES = int(0.75 * GIB)
"""CUDA's context, kernels and cuBLAS's workspaces on a GPU; assumed, not measured."""
NCCL_BYTES = int(0.4 * GIB)
"""Buffers of one NCCL communicator; assumed, not measured."""
FRAGMENTATION = 0.04
"""Share of what is allocated that the allocator reserves beside it; assumed, not measured."""
PROCESS_BYTES = int(0.75 * GIB)
"""Python with torch, megatron-core and modelopt, and their heap, in a rank on a CPU."""
_LOGITS_BYTES_CPU = 192 * 2**20
_SCRATCH_BYTES_GPU = int(2.375 * GIB)
_CHUNK_TOKENS_GPU = (8192, 4096, 2048, 1024, 512, 256, 128)
"""These three are `kernels/chunks.py`'s; a test holds them together."""
_FLOAT = 4


@dataclass(frozen=True)
class MemoryPrediction:
    """Of the ranks of the pipeline stage that holds most."""

    stage: int
    stages: int
    held: Mapping[str, int]
    """Part -> bytes all through a step."""
    passing: Mapping[str, int]
    """Part -> bytes for a while; never two at once."""
    outside: Mapping[str, int]
    """Part -> bytes that the device gives beside torch's allocations."""
    uncertainty: float
    """Share of the total by which it may be off."""

    @property
    def allocated(self) -> int:
        """Peak of torch's allocations, which the trainer reports as `memory_gib` on a GPU."""
        return sum(self.held.values()) + max(self.passing.values())

    @property
    def total(self) -> int:
        """Peak that the device has to give."""
        return self.allocated + sum(self.outside.values())


def predict_memory(
    config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig, device: Device
) -> MemoryPrediction:
    """The fullest stage's account; the layout must be one that `checks_layout` finds nothing wrong with."""
    stages = config.parallelism.pipeline_model_parallel_size
    every = (_predict_stage(config, architecture, teacher, device, stage) for stage in range(stages))
    return max(every, key=lambda one: one.total)


def value_bytes_of(config: RunConfig, device: Device) -> int:
    """Bytes of a parameter and of an activation."""
    is_bf16 = device.has_bf16 if config.train.precision == "auto" else config.train.precision == "bf16"
    return 2 if is_bf16 else 4


def optimizer_bytes(config: RunConfig, parameters: StageParameters, value_bytes: int) -> int:
    """AdamW's float32 moments, and main weights where the weights themselves are not float32; a rank's even share."""
    a_parameter = 2 * _FLOAT + (_FLOAT if value_bytes != _FLOAT else 0)
    replicas = config.data_parallel_size
    expert_replicas = max(1, replicas // config.parallelism.expert_model_parallel_size)
    return a_parameter * parameters.dense // replicas + a_parameter * parameters.experts // expert_replicas


def loss_scratch_bytes(config: RunConfig, vocab_rows: int, tokens: int, value_bytes: int, *, is_gpu: bool) -> int:
    """Logits of student and teacher, and their gradient, of a chunk of tokens; the most that the loss takes.

    On a GPU with little left it takes less, down to chunks of some hundred tokens.
    """
    pair, row = 2 * vocab_rows * _FLOAT, vocab_rows * value_bytes
    requested = config.distillation.chunk_tokens
    if not is_gpu:
        return pair * min(requested or max(1, _LOGITS_BYTES_CPU // pair), tokens)
    if requested:
        return (pair + row) * min(requested, tokens)
    chunk = next((size for size in _CHUNK_TOKENS_GPU if pair * size <= _SCRATCH_BYTES_GPU // 2), 64)
    span = chunk * max(1, (_SCRATCH_BYTES_GPU - pair * chunk) // (row * chunk))
    return pair * min(chunk, tokens) + row * min(span, tokens)


def _predict_stage(
    config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig, device: Device, stage: int
) -> MemoryPrediction:
    size, layout = value_bytes_of(config, device), config.parallelism
    widths = Widths.of(config, value_bytes=size, is_fused=device.is_gpu)
    parameters = count_stage(architecture, layout, stage)
    saved = saved_activations(config, architecture, widths, stage)
    held = {
        "weights": parameters.all * size,
        "quantized weights": parameters.quantized * size * (config.quantization.format == "nvfp4"),
        "block scales": _block_scales(config, parameters),
        "gradients": parameters.all * _FLOAT,
        "optimizer": optimizer_bytes(config, parameters, size),
        "teacher": count_stage(teacher, layout, stage).all * size,
        "activations": _activations(config, architecture, teacher, widths, saved, stage),
        "compared layers": _compared_layers(config, architecture, widths, stage),
    }
    passing = {"backward pass of a layer": saved.recomputed_layer + _working(architecture, widths, is_backward=True)}
    passing["teacher's forward pass"] = _working(teacher, widths, is_backward=False)
    if stage == layout.pipeline_model_parallel_size - 1:
        passing["loss"] = _loss(config, architecture, teacher, widths, is_gpu=device.is_gpu)
    allocated = sum(held.values()) + max(passing.values())
    outside = _outside(config, architecture, device, allocated, passing)
    uncertainty = _uncertainty(config, device)
    return MemoryPrediction(stage, layout.pipeline_model_parallel_size, held, passing, outside, uncertainty)


def _uncertainty(config: RunConfig, device: Device) -> float:
    if not device.is_gpu:
        return UNCERTAINTY_CPU
    layout = config.parallelism
    is_measured = layout.tensor_model_parallel_size * layout.pipeline_model_parallel_size == 1
    return UNCERTAINTY if is_measured else UNCERTAINTY_UNMEASURED


def _activations(
    config: RunConfig,
    architecture: ArchitectureConfig,
    teacher: ArchitectureConfig,
    widths: Widths,
    saved: SavedActivations,
    stage: int,
) -> int:
    """Of all micro-batches that are on their way: in the 1F1B schedule as many as stages follow, and this one's."""
    stages = config.parallelism.pipeline_model_parallel_size
    in_flight = max(1, min(config.num_micro_batches, stages - stage))
    row = widths.shard_tokens * (architecture.hidden_size + teacher.hidden_size) * widths.value_bytes
    # What is received and sent, of both models in one tensor, is kept for the backward pass.
    exchanged = row * (stage > 0) + row * (stage < stages - 1)
    return in_flight * (saved.layers + saved.ends + exchanged)


def _loss(
    config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig, widths: Widths, *, is_gpu: bool
) -> int:
    """Scratch, final hidden states of both models, and the gradients that are made with the loss.

    The output layer's is added to its sum at once; where there is cross-entropy each loss makes one of its own first.
    """
    rows = architecture.vocab_size // widths.tensor
    is_sharded = widths.tensor > 1
    hidden = widths.tokens * (architecture.hidden_size + teacher.hidden_size) * widths.value_bytes
    if widths.shard_tokens < widths.tokens:
        hidden += widths.shard_tokens * (architecture.hidden_size + teacher.hidden_size) * widths.value_bytes
    gradient = widths.tokens * architecture.hidden_size * (_FLOAT if is_sharded else widths.value_bytes)
    scratch = loss_scratch_bytes(config, rows, widths.tokens, widths.value_bytes, is_gpu=is_gpu)
    head_gradients = (config.loss == "qat") + 2 * (config.loss == "qad" and not config.distillation.skip_lm_loss)
    return hidden + gradient + scratch + head_gradients * rows * architecture.hidden_size * _FLOAT


def _compared_layers(config: RunConfig, architecture: ArchitectureConfig, widths: Widths, stage: int) -> int:
    """The teacher's output of each compared layer until the loss, and the gradient by the student's after it."""
    is_last = stage == config.parallelism.pipeline_model_parallel_size - 1
    pairs = len(config.distillation.intermediate_layers) * is_last
    return pairs * widths.shard_tokens * architecture.hidden_size * widths.value_bytes


def _block_scales(config: RunConfig, parameters: StageParameters) -> int:
    """Of weights, where they are chosen at calibration and held: a float32 for each block."""
    is_held = config.quantization.format == "nvfp4" and config.quantization.weight_scales != "max"
    return parameters.quantized // NVFP4_BLOCK * _FLOAT * is_held


def _working(architecture: ArchitectureConfig, widths: Widths, *, is_backward: bool) -> int:
    """Tensors of a layer's MLP that live at once beside what is kept; a gradient of its weight in the backward pass."""
    rows = widths.tokens * chosen_experts(architecture)
    width = mlp_width(architecture) // widths.tensor
    values = rows * (3 * width + architecture.hidden_size) + widths.tokens * architecture.hidden_size
    weight = 2 * width * architecture.hidden_size if is_backward else 0
    return (values + weight) * widths.value_bytes


def _outside(
    config: RunConfig, architecture: ArchitectureConfig, device: Device, allocated: int, passing: Mapping[str, int]
) -> dict[str, int]:
    if not device.is_gpu:
        return {"Python and libraries": PROCESS_BYTES}
    layout = config.parallelism
    groups = (
        layout.tensor_model_parallel_size,
        layout.pipeline_model_parallel_size,
        layout.expert_model_parallel_size,
        config.data_parallel_size,
    )
    # One communicator of all ranks beside those of each axis.
    communicators = (config.cluster.world_size > 1) + sum(size > 1 for size in groups)
    # What recorded passes work in is kept for them between their replays.
    is_recordable = (
        config.train.cuda_graphs and layout.model_parallel_size == 1 and architecture.num_moe_experts is None
    )
    looks_inside = bool(config.distillation.intermediate_layers)
    teacher_pass = passing["teacher's forward pass"] * (is_recordable and config.loss == "qad" and not looks_inside)
    student_pass = passing["backward pass of a layer"] * (is_recordable and config.train.recompute == "none")
    return {
        "CUDA context": CONTEXT_BYTES,
        "NCCL": communicators * NCCL_BYTES,
        "recorded passes": teacher_pass + student_pass,
        "fragmentation": int(FRAGMENTATION * allocated),
    }
