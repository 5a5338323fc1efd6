"""The project's functions in the plug-in form of `kd_peers.py`: `--candidate benchmarks.candidates:provider`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from qad_core.kernels.kd_loss import kd_loss_from_hidden_states, kd_loss_from_logits
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize


def provider(kind: str) -> dict[str, Callable[..., Tensor]] | None:
    """Our variants of `kind` ("hidden", "logits" or "nvfp4"), on CPU and GPU; None for a kind that we do not have."""
    offered: dict[str, dict[str, Callable[..., Tensor]]] = {
        "hidden": {"chunk by device": mean_kd_from_hidden_states},
        "logits": {"torch": mean_kd_from_logits},
        "nvfp4": {"torch": nvfp4_quantize_dequantize},
    }
    return offered.get(kind)


def mean_kd_from_hidden_states(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """0-dim mean KL over the tokens [N, H] of both models' hidden states."""
    total = kd_loss_from_hidden_states(
        student_hidden, student_weight, teacher_hidden, teacher_weight, temperature=temperature
    )
    return total / student_hidden.shape[0]


def mean_kd_from_logits(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """0-dim mean KL over the tokens of both models' logits [N, V]."""
    total = kd_loss_from_logits(student_logits, teacher_logits, temperature=temperature)
    return total / student_logits.shape[0]
