"""Megatron-core's data-parallel wrapper, distributed optimizer and learning-rate schedule, from our sections.

Owns the step that refuses non-finite gradients before they reach a weight, which megatron-core's own
step does not do without a loss scaler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import ChainedOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from qad_core.config.schema import TrainConfig
from qad_core.train.parallel import RankContext


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did."""

    grad_norm: float
    """Global gradient norm before clipping."""
    skipped: bool
    """Whether the weights were left alone because the norm was not finite."""


def wrap_data_parallel(model: Any, context: RankContext) -> DistributedDataParallel:
    """Wrap the model; gradients are accumulated and reduced in float32, frozen weights take no buffer."""
    on_gpu = context.device.type == "cuda"
    config = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        use_distributed_optimizer=True,
        overlap_grad_reduce=on_gpu,
        overlap_param_gather=False,
    )
    wrapped = DistributedDataParallel(model.config, config, model)
    model.config.finalize_model_grads_func = finalize_model_grads
    if on_gpu:
        model.config.no_sync_func = wrapped.no_sync
    return wrapped


def build_optimizer(model: DistributedDataParallel, train: TrainConfig, params_dtype: torch.dtype) -> ChainedOptimizer:
    """AdamW with float32 main weights and moments, sharded over data-parallel ranks."""
    config = OptimizerConfig(
        optimizer="adam",
        lr=train.learning_rate,
        min_lr=train.min_learning_rate,
        weight_decay=train.weight_decay,
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        adam_eps=train.adam_epsilon,
        clip_grad=train.clip_grad,
        bf16=params_dtype == torch.bfloat16,
        params_dtype=params_dtype,
        use_distributed_optimizer=True,
    )
    optimizer = get_megatron_optimizer(config, [model])
    chained = optimizer if isinstance(optimizer, ChainedOptimizer) else ChainedOptimizer([optimizer])
    for part in chained.chained_optimizers:
        _allocate_moments(part.optimizer)
        _choose_fused(part.optimizer)
    return chained


def _allocate_moments(adam: torch.optim.Optimizer) -> None:
    """Give torch's AdamW its state before the first step, which a checkpoint of step 0 and a load both need."""
    for group in adam.param_groups:
        for parameter in group["params"]:
            if not adam.state[parameter]:
                adam.state[parameter].update(
                    step=torch.zeros((), device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )


def _choose_fused(adam: torch.optim.Optimizer) -> None:
    """Have torch's AdamW take its step in one kernel; megatron-core has no setting for it, and a load forgets it."""
    for group in adam.param_groups:
        group.update(fused=True, foreach=False)


def load_optimizer(optimizer: ChainedOptimizer, state: dict[str, Any]) -> None:
    """Load a `fully_reshardable` optimizer state, with torch's AdamW in mind.

    torch's AdamW keeps its step count as a tensor of each parameter. megatron-core 0.16.1 looks for it
    among the saved shards, where its own saving leaves it out, and then hands one shared tensor to all
    parameters, which AdamW would count up once a parameter. Apex and TransformerEngine have no such tensor.
    """
    for part in optimizer.chained_optimizers:
        _carry_step_over(part)
    optimizer.load_state_dict(state)
    for part in optimizer.chained_optimizers:
        _choose_fused(part.optimizer)
        for parameter, moments in part.optimizer.state.items():
            if "step" in moments:
                moments["step"] = moments["step"].to(parameter.device, torch.float32, copy=True)


def _carry_step_over(part: Any) -> None:
    set_states = type(part)._set_main_param_and_optimizer_states

    def set_states_and_step(self: Any, model_param: torch.Tensor, tensors: dict[str, torch.Tensor]) -> None:
        group, order = self.model_param_group_index_map[model_param]
        moments = self.optimizer.state[self.optimizer.param_groups[group]["params"][order]]
        set_states(self, model_param, {**tensors, **{key: moments[key] for key in ("step",) if key in moments}})

    part._set_main_param_and_optimizer_states = MethodType(set_states_and_step, part)


def build_scheduler(optimizer: ChainedOptimizer, train: TrainConfig) -> OptimizerParamScheduler:
    """Warm-up and decay, counted in samples as the scripts do."""
    decay_samples = max(int(train.train_samples * train.decay_fraction), 1)
    warmup_samples = min(int(train.train_samples * train.warmup_fraction), decay_samples - 1)
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=train.learning_rate,
        min_lr=train.min_learning_rate,
        lr_warmup_steps=warmup_samples,
        lr_decay_steps=decay_samples,
        lr_decay_style=train.learning_rate_decay_style,
        start_wd=train.weight_decay,
        end_wd=train.weight_decay,
        wd_incr_steps=0,
        wd_incr_style="constant",
    )


def step_if_finite(optimizer: ChainedOptimizer, *, loss_is_finite: bool) -> StepResult:
    """Clip and step, unless the loss or the gradient norm is not finite: then no weight changes.

    The norm is global, so every rank decides alike.
    """
    optimizer.prepare_grads()
    grad_norm = float(optimizer.get_grad_norm())
    if not (loss_is_finite and math.isfinite(grad_norm)):
        return StepResult(grad_norm, skipped=True)
    for part in optimizer.chained_optimizers:
        parameters: list[torch.Tensor] = [*part.get_parameters()]
        if parameters and part.config.clip_grad > 0:
            clip_grad_by_total_norm_fp32(parameters, max_norm=part.config.clip_grad, total_norm=grad_norm)
    optimizer.step_with_ready_grads()
    return StepResult(grad_norm, skipped=False)


def learning_rate_of(optimizer: ChainedOptimizer) -> float:
    """The learning rate of the next step."""
    return float(optimizer.param_groups[0]["lr"])
