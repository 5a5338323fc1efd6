"""modelopt's quantizers on the stacked linears of a mixture's experts, with one amax an expert.

Owns what modelopt has no module for: the quantized `GroupedLinear`, and its calibration over the ranks that share an
expert. modelopt's own calibration passes these layers by: it would hold all experts of a layer to one amax. Importing
this module makes the quantized layer known to modelopt.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.transformer.moe.moe_layer import MoELayer
from modelopt.torch.quantization.nn import QuantModule, QuantModuleRegistry, TensorQuantizer
from modelopt.torch.utils.distributed import ParallelState
from torch import Tensor

from qad_core.kernels.nvfp4_backend import straight_through
from qad_core.kernels.nvfp4_experts import nvfp4_rows_by_expert
from qad_core.models.experts import GroupedLinear
from qad_core.run.calibration import UnseenLayer

_NO_GROUP = -1
"""modelopt's word for it."""


@dataclass
class Observation:
    """What calibration has sent through one linear; one entry a local expert."""

    amax: Tensor
    """Largest magnitude of the inputs, [local experts] float32."""
    tokens: Tensor
    """Rows seen, [local experts] int64."""


Observations = dict[GroupedLinear, Observation]


@QuantModuleRegistry.register({GroupedLinear: "qad_GroupedLinear"})
class QuantGroupedLinear(QuantModule):
    """`GroupedLinear` with NVFP4 weights and inputs; `_amax` of both quantizers is [local experts].

    Static block scales of the weight are as `block_scales.py` says.
    """

    input_quantizer: TensorQuantizer
    weight_quantizer: TensorQuantizer

    def _setup(self) -> None:
        self._register_temp_attribute("input_quantizer", TensorQuantizer())
        self._register_temp_attribute("weight_quantizer", TensorQuantizer())
        # amax differs between experts, so that modelopt shall bring no ranks' together: `calibrate_experts` does.
        self.parallel_state = ParallelState(_NO_GROUP, _NO_GROUP, _NO_GROUP)

    def forward(self, rows: Tensor, rows_per_expert: Tensor) -> Tensor:
        """As `GroupedLinear.forward`."""
        layer: Any = self
        if _quantizes(self.input_quantizer):
            value = nvfp4_rows_by_expert(rows, layer.input_quantizer.amax, rows_per_expert)
            rows = straight_through(rows, value)
        weight = self.weight_quantizer(layer.weight) if _quantizes(self.weight_quantizer) else layer.weight
        return layer.multiply(rows, weight, rows_per_expert)

    def iter_weights_for_calibration(self) -> Iterator[tuple[Tensor, TensorQuantizer]]:
        """None for modelopt's own calibration."""
        return iter(())

    def modelopt_post_restore(self, prefix: str = "") -> None:
        """Restored quantizers have the shape of the ranks that saved them; their values are loaded afterwards."""
        layer: Any = self
        for quantizer in (self.input_quantizer, self.weight_quantizer):
            if hasattr(quantizer, "_amax"):
                del quantizer._amax
                quantizer.amax = torch.empty(layer.num_local_experts, dtype=torch.float32, device=layer.weight.device)


@contextmanager
def observe_experts(model: torch.nn.Module) -> Generator[Observations]:
    """Note every input of the experts' linears in the passes made meanwhile."""
    observations: Observations = {}
    hooks: list[Any] = []
    for module in model.modules():
        if isinstance(module, GroupedLinear):
            experts, device = module.num_local_experts, module.weight.device
            observations[module] = Observation(
                torch.zeros(experts, device=device), torch.zeros(experts, dtype=torch.int64, device=device)
            )
            hooks.append(module.register_forward_pre_hook(_note(observations[module])))
    try:
        yield observations
    finally:
        for hook in hooks:
            hook.remove()


def calibrate_experts(model: Any, observations: Observations) -> list[UnseenLayer]:
    """Give the experts' quantizers their amax; a collective, which answers the same on all ranks.

    The amax of a weight is that of all its TP shards, the amax of an input that of all replicas and TP shards too. An
    expert that saw no token takes, for its inputs, the largest amax of its layer's other experts.
    """
    unseen: list[UnseenLayer] = []
    for layer in model.decoder.layers:
        if isinstance(layer.mlp, MoELayer):
            first, second = layer.mlp.experts.linear_fc1, layer.mlp.experts.linear_fc2
            for linear in (first, second):
                set_weight_amax(linear)
            if not first.input_quantizer.is_enabled:
                continue
            instead = _set_input_amax(first, observations[first]), _set_input_amax(second, observations[second])
            experts = (first.first_expert + (observations[first].tokens == 0).nonzero().flatten()).tolist()
            if experts:
                num_experts = first.num_local_experts * first.expert_group.size()
                unseen.append(
                    UnseenLayer(
                        layer=layer.layer_number - 1,
                        experts=tuple(experts),
                        num_experts=num_experts,
                        input_amax=instead,
                    )
                )
    return _merge(unseen)


def set_weight_amax(linear: Any) -> None:
    """Give the weight of a quantized `GroupedLinear` the amax that it has; a collective of its TP shards."""
    amax = linear.weight.detach().abs().flatten(1).amax(1).float()  # [local experts]
    dist.all_reduce(amax, dist.ReduceOp.MAX, group=linear.tensor_group)
    _set_amax(linear.weight_quantizer, amax)


def _quantizes(quantizer: TensorQuantizer) -> bool:
    return quantizer.is_enabled and quantizer._if_quant


def _note(observation: Observation) -> Any:
    def note(_module: torch.nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        rows, rows_per_expert = inputs
        counts = rows_per_expert.tolist()
        for expert, part in enumerate(rows.detach().split(counts)):
            if len(part):
                observation.amax[expert] = torch.maximum(observation.amax[expert], part.abs().amax().float())
        observation.tokens += rows_per_expert.to(observation.tokens.device)

    return note


def _set_input_amax(linear: Any, observation: Observation) -> float:
    """Returns the amax for experts without tokens."""
    dist.all_reduce(observation.tokens, group=linear.data_group)
    for group in (linear.data_group, linear.tensor_group):
        dist.all_reduce(observation.amax, dist.ReduceOp.MAX, group=group)
    largest = observation.amax.amax()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=linear.expert_group)
    # An expert whose tokens were all zeros says no more about its scale than one without any.
    _set_amax(linear.input_quantizer, torch.where(observation.amax == 0, largest, observation.amax))
    return float(largest)


def _set_amax(quantizer: TensorQuantizer, amax: Tensor) -> None:
    quantizer.reset_amax()
    quantizer.amax = amax


def _merge(unseen: list[UnseenLayer]) -> list[UnseenLayer]:
    """Bring together what the ranks know: the experts of a layer lie on several."""
    everywhere: list[list[UnseenLayer]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everywhere, unseen)
    layers: dict[int, UnseenLayer] = {}
    for one in sorted((one for ranks in everywhere for one in ranks), key=lambda one: one.layer):
        known = layers.get(one.layer)
        experts = sorted({*one.experts, *(known.experts if known else ())})
        layers[one.layer] = one.model_copy(update={"experts": tuple(experts)})
    return list(layers.values())
