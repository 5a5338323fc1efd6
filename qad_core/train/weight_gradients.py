"""Weight gradients of the block's linears, added to Megatron's float32 `main_grad` by the product that makes them.

Megatron-core has the way (`gradient_accumulation_fusion`), but its one kernel is Apex's, and modelopt turns the way off
for what it quantizes, because the weight that a product sees is not the parameter there. Owns both answers: cuBLAS adds
in float32 itself, and the quantized weight carries the parameter's `main_grad` (`kernels/nvfp4_backend.py`). Without
it each gradient is written in bf16 first, which rounds it, and read again.
"""

from __future__ import annotations

from typing import Any

from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear, layers
from torch import Tensor

from qad_core.kernels.nvfp4_backend import weight_cache_of
from qad_core.kernels.products import add_product_


class _CublasProducts:
    """What megatron-core calls of Apex's `fused_weight_gradient_mlp_cuda`."""

    @staticmethod
    def wgrad_gemm_accum_fp32(total_input: Tensor, grad_output: Tensor, main_grad: Tensor) -> None:
        """main_grad [out, in] float32 += grad_output [n, out].T @ total_input [n, in]."""
        add_product_(main_grad, grad_output.t(), total_input, is_first=False)


def add_in_products(wrapped: Any) -> None:
    """Have each trained linear of a data-parallel model's blocks add to `main_grad`; call once it is wrapped."""
    setattr(layers, "fused_weight_gradient_mlp_cuda", _CublasProducts)  # noqa: B010 - not in the type
    for name, module in wrapped.named_modules():
        is_linear = isinstance(module, ColumnParallelLinear | RowParallelLinear) and "output_layer" not in name
        if is_linear and hasattr(module.weight, "main_grad"):
            module.gradient_accumulation_fusion = True
            if (cache := weight_cache_of(module)) is not None:
                cache.adds_to_main_grad = True
