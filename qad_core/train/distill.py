"""Student and teacher as one modelopt distillation model whose loss starts from hidden states.

Owns the criterion that modelopt calls with the captured hidden states of both, and the forward step
that megatron-core's schedules call. No full-vocabulary logits exist outside the loss's own chunks:
the models end at their final norm (`models/spec.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any, Literal, NamedTuple

import modelopt.torch.distill as mtd
import torch
from megatron.core import parallel_state, tensor_parallel
from modelopt.torch.distill.plugins.megatron import (
    DistillationConfig as ModeloptDistillationConfig,
)
from modelopt.torch.distill.plugins.megatron import (
    LogitsAndIntermediatesLossBalancer,
    adjust_distillation_model_for_mcore,
)
from torch.nn.modules.loss import _Loss

from qad_core.config.intermediate_layers import read_pairs
from qad_core.config.schema import DistillationConfig
from qad_core.kernels.cross_entropy import cross_entropy_from_hidden_states
from qad_core.kernels.evaluation import evaluate_from_hidden_states
from qad_core.kernels.head_gradients import MainGrad
from qad_core.kernels.kd_loss import kd_loss_from_hidden_states
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.train.batches import Batch
from qad_core.train.intermediate import IntermediateLosses
from qad_core.train.teacher_graph import ReplayedForward, can_record

Objective = Literal["qad", "qat"]
_HIDDEN_STATES = "decoder.final_layernorm"


class LossSums(NamedTuple):
    """One micro-batch's losses; all are sums over unmasked tokens, each times its entry of the loss mask, 0-dim."""

    total: torch.Tensor
    """What is trained on, with its graph."""
    told: torch.Tensor
    """The part of it that is reported: KL, or cross-entropy for `loss: qat`."""
    intermediate: torch.Tensor | None = None
    """Mean over the pairs of compared layers, as it is before it is scaled; None without pairs."""


