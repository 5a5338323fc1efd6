"""The KL on a chunk of logits in Triton: each logit pair is read from memory once.

A row of both models' logits is larger than a multiprocessor, so a team of programs shares it: each holds a slice of
the row in registers, the team exchanges five numbers a slice through memory, and each program writes its slice of
the gradient from what it still holds. Vocabulary shards have to hear from other ranks in between, so theirs is the
same in two launches: statistics, then gradient. Owns the launches; the programs are `kl_row_kernels.py`'s, the formulas
and the plain version `kl_divergence.py`'s.
"""

# Triton's functions are typed for its compiler: what is passed for a constexpr is a number.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from qad_core.kernels.device_choice import is_interpreted, rounded_to_nearest
from qad_core.kernels.kl_divergence import Divergence, kl_from_statistics, mean_gap
from qad_core.kernels.kl_row_kernels import gradient_kernel, one_read_kernel, statistics_kernel

# Measured on an H100: larger slices leave too few registers, smaller ones spend more of their time in the exchange.
_SLICE_COLUMNS = 8192
_WARPS = 8
_REGISTERS = 128
_NUMBERS = 8  # five statistics of a slice, in a row of 32 bytes
# Without fused products p - q has three roundings, and equal logits give a gradient of exactly 0.
_OPTIONS: dict[str, Any] = {"num_warps": _WARPS, "maxnreg": _REGISTERS, "enable_fp_fusion": False}


@dataclass(frozen=True)
class RowOptions:
    """Which KL of the rows; its gradient is multiplied by `scale` and the rows' `weights` [n] float32."""

    temperature: float
    scale: float = 1.0
    divergence: Divergence = "forward"
    weights: Tensor | None = None

    @property
    def is_reverse(self) -> bool:
        """Whether it is KL(student || teacher)."""
        return self.divergence == "reverse"


def kl_and_gradient_of_rows(student: Tensor, teacher: Tensor, gradient: Tensor | None, options: RowOptions) -> Tensor:
    """KL [n] float32 of rows of logits [n, V], bf16 or float32, each row contiguous.

    `scale` and the weights times d(KL)/d(student) goes to `gradient` [n, V], which may be `student` itself.
    """
    if gradient is None:
        return _kl_and_gradient(student, teacher, None, options)
    with rounded_to_nearest(gradient) as target:
        return _kl_and_gradient(student, teacher, target, options)


def kl_statistics_of_rows(student: Tensor, teacher: Tensor, options: RowOptions) -> Tensor:
    """(L, M, g or h) [3, n] float64 of rows of logits [n, V_shard], as the statistics of `kl_divergence.py`."""
    first, second = _in_order(student, teacher, options)
    rows, columns = student.shape
    slices = triton.cdiv(columns, _SLICE_COLUMNS)
    partials = student.new_empty(rows, slices, _NUMBERS, dtype=torch.float32)
    statistics_kernel[(slices, rows)](
        first,
        second,
        partials,
        columns,
        first.stride(0),
        second.stride(0),
        1.0 / options.temperature,
        SLICE=_SLICE_COLUMNS,
        NUMBERS=_NUMBERS,
        **_OPTIONS,
    )
    first_max, first_sum, second_max, second_sum, gap = partials.double().unbind(-1)[:5]  # [n, slices] each
    first_logsumexp = torch.logsumexp(first_max + first_sum.log(), dim=1)
    second_logsumexp = torch.logsumexp(second_max + second_sum.log(), dim=1)
    gap = (torch.exp(first_max - first_logsumexp.unsqueeze(1)) * gap).sum(1)
    if options.is_reverse:
        return torch.stack((first_logsumexp, second_logsumexp, gap))
    return torch.stack((second_logsumexp, first_logsumexp, gap))


def write_gradient_of_rows(
    student: Tensor,
    teacher: Tensor,
    gradient: Tensor,
    totals: tuple[Tensor, Tensor, Tensor],
    options: RowOptions,
) -> None:
    """`scale` and the weights times d(KL)/d(student) [n, V_shard], from (KL, L, M) [n] over the whole vocabulary."""
    rows, columns = student.shape
    _, student_logsumexp, teacher_logsumexp = totals
    numbers = mean_gap(*totals) if options.is_reverse else teacher_logsumexp
    with rounded_to_nearest(gradient) as target:
        gradient_kernel[(triton.cdiv(columns, _SLICE_COLUMNS), rows)](
            student,
            teacher,
            target,
            student_logsumexp.float(),
            numbers.float(),
            student if options.weights is None else options.weights,
            columns,
            student.stride(0),
            teacher.stride(0),
            target.stride(0),
            1.0 / options.temperature,
            options.scale / options.temperature,
            REVERSE=options.is_reverse,
            WEIGHTED=options.weights is not None,
            SLICE=_SLICE_COLUMNS,
            **_OPTIONS,
        )


def _in_order(student: Tensor, teacher: Tensor, options: RowOptions) -> tuple[Tensor, Tensor]:
    """(first, second) of KL(first || second)."""
    return (student, teacher) if options.is_reverse else (teacher, student)


def _kl_and_gradient(student: Tensor, teacher: Tensor, gradient: Tensor | None, options: RowOptions) -> Tensor:
    slices = triton.cdiv(student.shape[1], _SLICE_COLUMNS)
    teams = student.shape[0] if slices == 1 else _programs_at_once(student.device) // slices
    if teams > 0:
        return _in_one_read(student, teacher, gradient, options, slices=slices, teams=min(teams, student.shape[0]))
    totals = kl_from_statistics(kl_statistics_of_rows(student, teacher, options).unsqueeze(0), options.divergence)
    if gradient is not None:
        write_gradient_of_rows(student, teacher, gradient, totals, options)
    return totals[0].float()


def _in_one_read(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, options: RowOptions, *, slices: int, teams: int
) -> Tensor:
    first, second = _in_order(student, teacher, options)
    rows, columns = student.shape
    kl = student.new_empty(rows, dtype=torch.float32)
    if rows == 0:
        return kl
    one_read_kernel[(teams * slices,)](
        first,
        second,
        kl if gradient is None else gradient,
        kl,
        student.new_empty(rows, slices, _NUMBERS, dtype=torch.float32),
        student.new_zeros(rows, dtype=torch.int32),
        kl if options.weights is None else options.weights,
        rows,
        teams,
        columns,
        first.stride(0),
        second.stride(0),
        0 if gradient is None else gradient.stride(0),
        1.0 / options.temperature,
        options.scale / options.temperature,
        WANTS_GRADIENT=gradient is not None,
        REVERSE=options.is_reverse,
        WEIGHTED=options.weights is not None,
        SLICES=slices,
        SLICES_PADDED=triton.next_power_of_2(slices),
        SLICE=_SLICE_COLUMNS,
        NUMBERS=_NUMBERS,
        LOADS_AHEAD=student.element_size() == 2,
        **_OPTIONS,
    )
    return kl


def _programs_at_once(device: torch.device) -> int:
    """Programs that are sure to run at the same time, since those of a team wait for one another; 0 where none do."""
    if is_interpreted():
        return 0
    chip = torch.cuda.get_device_properties(device)
    return chip.multi_processor_count * (chip.regs_per_multiprocessor // (_REGISTERS * 32 * _WARPS))
