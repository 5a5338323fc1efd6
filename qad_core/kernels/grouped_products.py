"""Products of rows that are sorted by expert with the stacked weights of the experts.

Owns the choice between torch's one grouped product and a plain loop over experts. What the rows are, and what is
quantized, is the callers' matter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ALIGNMENT_BYTES = 16
"""Of every row, as the grouped product's loads from memory want it."""


def grouped_linear(rows: Tensor, weight: Tensor, rows_per_expert: Tensor) -> Tensor:
    """Each expert's rows times its own weight; differentiable in rows and weight.

    Args:
        rows: [n, in], sorted by expert.
        weight: [experts, out, in], of the type of `rows`.
        rows_per_expert: [experts] integers on the CPU, n in all; an expert may have none.

    Returns:
        [n, out]. The gradient of the weight of an expert without rows is zero.
    """
    if _has_grouped_product(rows, weight):
        offsets = rows_per_expert.cumsum(0).to(rows.device, torch.int32, non_blocking=True)
        return F.grouped_mm(rows, weight.transpose(1, 2), offs=offsets)
    return grouped_linear_reference(rows, weight, rows_per_expert)


def grouped_linear_reference(rows: Tensor, weight: Tensor, rows_per_expert: Tensor) -> Tensor:
    """`grouped_linear` as a loop over the experts."""
    parts = zip(rows.split(rows_per_expert.tolist()), weight.unbind(), strict=True)
    return torch.cat([part @ matrix.T for part, matrix in parts])


def _has_grouped_product(rows: Tensor, weight: Tensor) -> bool:
    """Whether torch has one product for this: bfloat16 on GPUs, some rows, aligned widths, and torch 2.10 or newer."""
    if not hasattr(F, "grouped_mm") or rows.device.type != "cuda" or rows.dtype != torch.bfloat16 or not len(rows):
        return False
    return all(width * rows.element_size() % _ALIGNMENT_BYTES == 0 for width in weight.shape[1:])
