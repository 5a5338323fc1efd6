"""Losses between layers inside student and teacher, beside the one between their logits.

Owns what is captured of the two forward passes, each pair's loss and gradient, and their weight against the KL. Which
layers may be compared is `config/checks_intermediate.py`'s. modelopt's own hooks and losses are not used: those hand
a layer to one pair alone, leave a recomputed layer without a gradient, cannot name the final norm twice, and see the
teacher's attention and MLP with the residual that is added in place afterwards.

The losses are modelopt's (`HiddenStateCosineLoss`, `MSELoss`, in float32), and so is their weight
(`LogitsAndIntermediatesLossBalancer`): their mean over the pairs is scaled, in each micro-batch anew, to the size of
the KL, and no gradient goes through that scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core import parallel_state
from torch import Tensor

from qad_core.config.intermediate_layers import LayerLoss, LayerPair, name_on_stage
from qad_core.kernels.chunks import TokenSelection
from qad_core.kernels.products import logits_dtype
from qad_core.models.spec import HiddenStatesGPTModel


@dataclass(frozen=True)
class BalancedLoss:
    """What the pairs of one micro-batch come to; both are sums over tokens, 0-dim, and have no graph."""

    mean: Tensor
    """Mean over the pairs, as it is."""
    scaled: Tensor
    """The same scaled, as it is part of the whole loss."""


class IntermediateLosses:
    """The compared pairs of layers of two models, on the last pipeline stage.

    Their gradients are made with the losses and added where the student's backward pass comes by the compared layers.
    One micro-batch has its forward and backward pass before the next, as the last stage's schedule has it.
    """

    def __init__(
        self, student: HiddenStatesGPTModel, teacher: HiddenStatesGPTModel, pairs: Sequence[LayerPair]
    ) -> None:
        """Hook the pairs' layers; both models' forward passes are looked at while the student is in training mode."""
        self._is_sharded = student.config.sequence_parallel
        self._pairs = [_ComparedPair(student, teacher, pair) for pair in pairs]

    def compare(self, loss_mask: Tensor, kl: Tensor, weight: float) -> BalancedLoss:
        """Losses of the micro-batch that both models have just seen.

        Args:
            loss_mask: [b, s], on the host; a token's weight, as `kd_loss_from_hidden_states` has it.
            kl: sum of the KL over the micro-batch's tokens, 0-dim, the same on all tensor-parallel ranks.
            weight: of the KL in the whole loss.
        """
        selection = self._select(loss_mask)
        mean = torch.stack([pair.compare(selection) for pair in self._pairs]).mean()
        if self._is_sharded:
            dist.all_reduce(mean, group=parallel_state.get_tensor_model_parallel_group())
        # Where nothing differs, or no token counts, there is nothing to scale. A mean that is not finite stays so.
        scale = weight * torch.where(mean > 0, kl.detach() / mean, 1.0)
        for pair in self._pairs:
            pair.scale = scale / len(self._pairs)
        return BalancedLoss(mean, mean * scale)

    def _select(self, loss_mask: Tensor) -> TokenSelection:
        student = self._pairs[0].student_output  # [s, b, h], or this rank's part of the sequence
        mask = loss_mask.transpose(0, 1)  # [s, b]
        if self._is_sharded:
            first = parallel_state.get_tensor_model_parallel_rank() * student.shape[0]
            mask = mask[first : first + student.shape[0]]
        return TokenSelection.from_mask(mask, student)


class _ComparedPair:
    """One pair of layers, in the order of a micro-batch: teacher and student seen, compared, gradient added."""

    def __init__(self, student: HiddenStatesGPTModel, teacher: HiddenStatesGPTModel, pair: LayerPair) -> None:
        self.scale: Tensor | None = None
        """What the gradient is multiplied by, 0-dim."""
        self._loss: LayerLoss = pair.loss
        self._is_training = lambda: student.training  # the teacher's modules never are
        self._student: Tensor | None = None  # [s, b, h], without a graph
        self._teacher: Tensor | None = None  # [s, b, h]
        self._gradient: Tensor | None = None  # [s, b, h]
        _find_layer(student, pair.student).register_forward_hook(self._see_student)
        _find_layer(teacher, pair.teacher).register_forward_hook(self._see_teacher)

    @property
    def student_output(self) -> Tensor:
        """The student's output that was seen last [s, b, h]."""
        assert self._student is not None
        return self._student

    def compare(self, selection: TokenSelection) -> Tensor:
        """Sum of the loss over the counted tokens of this rank, 0-dim; keeps the gradient and drops the outputs."""
        assert self._student is not None and self._teacher is not None
        total, self._gradient = layer_loss(self._student, self._teacher, selection, self._loss)
        self._student = self._teacher = None
        return total

    def _see_teacher(self, _module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        if self._is_training():
            # A copy: without a gradient to keep, Megatron adds the residual to what attention and MLP gave in place.
            self._teacher = _hidden_states(output).clone()

    def _see_student(self, _module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        if not self._is_training():
            return
        hidden_states = _hidden_states(output)
        # With a gradient at hand this is the backward pass, in which a layer is recomputed: it has been compared. Of
        # the first pass through such a layer autograd knows nothing, of the second it does, and takes the gradient.
        if self._gradient is None:
            self._student = hidden_states.detach()
        if hidden_states.requires_grad:
            hidden_states.register_hook(self._add_gradient)

    def _add_gradient(self, gradient: Tensor) -> Tensor:
        assert self._gradient is not None and self.scale is not None
        own, self._gradient = self._gradient, None
        return gradient + own * self.scale


def layer_loss(student: Tensor, teacher: Tensor, selection: TokenSelection, loss: LayerLoss) -> tuple[Tensor, Tensor]:
    """(sum over the selected tokens, each times its weight, 0-dim; its gradient by the student's output [s, b, h]).

    Both outputs are [s, b, h]. `cosine` is 1 - cos(student, teacher), `mse` the mean of squared differences over h;
    both are computed in float32, or float64 for float64 outputs. The gradient has the type of `student`.
    """
    wide = logits_dtype(student.dtype)
    target = selection.take(teacher.flatten(0, 1)).to(wide)  # [n, h]
    with torch.enable_grad():
        values = selection.take(student.detach().flatten(0, 1)).to(wide).requires_grad_()  # [n, h]
        if loss == "cosine":
            losses = F.cosine_embedding_loss(values, target, target.new_ones(1), reduction="none")  # [n]
        else:
            losses = F.mse_loss(values, target, reduction="none").mean(-1)  # [n]
        total = losses.sum() if selection.weights is None else (losses * selection.weights).sum()
        (gradient,) = torch.autograd.grad(total, values)
    return total.detach(), selection.put(gradient.to(student.dtype)).view_as(student)


def _find_layer(model: HiddenStatesGPTModel, name: str) -> torch.nn.Module:
    first: Any = model.decoder.layers[0]
    return model.get_submodule(name_on_stage(name, first.layer_number - 1))


def _hidden_states(output: Any) -> Tensor:
    """Of what Megatron's layers answer: hidden states alone, or with a bias or a context that they have not here."""
    return output[0] if isinstance(output, tuple) else output
