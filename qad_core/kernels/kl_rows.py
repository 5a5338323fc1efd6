"""Triton kernels of the KL on a chunk of logits: each logit pair is read from memory once.

A row of both models' logits is larger than a multiprocessor, so a team of programs shares it: each holds a slice of
the row in registers, the team exchanges five numbers a slice through memory, and each program writes its slice of
the gradient from what it still holds. Vocabulary shards have to hear from other ranks in between, so theirs is the
same in two launches: statistics, then gradient. The formula and the plain version are `kl_divergence.py`'s.
"""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from qad_core.kernels.device_choice import is_interpreted, rounded_to_nearest

# Measured on an H100: larger slices leave too few registers, smaller ones spend more of their time in the exchange.
_SLICE_COLUMNS = 8192
_WARPS = 8
_REGISTERS = 128
_NUMBERS = 8  # five statistics of a slice, in a row of 32 bytes
_LOWEST = tl.constexpr(-3.0e38)  # maximum of a slice that is minus infinity all over, so that differences are numbers
# Without fused products p - q has three roundings, and equal logits give a gradient of exactly 0.
_OPTIONS: dict[str, Any] = {"num_warps": _WARPS, "maxnreg": _REGISTERS, "enable_fp_fusion": False}


def kl_and_gradient_of_rows(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, *, temperature: float, scale: float = 1.0
) -> Tensor:
    """KL [n] float32 of rows of logits [n, V], bf16 or float32, each row contiguous.

    `scale` times d(KL)/d(student) goes to `gradient` [n, V], which may be `student` itself.
    """
    if gradient is None:
        return _kl_and_gradient(student, teacher, None, temperature, scale)
    with rounded_to_nearest(gradient) as target:
        return _kl_and_gradient(student, teacher, target, temperature, scale)


