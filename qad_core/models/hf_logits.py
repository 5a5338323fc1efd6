"""Compares an exported folder, run as transformers' model, with the student: linear by linear, and in logits.

Both compute in float32, whatever the student trained in.

FP4's rounding is a step: of two inputs one float32 rounding apart, one may take the next number, a quarter away, and a
few layers on nothing would be left to compare; a router's choice is a step, too. So each quantized linear and each
router of the exported model is first asked for its own input, which has to be the student's within `bound_of`, and then
goes on with the student's, which both quantize to the same bits. What is left is float32's rounding alone. A layer that
was left unquantized, or has another's weight or scale, is off by several percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qad_core.config.schema import ArchitectureConfig
from qad_core.kernels.nvfp4_backend import invalidate_weight_cache
from qad_core.kernels.nvfp4_experts import nvfp4_rows_by_expert
from qad_core.models.hf_exported_model import router_name, run_exported
from qad_core.models.hf_parts import QuantizedLinear, list_parts
from qad_core.models.hf_verify import ExportedTensors
from qad_core.models.spec import HiddenStatesGPTModel

_FLOAT32_ROUNDING = 2.0**-24
_MARGIN = 8


@dataclass(frozen=True)
class LogitsComparison:
    """Largest differences, each relative to the largest magnitude of the student's."""

    tokens: int
    bound: float
    inputs: float
    """Over all inputs of quantized linears."""
    logits: float
    problems: list[str] = field(default_factory=list[str])
    """In the order in which the model computes; the first names what is wrong, others may follow from it."""


@dataclass(frozen=True)
class _Input:
    """What one linear of the student was given."""

    rows: Tensor
    """[tokens, in] float32; of an expert, the tokens that were sent to it."""
    quantized: Tensor
    """What the student multiplied with."""


_Inputs = dict[str, _Input]


def bound_of(architecture: ArchitectureConfig) -> float:
    """Largest relative difference between two float32 evaluations of the same model, in any order of summation.

    The roundings of a sum of K products are as often up as down, and move it by about sqrt(K) of them (Higham & Mary,
    "A new approach to probabilistic rounding error analysis", 2019). K is the widest sum of a layer, or the number of
    additions to the residual stream. Eight times that is left, for two evaluations and for the largest of many values.
    Measured on CPUs in units of sqrt(K) 2^-24, on SmolLM2-135M (K 1536) and the tests' models (K 128): the
    exported model differs by 0 to 0.4; with its products summed in float64 by 1.1, and one addend after the other, the
    worst order there is, by 3.3. One linear of SmolLM2 left unquantized is off by 270 times this bound.
    """
    widest = max(
        architecture.hidden_size,
        architecture.moe_ffn_hidden_size or architecture.ffn_hidden_size,
        architecture.num_attention_heads * architecture.kv_channels,
    )
    return _MARGIN * math.sqrt(max(widest, 2 * architecture.num_layers)) * _FLOAT32_ROUNDING


@torch.no_grad()
def compare_logits(
    folder: Path,
    found: ExportedTensors,
    student: HiddenStatesGPTModel,
    architecture: ArchitectureConfig,
    tokens: Tensor,
    *,
    activations: bool,
) -> LogitsComparison:
    """Run both on `tokens` [b, s]; the files' tensors must have passed `check_tensors`."""
    inputs, theirs = _run_student(student, architecture, tokens)
    comparison = _Comparison(inputs, bound_of(architecture))
    ours = run_exported(folder, found, comparison.take_input, tokens.to(theirs.device), activations=activations)
    comparison.compare("logits", ours, theirs)
    logits = comparison.differences.pop("logits")
    worst = max(comparison.differences.values(), default=0.0)
    return LogitsComparison(tokens.numel(), comparison.bound, worst, logits, comparison.problems)


