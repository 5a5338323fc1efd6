"""SwiGLU: silu(gate) * up, of the two halves of one product's rows; plain torch, or one pass where Triton runs.

Owns the formula, the choice, and the module that stands in megatron-core's MLP; kernels are in `swiglu_kernels.py`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer.module import MegatronModule
from torch import Tensor
from torch.autograd.function import once_differentiable

from qad_core.kernels.device_choice import uses_triton


def swiglu(gate_and_up: Tensor) -> Tensor:
    """silu(gate) * up [..., f] of `gate_and_up` [..., 2 * f], whose first half is the gate."""
    return _FusedSwiglu.apply(gate_and_up) if uses_triton(gate_and_up) else swiglu_reference(gate_and_up)


def swiglu_reference(gate_and_up: Tensor) -> Tensor:
    """`swiglu` in plain torch."""
    gate, up = gate_and_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class Swiglu(MegatronModule):
    """`swiglu` as the activation module that megatron-core's MLP takes with `use_te_activation_func`."""

    def forward(self, gate_and_up: Tensor) -> Tensor:
        """[..., 2 * f] to [..., f]."""
        return swiglu(gate_and_up)


class _FusedSwiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_and_up: Tensor) -> Tensor:
        from qad_core.kernels import swiglu_kernels  # Triton is there with CUDA builds of torch alone

        gate_and_up = gate_and_up.contiguous()
        ctx.save_for_backward(gate_and_up)
        return swiglu_kernels.activate(gate_and_up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        from qad_core.kernels import swiglu_kernels

        (gate_and_up,) = ctx.saved_tensors
        return swiglu_kernels.activate_backward(grad_output.contiguous(), gate_and_up)
