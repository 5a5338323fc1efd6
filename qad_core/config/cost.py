"""What a step takes in arithmetic, and in time where the GPU's rate is known, from the config and the models' shapes.

Owns the count of floating point operations and the division by a measured efficiency. Communication between ranks,
evaluations and checkpoints are not in it, so that a run over many ranks takes longer than it says.
"""

from __future__ import annotations

from dataclasses import dataclass

from qad_core.config.devices import GPUS, MEASURED_ON, Device, Gpu
from qad_core.config.parameters import count_multiplied, count_stage, is_mixture, query_width
from qad_core.config.schema import ArchitectureConfig, RunConfig

_MIXTURE_SHARE = 0.65
"""Share of a dense model's efficiency that a mixture reached: two layers of Qwen3-30B-A3B on one and on two H200s (EP
2), 364 and 204 ms a step (README, Measured). Experts see few rows each, and their counts are waited for on the host."""
_COPY_SHARE = 0.88
"""Share of a GPU's memory rate that large copies reach: 4.28 TB/s of an H200's 4.8 (README, Measured)."""
_SHARED_BYTES, _OWN_BYTES = 42, 4
"""Bytes that the optimizer moves a parameter: its share of main weights, moments and gradients; clearing gradients."""


@dataclass(frozen=True)
class Arithmetic:
    """Floating point operations of one sequence, over all ranks."""

    teacher_forward: float
    student_forward: float
    student_backward: float
    recomputation: float
    attention: float
    """Of all passes: causal, so half of the pairs of tokens."""
    output_layer: float
    """Both models' logits and the gradients."""

    @property
    def total(self) -> float:
        """All of it."""
        blocks = self.teacher_forward + self.student_forward + self.student_backward + self.recomputation
        return blocks + self.attention + self.output_layer


@dataclass(frozen=True)
class CostPrediction:
    """Of the whole run, without what the module names."""

    flops_per_step: float
    """Over all ranks."""
    seconds_per_step: float | None
    """None where the device's rate is not known; so are those below."""
    tokens_per_second: float | None
    gpu_hours: float | None
    efficiency: float | None
    """Share of the GPU's dense bf16 rate that the passes are taken to reach."""
    is_efficiency_measured: bool
    """Whether it was measured on this type of GPU, with a dense model."""


def predict_cost(
    config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig, device: Device
) -> CostPrediction:
    """The layout must be one that `checks_layout` finds nothing wrong with."""
    train = config.train
    arithmetic = count_arithmetic(config, architecture, teacher)
    flops = arithmetic.total * train.global_batch_size
    if device.gpu is None:
        return CostPrediction(flops, None, None, None, None, is_efficiency_measured=False)
    efficiency = device.gpu.efficiency or GPUS[MEASURED_ON].efficiency or 1.0
    efficiency *= _MIXTURE_SHARE if is_mixture(architecture) else 1.0
    seconds = _passes_seconds(config, arithmetic, device.gpu.flops * efficiency)
    seconds += _update_seconds(config, architecture, device.gpu)
    return CostPrediction(
        flops_per_step=flops,
        seconds_per_step=seconds,
        tokens_per_second=train.global_batch_size * train.sequence_length / seconds,
        gpu_hours=seconds * train.train_iterations * config.cluster.world_size / 3600,
        efficiency=efficiency,
        is_efficiency_measured=device.gpu.efficiency is not None and not is_mixture(architecture),
    )


def count_arithmetic(config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig) -> Arithmetic:
    """Of one sequence: two operations a weight and token forward, four backward; `loss: qat` needs no teacher."""
    tokens, is_qad = config.train.sequence_length, config.loss == "qad"
    recomputes = config.train.recompute == "full"
    student = 2.0 * tokens * count_multiplied(architecture)
    ours, theirs = _attention(architecture, tokens), _attention(teacher, tokens) * is_qad
    # Flash attention makes its scores again backward: five products where the forward pass has two.
    attention = ours * (1 + recomputes + 2.5) + theirs
    head = 2.0 * tokens * architecture.vocab_size
    return Arithmetic(
        teacher_forward=2.0 * tokens * count_multiplied(teacher) * is_qad,
        student_forward=student,
        student_backward=2 * student,
        recomputation=student * recomputes,
        attention=attention,
        output_layer=head * (3 * architecture.hidden_size + teacher.hidden_size * is_qad),
    )


def _attention(architecture: ArchitectureConfig, tokens: int) -> float:
    """Forward: two products over half of the pairs of tokens."""
    return 2.0 * tokens * tokens * query_width(architecture) * architecture.num_layers


def _passes_seconds(config: RunConfig, arithmetic: Arithmetic, rate: float) -> float:
    """All micro-batches through the pipeline, whose slowest stage is the last, with the output layer."""
    stages, tensor = config.parallelism.pipeline_model_parallel_size, config.parallelism.tensor_model_parallel_size
    slowest = (arithmetic.total - arithmetic.output_layer) / stages + arithmetic.output_layer
    a_micro_batch = config.train.micro_batch_size * slowest / (tensor * rate)
    return (config.num_micro_batches + stages - 1) * a_micro_batch


def _update_seconds(config: RunConfig, architecture: ArchitectureConfig, gpu: Gpu) -> float:
    """Clipping, AdamW and clearing gradients move memory and compute little."""
    parameters = count_stage(architecture, config.parallelism, 0)
    replicas = config.data_parallel_size
    expert_replicas = max(1, replicas // config.parallelism.expert_model_parallel_size)
    moved = parameters.all * _OWN_BYTES
    moved += parameters.dense * _SHARED_BYTES / replicas + parameters.experts * _SHARED_BYTES / expert_replicas
    return moved / (gpu.bytes_per_second * _COPY_SHARE)