def kl_statistics_of_rows(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """(L, M, g) [3, n] float64 of rows of logits [n, V_shard], as `kl_divergence.kl_statistics_`."""
    rows, columns = student.shape
    slices = triton.cdiv(columns, _SLICE_COLUMNS)
    partials = student.new_empty(rows, slices, _NUMBERS, dtype=torch.float32)
    _statistics_kernel[(slices, rows)](
        student,
        teacher,
        partials,
        columns,
        student.stride(0),
        teacher.stride(0),
        1.0 / temperature,
        SLICE=_SLICE_COLUMNS,
        NUMBERS=_NUMBERS,
        **_OPTIONS,
    )
    student_max, student_sum, teacher_max, teacher_sum, gap = partials.double().unbind(-1)[:5]  # [n, slices] each
    student_logsumexp = torch.logsumexp(student_max + student_sum.log(), dim=1)
    teacher_logsumexp = torch.logsumexp(teacher_max + teacher_sum.log(), dim=1)
    teacher_shares = torch.exp(teacher_max - teacher_logsumexp.unsqueeze(1))
    return torch.stack((student_logsumexp, teacher_logsumexp, (teacher_shares * gap).sum(1)))


def write_gradient_of_rows(
    student: Tensor,
    teacher: Tensor,
    gradient: Tensor,
    student_logsumexp: Tensor,
    teacher_logsumexp: Tensor,
    *,
    temperature: float,
    scale: float = 1.0,
) -> None:
    """`scale` times d(KL)/d(student) [n, V_shard] from log-sum-exps [n] over the whole vocabulary, of logits / T."""
    rows, columns = student.shape
    with rounded_to_nearest(gradient) as target:
        _gradient_kernel[(triton.cdiv(columns, _SLICE_COLUMNS), rows)](
            student,
            teacher,
            target,
            student_logsumexp.float(),
            teacher_logsumexp.float(),
            columns,
            student.stride(0),
            teacher.stride(0),
            target.stride(0),
            1.0 / temperature,
            scale / temperature,
            SLICE=_SLICE_COLUMNS,
            **_OPTIONS,
        )


def _kl_and_gradient(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, temperature: float, scale: float
) -> Tensor:
    slices = triton.cdiv(student.shape[1], _SLICE_COLUMNS)
    teams = student.shape[0] if slices == 1 else _programs_at_once(student.device) // slices
    if teams > 0:
        teams = min(teams, student.shape[0])
        return _in_one_read(student, teacher, gradient, temperature, scale, slices=slices, teams=teams)
    student_logsumexp, teacher_logsumexp, gap = kl_statistics_of_rows(student, teacher, temperature=temperature)
    if gradient is not None:
        logsumexps = (student_logsumexp, teacher_logsumexp)
        write_gradient_of_rows(student, teacher, gradient, *logsumexps, temperature=temperature, scale=scale)
    return (gap - (teacher_logsumexp - student_logsumexp)).float()


def _in_one_read(
    student: Tensor,
    teacher: Tensor,
    gradient: Tensor | None,
    temperature: float,
    scale: float,
    *,
    slices: int,
    teams: int,
) -> Tensor:
    rows, columns = student.shape
    kl = student.new_empty(rows, dtype=torch.float32)
    if rows == 0:
        return kl
    _one_read_kernel[(teams * slices,)](
        student,
        teacher,
        kl if gradient is None else gradient,
        kl,
        student.new_empty(rows, slices, _NUMBERS, dtype=torch.float32),
        student.new_zeros(rows, dtype=torch.int32),
        rows,
        teams,
        columns,
        student.stride(0),
        teacher.stride(0),
        0 if gradient is None else gradient.stride(0),
        1.0 / temperature,
        scale / temperature,
        WANTS_GRADIENT=gradient is not None,
        SLICES=slices,
        SLICES_PADDED=triton.next_power_of_2(slices),
        SLICE=_SLICE_COLUMNS,
        NUMBERS=_NUMBERS,
        **_OPTIONS,
    )
    return kl


def _programs_at_once(device: torch.device) -> int:
    """Programs that are sure to run at the same time, since those of a team wait for one another; 0 where none do."""
    if is_interpreted():
        return 0
    chip = torch.cuda.get_device_properties(device)
    return chip.multi_processor_count * (chip.regs_per_multiprocessor // (_REGISTERS * 32 * _WARPS))


@triton.jit
def _load_slice(logits, columns, mask, inverse_temperature):
    """Logits of a slice in float32, minus infinity outside `mask`."""
    values = tl.load(logits + columns, mask=mask, other=float("-inf"), eviction_policy="evict_first")
    return values.to(tl.float32) * inverse_temperature


@triton.jit
def _slice_statistics(s, t):
    """exp(x - max) of both slices, and (max, sum) of each and the gap sum_j exp(t_j - max) (t_j - s_j)."""
    student_max = tl.maximum(tl.max(s, 0), _LOWEST)
    teacher_max = tl.maximum(tl.max(t, 0), _LOWEST)
    student_exp = tl.exp(s - student_max)
    teacher_exp = tl.exp(t - teacher_max)
    gap = tl.sum(tl.where(teacher_exp > 0.0, teacher_exp * (t - s), 0.0), 0)
    return student_exp, teacher_exp, student_max, tl.sum(student_exp, 0), teacher_max, tl.sum(teacher_exp, 0), gap


@triton.jit
def _store_statistics(slot, student_max, student_sum, teacher_max, teacher_sum, gap):
    tl.store(slot, student_max)
    tl.store(slot + 1, student_sum)
    tl.store(slot + 2, teacher_max)
    tl.store(slot + 3, teacher_sum)
    tl.store(slot + 4, gap)


@triton.jit
def _join_statistics(slots, there):
    """(max, sum) of both rows and the gap from those of the slices; `.cg` passes by what a multiprocessor holds."""
    student_maxima = tl.load(slots, mask=there, other=_LOWEST, cache_modifier=".cg")
    student_sums = tl.load(slots + 1, mask=there, other=0.0, cache_modifier=".cg")
    teacher_maxima = tl.load(slots + 2, mask=there, other=_LOWEST, cache_modifier=".cg")
    teacher_sums = tl.load(slots + 3, mask=there, other=0.0, cache_modifier=".cg")
    gaps = tl.load(slots + 4, mask=there, other=0.0, cache_modifier=".cg")
    student_max = tl.max(student_maxima, 0)
    teacher_max = tl.max(teacher_maxima, 0)
    student_sum = tl.sum(student_sums * tl.exp(student_maxima - student_max), 0)
    teacher_shares = tl.exp(teacher_maxima - teacher_max)
    return (
        student_max,
        student_sum,
        teacher_max,
        tl.sum(teacher_sums * teacher_shares, 0),
        tl.sum(gaps * teacher_shares, 0),
    )


@triton.jit
def _one_read_kernel(
    student,
    teacher,
    gradient,
    kl,
    partials,
    arrivals,
    rows,
    teams,
    num_columns,
    student_stride,
    teacher_stride,
    gradient_stride,
    inverse_temperature,
    gradient_factor,
    WANTS_GRADIENT: tl.constexpr,
    SLICES: tl.constexpr,
    SLICES_PADDED: tl.constexpr,
    SLICE: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    team = tl.program_id(0) // SLICES
    own = tl.program_id(0) % SLICES
    columns = own * SLICE + tl.arange(0, SLICE)
    mask = columns < num_columns
    every = tl.arange(0, SLICES_PADDED)
    for row_number in range(team, rows, teams):
        row = tl.full((), 0, tl.int64) + row_number
        s = _load_slice(student + row * student_stride, columns, mask, inverse_temperature)
        t = _load_slice(teacher + row * teacher_stride, columns, mask, inverse_temperature)
        student_exp, teacher_exp, student_max, student_sum, teacher_max, teacher_sum, gap = _slice_statistics(s, t)
        row_student_max, row_teacher_max = student_max, teacher_max
        if SLICES > 1:
            slot = partials + (row * SLICES + own) * NUMBERS
            _store_statistics(slot, student_max, student_sum, teacher_max, teacher_sum, gap)
            tl.debug_barrier()
            arrived = tl.atomic_add(arrivals + row, 1, sem="acq_rel") + 1
            while arrived < SLICES:
                arrived = tl.atomic_add(arrivals + row, 0, sem="acquire")
            row_student_max, student_sum, row_teacher_max, teacher_sum, gap = _join_statistics(
                partials + (row * SLICES + every) * NUMBERS, every < SLICES
            )
        if own == 0:
            row_kl = tl.math.div_rn(gap, teacher_sum) - (
                (row_teacher_max - row_student_max) + tl.log(tl.math.div_rn(teacher_sum, student_sum))
            )
            tl.store(kl + row, row_kl)
        if WANTS_GRADIENT:
            student_factor = tl.exp(student_max - row_student_max) / student_sum * gradient_factor
            teacher_factor = tl.exp(teacher_max - row_teacher_max) / teacher_sum * gradient_factor
            difference = (student_exp * student_factor - teacher_exp * teacher_factor).to(gradient.dtype.element_ty)
            tl.store(gradient + row * gradient_stride + columns, difference, mask=mask, cache_modifier=".cs")


@triton.jit
def _statistics_kernel(
    student,
    teacher,
    partials,
    num_columns,
    student_stride,
    teacher_stride,
    inverse_temperature,
    SLICE: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * SLICE + tl.arange(0, SLICE)
    mask = columns < num_columns
    s = _load_slice(student + row * student_stride, columns, mask, inverse_temperature)
    t = _load_slice(teacher + row * teacher_stride, columns, mask, inverse_temperature)
    _, _, student_max, student_sum, teacher_max, teacher_sum, gap = _slice_statistics(s, t)
    slot = partials + (row * tl.num_programs(0) + tl.program_id(0)) * NUMBERS
    _store_statistics(slot, student_max, student_sum, teacher_max, teacher_sum, gap)


@triton.jit
def _gradient_kernel(
    student,
    teacher,
    gradient,
    student_logsumexp,
    teacher_logsumexp,
    num_columns,
    student_stride,
    teacher_stride,
    gradient_stride,
    inverse_temperature,
    gradient_factor,
    SLICE: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * SLICE + tl.arange(0, SLICE)
    mask = columns < num_columns
    s = _load_slice(student + row * student_stride, columns, mask, inverse_temperature)
    t = _load_slice(teacher + row * teacher_stride, columns, mask, inverse_temperature)
    p = tl.exp(s - tl.load(student_logsumexp + row))
    q = tl.exp(t - tl.load(teacher_logsumexp + row))
    difference = ((p - q) * gradient_factor).to(gradient.dtype.element_ty)
    tl.store(gradient + row * gradient_stride + columns, difference, mask=mask, cache_modifier=".cs")