class _Comparison:
    """Of the exported model's inputs with the student's."""

    def __init__(self, inputs: _Inputs, bound: float) -> None:
        self.inputs, self.bound = inputs, bound
        self.differences: dict[str, float] = {}
        self.problems: list[str] = []

    def compare(self, what: str, ours: Tensor, theirs: Tensor) -> None:
        difference = float((ours - theirs).abs().amax() / theirs.abs().amax().clamp(min=1e-30))
        self.differences[what] = difference
        if not difference <= self.bound:  # a NaN too
            self.problems.append(f"{what} of the exported model differ by {difference:.2g}, more than {self.bound:.2g}")

    def take_input(self, name: str, ours: Tensor, quantize: Callable[[Tensor], Tensor]) -> Tensor:
        """The student's input of this linear, quantized, after comparing our own with it."""
        theirs = self.inputs.get(name)
        if theirs is None or theirs.rows.numel() != ours.numel():
            self.problems.append(f"{name} is given other tokens than the student's")
            return quantize(ours)
        rows = theirs.rows.view(ours.shape)
        self.compare(f"the inputs of {name}", ours, rows)
        quantized = quantize(rows)
        if not torch.equal(quantized.flatten(), theirs.quantized.flatten()):
            self.problems.append(f"{name} quantizes its inputs to other values than the student's")
        return quantized


def _run_student(
    student: HiddenStatesGPTModel, architecture: ArchitectureConfig, tokens: Tensor
) -> tuple[_Inputs, Tensor]:
    """What each linear was given, tokens in the order of [s, b], and logits [b, s, V]."""
    inputs: _Inputs = {}
    hooks: list[Any] = [student.embedding.register_forward_hook(lambda _module, _inputs, output: output.float())]
    for layer in [*student.decoder.layers, student.decoder.final_layernorm]:
        hooks += _compute_in_float32(layer)
    for part in list_parts(student, architecture):
        if isinstance(part, QuantizedLinear):
            hooks.append(part.module.register_forward_pre_hook(_note(part, inputs)))
    if architecture.family == "qwen3_moe":
        for index, layer in enumerate(student.decoder.layers):
            hooks.append(cast(Any, layer).mlp.router.register_forward_pre_hook(_note_router(index, inputs)))
    was_training = student.training
    student.eval()
    try:
        tokens = tokens.to(student.output_weight().device)
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        hidden = student(tokens, positions, None)  # [s, b, h]
    finally:
        for hook in hooks:
            hook.remove()
        student.train(was_training)
    head = student.output_weight()[: architecture.vocab_size].float()
    return inputs, F.linear(hidden, head).transpose(0, 1)


def _compute_in_float32(module: Any) -> list[Any]:
    """Hooks that give a module float32 weights while it runs, and its own again afterwards."""
    own: list[tuple[nn.Parameter, Tensor]] = []

    def widen(_module: nn.Module, _args: Any) -> None:
        own.extend((parameter, parameter.data) for parameter in module.parameters())
        for parameter, data in own:
            parameter.data = data.float()

    def restore(_module: nn.Module, _args: Any, _output: Any) -> None:
        for parameter, data in own:
            parameter.data = data
        own.clear()
        invalidate_weight_cache(module)

    return [module.register_forward_pre_hook(widen), module.register_forward_hook(restore)]


def _note(linear: QuantizedLinear, inputs: _Inputs) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def note(module: Any, args: tuple[Any, ...]) -> None:
        rows = args[0].flatten(0, -2)
        quantizer = module.input_quantizer
        if len(args) > 1:  # an expert's linear is told how many rows each has
            counts: list[int] = args[1].tolist()
            quantized = nvfp4_rows_by_expert(rows, quantizer.amax, args[1]) if quantizer.is_enabled else rows
            repeat = len(linear.names) // len(counts)
            parts = [part for part in zip(rows.split(counts), quantized.split(counts), strict=True)]
            inputs.update({name: _Input(*parts[index // repeat]) for index, name in enumerate(linear.names)})
        else:
            inputs.update(dict.fromkeys(linear.names, _Input(rows, quantizer(rows))))

    return note


def _note_router(layer: int, inputs: _Inputs) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
        rows = args[0].flatten(0, -2)
        inputs[router_name(layer)] = _Input(rows, rows)

    return note
