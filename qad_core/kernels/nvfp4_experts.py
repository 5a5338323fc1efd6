"""NVFP4 of rows that are sorted by expert, each expert's by its own amax.

Owns the way from one amax an expert to `nvfp4.py`'s equal parts; the experts' stacked weights are equal parts already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize


def nvfp4_rows_by_expert(rows: Tensor, amax: Tensor, rows_per_expert: Tensor) -> Tensor:
    """The NVFP4 value of every element of `rows`.

    Args:
        rows: [n, K] sorted by expert, K a multiple of 16.
        amax: [experts] float32.
        rows_per_expert: [experts] integers on the CPU, n in all.

    Returns:
        [n, K] in the type of `rows`, contiguous, without gradient: on GPUs by one kernel.
    """
    if rows.device.type == "cuda":
        counts = rows_per_expert.to(rows.device, non_blocking=True)
        row_amax = amax.repeat_interleave(counts, output_size=len(rows))  # [n]: each row is a part of its own
        return nvfp4_quantize_dequantize(rows, row_amax) if len(rows) else rows
    parts = zip(rows.split(rows_per_expert.tolist()), amax, strict=True)
    return torch.cat([nvfp4_quantize_dequantize(part, one) for part, one in parts])