class HiddenStatesLoss(_Loss):  # modelopt takes only subclasses of torch's private _Loss as criteria
    """modelopt criterion over the final hidden states of student and teacher.

    Returns sums over tokens, so that they are divided once by the global sum of the loss masks. An evaluation is of the
    forward KL over the whole vocabulary, whatever is trained on.
    """

    def __init__(
        self,
        student: HiddenStatesGPTModel,
        teacher: HiddenStatesGPTModel,
        objective: Objective,
        distillation: DistillationConfig,
        intermediate: IntermediateLosses | None = None,
    ) -> None:
        super().__init__()
        # Functions, not modules: a module here would register its weights a second time.
        self._student_weight: Callable[[], torch.Tensor] = student.output_weight
        self._teacher_weight: Callable[[], torch.Tensor] = teacher.output_weight
        self._is_tied = student.share_embeddings_and_output_weights and student.pre_process
        self._sequence_parallel = student.config.sequence_parallel
        self._objective = objective
        self._distillation = distillation
        self._intermediate = intermediate

    def forward(
        self, student_hidden: torch.Tensor, teacher_hidden: torch.Tensor | None, *, batch: Batch, evaluate: bool
    ) -> LossSums | torch.Tensor:
        """The sums to train on; when `evaluate`, the evaluation's five [5] float64.

        Both hidden states are [s, b, h] (the sequence sharded over TP under sequence parallelism).
        """
        student = self._rows(student_hidden)
        common: dict[str, Any] = {
            "loss_mask": batch.loss_mask.transpose(0, 1).reshape(-1),  # [s * b]
            "chunk_tokens": self._distillation.chunk_tokens,
            "tensor_parallel_group": parallel_state.get_tensor_model_parallel_group(),
        }
        labels = batch.labels.transpose(0, 1).reshape(-1)  # [s * b]
        if self._objective == "qat" and not evaluate:
            cross_entropy = cross_entropy_from_hidden_states(student, self._student_weight(), labels, **common)
            return LossSums(cross_entropy, cross_entropy.detach())
        assert teacher_hidden is not None
        heads = (student, self._student_weight(), self._rows(teacher_hidden), self._teacher_weight())
        if evaluate:
            return evaluate_from_hidden_states(*heads, labels, **common).to_tensor(student.device)
        if self._distillation.skip_lm_loss:
            # Megatron's schedule divides the summed gradients, never the loss, so that it can be added to them at once.
            total = getattr(heads[1], "main_grad", None)
            main_grad = None if total is None else MainGrad(total, is_tied=self._is_tied)
            loss = self._kd_loss(heads, common, main_grad=main_grad)
            return self._with_layers(loss, loss.detach(), batch, weight=1.0)
        weight = self._distillation.kd_loss_scale
        cross_entropy = cross_entropy_from_hidden_states(student, self._student_weight(), labels, **common)
        scaled = self._kd_loss(heads, common, scale=weight)
        return self._with_layers(cross_entropy + scaled, scaled.detach() / weight, batch, weight=weight)

    def _with_layers(self, loss: torch.Tensor, kl: torch.Tensor, batch: Batch, *, weight: float) -> LossSums:
        """The loss with that of the compared layers, which counts as much in it as the KL does."""
        if self._intermediate is None:
            return LossSums(loss, kl)
        layers = self._intermediate.compare(batch.loss_mask, kl, weight)
        return LossSums(loss + layers.scaled, kl, layers.mean)

    def _kd_loss(self, heads: tuple[torch.Tensor, ...], common: dict[str, Any], **options: Any) -> torch.Tensor:
        return kd_loss_from_hidden_states(
            *heads,
            temperature=self._distillation.temperature,
            divergence=self._distillation.divergence,
            top_k=self._distillation.top_k,
            **options,
            **common,
        )

    def _rows(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self._sequence_parallel:
            # The loss sums the vocabulary shards' gradients itself, so the gather's backward only splits.
            hidden_states = tensor_parallel.gather_from_sequence_parallel_region(
                hidden_states, tensor_parallel_output_grad=False
            )
        return hidden_states.flatten(0, 1)  # [s * b, h]


def convert_to_distillation_model(
    student: HiddenStatesGPTModel,
    teacher: HiddenStatesGPTModel,
    *,
    objective: Objective,
    distillation: DistillationConfig,
    records_teacher: bool = True,
) -> Any:
    """Return modelopt's distillation model around both; the teacher is frozen and never saved.

    With `records_teacher` its pass is recorded as a CUDA graph where it can be.
    """
    criterion: dict[tuple[str, str], _Loss] = {}
    if parallel_state.is_pipeline_last_stage():
        pairs = read_pairs(distillation.intermediate_layers)
        intermediate = IntermediateLosses(student, teacher, pairs) if pairs else None
        loss = HiddenStatesLoss(student, teacher, objective, distillation, intermediate)
        criterion[_HIDDEN_STATES, _HIDDEN_STATES] = loss
    # modelopt wants a balancer where there is no criterion (earlier pipeline stages); it is never asked.
    balancer = LogitsAndIntermediatesLossBalancer(skip_original_loss=True)
    mode = ("kd_loss", {"teacher_model": teacher, "criterion": criterion, "loss_balancer": balancer})
    model: Any = mtd.convert(student, mode=[mode])
    adjust_distillation_model_for_mcore(model, ModeloptDistillationConfig(criterion={}, loss_balancer=balancer))
    if objective == "qat":
        _rest_teacher_while_training(model)
    elif records_teacher and can_record(teacher) and not distillation.intermediate_layers:
        # A replay calls no hooks, so that layers inside the teacher would be compared as they were when recorded.
        model.teacher_model.forward = ReplayedForward(model.teacher_model.forward, teacher.decoder.final_layernorm)
    return model


def make_forward_step(*, evaluate: bool) -> Callable[[Iterator[Batch], Any], tuple[torch.Tensor, Any]]:
    """The `forward_step_func` of megatron-core's schedules, for training or for evaluation."""

    def forward_step(batches: Iterator[Batch], model: Any) -> tuple[torch.Tensor, Any]:
        batch = next(batches)
        hidden_states = model(batch.tokens, batch.position_ids, None)
        return hidden_states, partial(_loss_of, model=model, batch=batch, evaluate=evaluate)

    return forward_step


def _loss_of(hidden_states: torch.Tensor, *, model: Any, batch: Batch, evaluate: bool) -> tuple[Any, ...]:
    distillation_model = unwrap(model)
    losses = distillation_model.compute_kd_loss(skip_balancer=True, batch=batch, evaluate=evaluate)
    (sums,) = losses.values()
    # The mask is on the host; its sum becomes an argument of a kernel, and nothing is waited for.
    counted = hidden_states.new_zeros((), dtype=torch.double) + batch.loss_mask.sum(dtype=torch.double)
    num_tokens = counted.to(torch.int)  # for the schedule, which divides by nothing here (`optim.step_if_finite` does)
    if evaluate:
        return hidden_states.new_zeros(()), num_tokens, {"sums": sums}
    parts = [counted, *(part.detach().double() for part in sums if part is not None)]
    return sums.total, num_tokens, {"sums": torch.stack(parts)}


def plain_forward_step(batches: Iterator[Batch], model: Any) -> tuple[torch.Tensor, Any]:
    """The `forward_step_func` of a pass that only moves activations, such as calibration."""
    batch = next(batches)
    hidden_states = model(batch.tokens, batch.position_ids, None)
    return hidden_states, lambda output: (output.new_zeros(()), batch.loss_mask.sum().to(torch.int), {})


def unwrap(model: Any) -> Any:
    """The model inside DistributedDataParallel."""
    while hasattr(model, "module"):
        model = model.module
    return model


def _rest_teacher_while_training(model: Any) -> None:
    """Let `loss: qat` train without the teacher's forward pass, which only its evaluation needs.

    modelopt's forward always runs the teacher, and pipeline stages exchange both models' activations
    in one tensor; a resting teacher answers zeros of its own shape, which costs nothing.
    """
    teacher_forward = model.teacher_model.forward

    def forward(self: Any, tokens: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not model.training:
            return teacher_forward(tokens, *args, **kwargs)
        batch_size, sequence_length = tokens.shape
        rows = sequence_length // (
            parallel_state.get_tensor_model_parallel_world_size() if self.config.sequence_parallel else 1
        )
        return torch.zeros(
            rows, batch_size, self.config.hidden_size, dtype=self.config.params_dtype, device=tokens.device
        )

    model.teacher_model.forward = MethodType(forward, model.teacher_model)
