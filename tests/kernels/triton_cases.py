"""What the tests of Triton kernels share: where they can run, and values to run on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qad_core.kernels.device_choice import is_interpreted

needs_triton = pytest.mark.skipif(
    not is_interpreted() and not torch.cuda.is_available(), reason="Triton runs on a GPU or in its interpreter"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Normal values, the same wherever they are used."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)
