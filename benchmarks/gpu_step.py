"""One distillation step of a Qwen3-1.7B-shaped model on one GPU: `python -m benchmarks.gpu_step [--profile]`.

Builds teacher and student from random weights of the model's shape, with the project's own parts in the order of a
training run, and times forward with backward, and the optimizer, on random tokens. The peer is plain glue of
megatron-core and modelopt, measured by hand (345 ms on an H200 at micro-batch 2).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.figure import Figure, print_figure
from qad_core.commands.output import console
from qad_core.config.schema import (
    ArchitectureConfig,
    DistillationConfig,
    ParallelismConfig,
    QuantizationConfig,
    TrainConfig,
)
from qad_core.config.yaml_file import read_yaml
from qad_core.kernels.nvfp4_backend import enable_weight_cache, invalidate_weight_cache
from qad_core.models.arch import make_transformer_config
from qad_core.models.spec import build_gpt_model
from qad_core.train.batches import Batch
from qad_core.train.distill import convert_to_distillation_model, make_forward_step, plain_forward_step, unwrap
from qad_core.train.evaluate import reduce_sums, run_schedule
from qad_core.train.layer_graphs import record_layers
from qad_core.train.optim import build_optimizer, step_if_finite, wrap_data_parallel
from qad_core.train.parallel import RankContext, initialize_parallel
from qad_core.train.quantize import quantize_student
from qad_core.train.quantized_linears import shorten_linears
from qad_core.train.teacher_graph import can_record

MODEL = Path(__file__).parents[1] / "configs" / "models" / "qwen3-1.7b.yaml"
SEQUENCE_LENGTH = 4096
WEIGHT_DEVIATION = 0.02
PERTURBATION = 0.02
"""Of the student's weights against the teacher's, as a share of their own deviation."""


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro-batch-size", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--layers", type=int, help="instead of the model's own")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--eager", action="store_true", help="without recorded graphs of teacher and student")
    parser.add_argument("--profile", action="store_true", help="also print where one step's time goes")
    parser.add_argument("--json", type=Path, help="file to write the figure to")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: nothing was measured", file=sys.stderr)
        return 2
    architecture = read_architecture(arguments.layers)
    parallelism = ParallelismConfig()
    context = initialize_parallel(parallelism, device="cuda", precision="bf16")
    model, optimizer = build(architecture, parallelism, context)
    if arguments.eager:
        stop_replaying(model)
    measured = [
        measure(model, optimizer, random_batches(architecture, size, context), context, size, arguments.steps)
        for size in arguments.micro_batch_size
    ]
    figure = describe(measured, torch.cuda.get_device_name())
    print_figure(figure, console())
    if arguments.profile:
        size = arguments.micro_batch_size[0]
        print_profile(model, random_batches(architecture, size, context), size)
    if arguments.json:
        arguments.json.write_text(figure.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def read_architecture(num_layers: int | None = None) -> ArchitectureConfig:
    """That of the shipped model, cut to so many layers."""
    architecture = ArchitectureConfig.model_validate(read_yaml(MODEL).values["architecture"])
    return architecture.model_copy(update={"num_layers": num_layers or architecture.num_layers})


def build(architecture: ArchitectureConfig, parallelism: ParallelismConfig, context: RankContext) -> tuple[Any, Any]:
    """A wrapped distillation model from random weights, calibrated on random tokens, and its optimizer."""
    torch.manual_seed(0)
    transformer_configs = [
        make_transformer_config(architecture, parallelism, params_dtype=context.params_dtype) for _ in "ts"
    ]
    teacher, student = (build_gpt_model(architecture, each, context) for each in transformer_configs)
    with torch.no_grad():
        for ours, theirs in zip(student.parameters(), teacher.parameters(), strict=True):
            if theirs.dim() > 1:
                theirs.normal_(0, WEIGHT_DEVIATION)
            ours.copy_(theirs + PERTURBATION * WEIGHT_DEVIATION * torch.randn_like(theirs) * (theirs.dim() > 1))
    train = TrainConfig(sequence_length=SEQUENCE_LENGTH, micro_batch_size=1)

    def calibrate(plain: torch.nn.Module) -> None:
        run_schedule(plain, random_batches(architecture, 1, context), 1, train=train, forward_step=plain_forward_step)

    quantize_student(student, calibrate, QuantizationConfig())
    model = convert_to_distillation_model(student, teacher, objective="qad", distillation=DistillationConfig())
    enable_weight_cache(model)
    shorten_linears(model)
    wrapped = wrap_data_parallel(model, context)
    if can_record(model):
        record_layers(wrapped, model.decoder.layers)
    optimizer = build_optimizer(wrapped, train, context.params_dtype)
    wrapped.train()
    return wrapped, optimizer


def record_anew(wrapped: Any) -> None:
    """Forget the recordings of the student's layers, which are of one shape; none are made where none were."""
    layers = unwrap(wrapped).decoder.layers
    if any("forward" in vars(layer) for layer in layers):
        for layer in layers:
            del layer.forward
        record_layers(wrapped, layers)


