"""The experts of a mixture: SwiGLU MLPs with stacked weights, sharded over expert- and tensor-parallel ranks.

Owns what stands in for megatron-core's GroupedMLP, which needs the grouped_gemm package, and SequentialMLP, which
modelopt refuses to quantize with TP and EP together. Router and token dispatch are megatron-core's `MoELayer`;
quantization is `train/expert_quantizers.py`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import set_tensor_model_parallel_attributes
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.moe.moe_layer import MoELayer, MoESubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.utils import make_sharded_object_for_checkpoint
from torch import Tensor

from qad_core.kernels.grouped_products import grouped_linear
from qad_core.kernels.swiglu import swiglu

ShardedOffsets = tuple[tuple[int, int, int], ...]
_TENSOR_PARALLEL_AXIS = 2
"""Of both weights: the MLP's features."""


def make_moe_spec() -> ModuleSpec:
    """megatron-core's mixture layer with our experts."""
    return ModuleSpec(module=MoELayer, submodules=MoESubmodules(experts=ModuleSpec(module=GroupedExperts)))


class GroupedLinear(MegatronModule):
    """One linear of all local experts, without bias.

    `weight` is [local experts, 2, ffn/TP, h] for `column` (gate and up) and [local experts, h, ffn/TP] for `row`.
    It is reduced over the expert-data-parallel ranks even where these are all data-parallel ranks (EP 1), so that
    the optimizer's parts, and with them a checkpoint's, are the same at every EP.
    """

    def __init__(
        self,
        kind: Literal["column", "row"],
        num_local_experts: int,
        config: TransformerConfig,
        pg_collection: ProcessGroupCollection,
    ) -> None:
        super().__init__(config=config)
        self.num_local_experts = num_local_experts
        self.expert_group = pg_collection.ep
        self.tensor_group = pg_collection.expt_tp
        self.data_group = pg_collection.expt_dp
        assert config.moe_ffn_hidden_size is not None
        ffn = config.moe_ffn_hidden_size // self.tensor_group.size()
        shape = (2, ffn, config.hidden_size) if kind == "column" else (config.hidden_size, ffn)
        device = torch.cuda.current_device()
        self.weight = torch.nn.Parameter(
            torch.zeros(num_local_experts, *shape, dtype=config.params_dtype, device=device)
        )
        set_tensor_model_parallel_attributes(self.weight, is_parallel=True, dim=_TENSOR_PARALLEL_AXIS, stride=1)
        setattr(self.weight, "allreduce", False)  # noqa: B010 - not in the type

    @property
    def first_expert(self) -> int:
        """Number of the first local expert among all."""
        return self.expert_group.rank() * self.num_local_experts

    def forward(self, rows: Tensor, rows_per_expert: Tensor) -> Tensor:
        """rows [n, in] sorted by expert, rows_per_expert [local experts] on the CPU; returns [n, out]."""
        return self.multiply(rows, self.weight, rows_per_expert)

    def multiply(self, rows: Tensor, weight: Tensor, rows_per_expert: Tensor) -> Tensor:
        """The product with a weight of the shape of ours; under TP a row-parallel one's is a partial sum."""
        return grouped_linear(rows, weight.flatten(1, -2), rows_per_expert)

    def get_extra_state(self) -> None:
        """None; modelopt puts its quantizers' state in its place, for which torch asks only where a class has this."""

    def set_extra_state(self, state: Any) -> None:
        """Nothing to set; see `get_extra_state`."""

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: ShardedOffsets = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Experts lie along the first axis, TP shards along the features: both may change at a load.

        A buffer [local experts], such as a quantizer's amax, is sharded over the experts only.
        """
        sharded: dict[str, Any] = {}
        for name, value in self.state_dict(prefix="", keep_vars=True).items():
            key = prefix + name
            if isinstance(value, Tensor) and not name.endswith("_extra_state"):
                sharded[key] = self._shard(key, value, sharded_offsets)
            else:
                copy = self.expert_group.rank() * self.tensor_group.size() + self.tensor_group.rank()
                replica = (0, copy, self.data_group.rank())
                sharded[key] = make_sharded_object_for_checkpoint(value, key, sharded_offsets, replica)
        return sharded

    def _shard(self, key: str, value: Tensor, sharded_offsets: ShardedOffsets) -> ShardedTensor:
        layers = len(sharded_offsets)
        offsets = [(layers, self.expert_group.rank(), self.expert_group.size())]
        tensor_rank = self.tensor_group.rank()
        if value.ndim > 1:
            offsets.append((layers + _TENSOR_PARALLEL_AXIS, tensor_rank, self.tensor_group.size()))
        copy = 0 if value.ndim > 1 else tensor_rank
        return ShardedTensor.from_rank_offsets(
            key,
            value,
            *sharded_offsets,
            *offsets,
            replica_id=(0, copy, self.data_group.rank()),
            prepend_axis_num=layers,
        )


class GroupedExperts(MegatronModule):
    """The local experts' SwiGLU MLPs over rows that the dispatcher has sorted by expert.

    A row's routing weight multiplies the expert's output, as transformers and inference engines do, and not the
    activation before the second product, as megatron-core does: there it would change what is quantized.
    """

    def __init__(
        self, num_local_experts: int, config: TransformerConfig, pg_collection: ProcessGroupCollection
    ) -> None:
        super().__init__(config=config)
        self.linear_fc1 = GroupedLinear("column", num_local_experts, config, pg_collection)
        self.linear_fc2 = GroupedLinear("row", num_local_experts, config, pg_collection)

    def forward(
        self, permuted_local_hidden_states: Tensor, tokens_per_expert: Tensor, permuted_probs: Tensor
    ) -> tuple[Tensor, None]:
        """Apply.

        permuted_local_hidden_states [n, h] sorted by expert, tokens_per_expert [local experts], permuted_probs [n].
        Returns the weighted outputs [n, h], under TP a partial sum, and None for a bias.
        """
        rows_per_expert = tokens_per_expert.cpu()
        gate_and_up = self.linear_fc1(permuted_local_hidden_states, rows_per_expert)  # [n, 2 * ffn/TP]
        output = self.linear_fc2(swiglu(gate_and_up), rows_per_expert)  # [n, h]
        return (output * permuted_probs.unsqueeze(-1)).to(output.dtype), None
