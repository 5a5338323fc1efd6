"""The project's functions in the plug-in form of `kd_peers.py`: `--candidate benchmarks.candidates:provider`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from qad_core.kernels.kd_loss import kd_loss_from_hidden_states, kd_loss_from_logits
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize


def provider(kind: str) -> dict[str, Callable[..., Tensor]] | None:
    """Our variants of `kind` ("hidden", "logits" or "nvfp4"), on CPU and GPU; None for a kind that we do not have."""
    in_place: Any = mean_kd_from_logits_in_place
    in_place.destructive = True  # the harness restores the logits before every call
    offered: dict[str, dict[str, Callable[..., Tensor]]] = {
        "hidden": {"qad": mean_kd_from_hidden_states},
        "logits": {"qad": mean_kd_from_logits, "qad in place": in_place},
        "nvfp4": {"qad": nvfp4_quantize_dequantize},
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
    heads = (student_hidden, student_weight, teacher_hidden, teacher_weight)
    return kd_loss_from_hidden_states(*heads, temperature=temperature, scale=1 / student_hidden.shape[0])


def mean_kd_from_logits(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """0-dim mean KL over the tokens of both models' logits [N, V]."""
    scale = 1 / student_logits.shape[0]
    return kd_loss_from_logits(student_logits, teacher_logits, temperature=temperature, scale=scale)


def mean_kd_from_logits_in_place(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """The same, with the gradient made over `student_logits`."""
    scale = 1 / student_logits.shape[0]
    return kd_loss_from_logits(student_logits, teacher_logits, temperature=temperature, scale=scale, in_place=True)