def stop_replaying(wrapped: Any) -> None:
    """Have both models run as they are, without their recorded graphs."""
    model = unwrap(wrapped)
    for module in (model.teacher_model, *model.decoder.layers):
        del module.forward


def random_batches(architecture: ArchitectureConfig, micro_batch_size: int, context: RankContext) -> Iterator[Batch]:
    """The same random tokens again and again."""
    shape = (micro_batch_size, SEQUENCE_LENGTH)
    tokens = torch.randint(0, architecture.vocab_size, shape, device=context.device)
    positions = torch.arange(SEQUENCE_LENGTH, device=context.device).expand(shape)
    batch = Batch(tokens, tokens, torch.ones(shape), positions)
    while True:
        yield batch


def measure(
    model: Any, optimizer: Any, batches: Iterator[Batch], context: RankContext, micro_batch_size: int, steps: int
) -> dict[str, float]:
    """Medians of `steps` steps after three to warm up; peak memory in GiB, or NaN times when it does not fit."""
    train = TrainConfig(sequence_length=SEQUENCE_LENGTH, micro_batch_size=micro_batch_size)
    forward_step = make_forward_step(evaluate=False)
    passes, updates, host = [], [], []
    record_anew(model)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        for step in range(3 + steps):
            model.zero_grad_buffer()
            optimizer.zero_grad()
            torch.cuda.synchronize()
            start = time.perf_counter()
            stored = run_schedule(model, batches, 1, train=train, forward_step=forward_step, forward_only=False)
            queued = time.perf_counter()
            torch.cuda.synchronize()
            middle = time.perf_counter()
            num_tokens, loss_sum, _ = reduce_sums(stored, 3, context)
            step_if_finite(optimizer, loss=loss_sum / num_tokens, num_tokens=num_tokens)
            invalidate_weight_cache(model)
            torch.cuda.synchronize()
            if step >= 3:
                host.append(queued - start)
                passes.append(middle - start)
                updates.append(time.perf_counter() - middle)
    except torch.OutOfMemoryError:
        passes = updates = host = [float("nan")]
    return {
        "micro_batch_size": micro_batch_size,
        "pass_ms": 1000 * median(passes),
        "host_ms": 1000 * median(host),
        "optimizer_ms": 1000 * median(updates),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def describe(measured: list[dict[str, float]], device: str) -> Figure:
    """The table."""
    return Figure(
        title=f"One QAD step of the Qwen3-1.7B shape, sequence {SEQUENCE_LENGTH}, on one {device}",
        columns=("micro-batch", ">forward + backward ms", ">of it the host", ">optimizer ms", ">peak GiB", ">tokens/s"),
        rows=tuple(
            (
                f"{row['micro_batch_size']:.0f}",
                f"{row['pass_ms']:.1f}",
                f"{row['host_ms']:.1f}",
                f"{row['optimizer_ms']:.1f}",
                f"{row['peak_gib']:.1f}",
                f"{1000 * row['micro_batch_size'] * SEQUENCE_LENGTH / (row['pass_ms'] + row['optimizer_ms']):.0f}",
            )
            for row in measured
        ),
        sentences=("Medians; the optimizer's part includes forgetting the quantized weights.",),
        data={"steps": json.dumps(measured)},
    )


def print_profile(model: Any, batches: Iterator[Batch], micro_batch_size: int) -> None:
    """Kernels of one step by their time on the GPU."""
    train = TrainConfig(sequence_length=SEQUENCE_LENGTH, micro_batch_size=micro_batch_size)
    model.zero_grad_buffer()
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        run_schedule(model, batches, 1, train=train, forward_step=make_forward_step(evaluate=False), forward_only=False)
        torch.cuda.synchronize()
    print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=70))


if __name__ == "__main__":
    sys.exit(main())
