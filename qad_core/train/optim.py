"""Megatron-core's data-parallel wrapper, distributed optimizer and learning-rate schedule, from our sections.

Owns the step that refuses non-finite gradients before they reach a weight, which megatron-core's own
step does not do without a loss scaler. Nothing of a step is read on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from megatron.core import optimizer as megatron_optimizer
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import ChainedOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer import distrib_optimizer as megatron_distributed_optimizer
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from torch import Tensor

from qad_core.config.schema import TrainConfig
from qad_core.train.parallel import RankContext
from qad_core.train.weight_gradients import add_in_products

_CLIP_EPSILON = 1e-6
"""Added to the norm when clipping, as megatron-core does."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did."""

    grad_norm: Tensor
    """Global norm of the mean gradient a token before clipping, 0-dim."""
    skipped: Tensor
    """Whether the weights were left alone because the loss or the norm was not finite, 0-dim bool."""


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
    add_in_products(wrapped)
    model.config.finalize_model_grads_func = _reduce_gradients
    if on_gpu:
        model.config.no_sync_func = wrapped.no_sync
    return wrapped


def _reduce_gradients(model: list[Any], num_tokens: Tensor | None = None, **options: Any) -> None:
    """megatron-core's reduction over ranks, without its division by `num_tokens`.

    That is a pass over all gradients, and waits for the device to tell whether there are any tokens; `step_if_finite`
    divides for free.
    """
    finalize_model_grads(model, None, **options)


def build_optimizer(model: DistributedDataParallel, train: TrainConfig, params_dtype: torch.dtype) -> ChainedOptimizer:
    """torch's AdamW with float32 main weights and moments, sharded over data-parallel ranks."""
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
    _take_torch_adam()
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


def _take_torch_adam() -> None:
    """Have megatron-core build, save and load torch's AdamW also where it finds TransformerEngine's or Apex's.

    Those know no way to skip a step, and keep its number elsewhere in a checkpoint. megatron-core asks no setting.
    """
    setattr(megatron_optimizer, "USING_PYTORCH_OPTIMIZER", True)  # noqa: B010 - not in the type
    for flag in ("HAVE_APEX_OR_TE", "USING_TE_OPTIMIZER", "USING_APEX_OPTIMIZER"):
        setattr(megatron_distributed_optimizer, flag, False)


def load_optimizer(optimizer: ChainedOptimizer, state: dict[str, Any]) -> None:
    """Load a `fully_reshardable` optimizer state, with torch's AdamW in mind.

    torch's AdamW keeps its step count as a tensor of each parameter. megatron-core 0.16.1 looks for it
    among the saved shards, where its own saving leaves it out, and then hands one shared tensor to all
    parameters, which AdamW would count up once a parameter.
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

    def set_states_and_step(self: Any, model_param: Tensor, tensors: dict[str, Tensor]) -> None:
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


def step_if_finite(optimizer: ChainedOptimizer, *, loss: Tensor, num_tokens: Tensor) -> StepResult:
    """Clip and step, unless the mean loss a token or the gradient norm is not finite: then no weight changes.

    Both are 0-dim and the same on every rank, and so is the decision. It is made where they are: the host learns of it
    later, and has stepped the learning rate's schedule on meanwhile. The sums of gradients are divided by `num_tokens`
    and clipped as AdamW reads them.
    """
    optimizer.prepare_grads()
    grad_norm = _norm_of_sums(optimizer) / num_tokens
    skipped = ~(loss.isfinite() & grad_norm.isfinite())
    for part in optimizer.chained_optimizers:
        adam: Any = part.optimizer
        # torch's way to hand AdamW a divisor of gradients and a reason not to step, made for its GradScaler.
        adam.grad_scale = (num_tokens * _excess(grad_norm, part.config.clip_grad)).float()
        adam.found_inf = skipped.float()
    optimizer.step_with_ready_grads()
    return StepResult(grad_norm, skipped)


def _excess(grad_norm: Tensor, clip_grad: float) -> Tensor:
    """What gradients of this norm are to be divided by, 0-dim; a limit of 0 means none."""
    if clip_grad == 0:
        return torch.ones_like(grad_norm)
    return torch.clamp((grad_norm + _CLIP_EPSILON) / clip_grad, min=1.0)


def _norm_of_sums(optimizer: ChainedOptimizer) -> Tensor:
    """Global norm of the gradients as they were summed over tokens, 0-dim float32.

    megatron-core's own, without TransformerEngine and Apex, reads the norm of each parameter on the host.
    """
    squares: dict[Any, Tensor] = {}
    for part in optimizer.chained_optimizers:
        group = part.get_grad_stats_parallel_group()
        total = squares.setdefault(group, torch.zeros((), device=torch.cuda.current_device()))
        gradients = part.get_main_grads_for_grad_norm()
        if gradients:
            total += torch.nn.utils.get_total_norm(gradients).square()
    for group, total in squares.items():
        torch.distributed.all_reduce(total, group=group)
    return torch.stack([*squares.values()]).sum().sqrt()


def learning_rate_of(optimizer: ChainedOptimizer) -> float:
    """The learning rate of the next step."""
    return float(optimizer.param_groups[0]["lr"])
