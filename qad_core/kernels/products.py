"""The matrix products of an output head, with float32 logits; the only place that chooses by device.

Owns how logits, the hidden states' gradient and the head weight's gradient are multiplied. It knows
nothing about losses. Products of bf16 inputs are exact in float32 and are accumulated in float32, and the
logits are never rounded to bf16: at small KL that rounding alone costs several percent of the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from qad_core.kernels.chunks import token_spans

# float32 copy of a block of the head's weight, on CPUs only.
_WEIGHT_BLOCK_BYTES = 16 * 2**20


def logits_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type that logits and losses are computed in: float32, or float64 for float64 inputs.

    Raises ValueError for types in which the gradient would underflow (float16) or that are not floating.
    """
    if dtype not in (torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(f"hidden states are {dtype}; the losses take bfloat16, float32 or float64")
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_head(model: str, hidden: Tensor, weight: Tensor) -> None:
    """Raise ValueError unless hidden states [..., H] and head weight [V, H] fit each other in width and type."""
    logits_dtype(hidden.dtype)
    if hidden.shape[-1] != weight.shape[1] or hidden.dtype != weight.dtype:
        raise ValueError(
            f"{model}: hidden states {tuple(hidden.shape)} {hidden.dtype} "
            f"do not fit the head's weight {tuple(weight.shape)} {weight.dtype}"
        )


def logits_into(logits: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """logits [n, V] = hidden [n, H] @ weight [V, H].T, accumulated and stored in the type of `logits`."""
    if logits.dtype == hidden.dtype:
        return torch.mm(hidden, weight.t(), out=logits)
    if hidden.device.type != "cpu":
        return torch.mm(hidden, weight.t(), out_dtype=logits.dtype, out=logits)
    return _logits_by_upcast_blocks(logits, hidden, weight)


def _logits_by_upcast_blocks(logits: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """Products of bf16 on CPUs round to bf16, so the inputs are widened, a block of vocabulary rows at a time."""
    hidden = hidden.to(logits.dtype)
    rows = max(64, _WEIGHT_BLOCK_BYTES // (weight.shape[1] * logits.element_size()))
    wide = logits.new_empty(min(rows, weight.shape[0]), weight.shape[1])
    with _bf16_products_of_float32():
        for vocab in token_spans(weight.shape[0], rows):
            block = wide[: vocab.stop - vocab.start].copy_(weight[vocab])
            torch.mm(hidden, block.t(), out=logits[:, vocab])
    return logits


@contextmanager
def _bf16_products_of_float32() -> Iterator[None]:
    """Allow float32 products through bf16 units; exact here, where the float32 operands hold bf16 values."""
    matmul: Any = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]  set at import
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def product_into(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out [m, n] = a [m, k] @ b [k, n], `out` in float32 where the operands are bf16."""
    if out.dtype == a.dtype:
        torch.mm(a, b, out=out)
    elif a.device.type != "cpu":
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:
        out.copy_(torch.mm(a, b))


def add_product_(total: Tensor, a: Tensor, b: Tensor, *, is_first: bool) -> None:
    """total [m, n] += a [m, k] @ b [k, n], or = for the first; `total` in float32 where bf16 products are summed."""
    beta = 0 if is_first else 1
    if total.dtype == a.dtype:
        torch.addmm(total, a, b, beta=beta, out=total)
    elif a.device.type != "cpu":
        torch.addmm(total, a, b, out_dtype=total.dtype, beta=beta, out=total)
    else:
        rows = max(64, _WEIGHT_BLOCK_BYTES // (total.shape[1] * total.element_size()))
        for block in token_spans(total.shape[0], rows):
            product = torch.mm(a[block], b)
            total[block].copy_(product) if is_first else total[block].add_(product)
