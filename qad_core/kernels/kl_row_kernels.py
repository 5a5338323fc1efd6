"""Triton programs of the KL on rows of logits; `kl_rows.py` launches them and says how they work together.

Both directions are KL(first || second), the mean of log(first / second) over `first`: forward, `first` is the teacher
and `second` the student; reverse, the other way round. What differs is the gradient, which is always the student's.
"""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

_LOWEST = tl.constexpr(-3.0e38)  # maximum of a slice that is minus infinity all over, so that differences are numbers


@triton.jit
def one_read_kernel(
    first,
    second,
    gradient,
    kl,
    partials,
    arrivals,
    weights,
    rows,
    teams,
    num_columns,
    first_stride,
    second_stride,
    gradient_stride,
    inverse_temperature,
    gradient_factor,
    WANTS_GRADIENT: tl.constexpr,
    REVERSE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SLICES: tl.constexpr,
    SLICES_PADDED: tl.constexpr,
    SLICE: tl.constexpr,
    NUMBERS: tl.constexpr,
    LOADS_AHEAD: tl.constexpr,
):
    """KL and gradient of whole rows, each by a team of `SLICES` programs that wait for one another.

    With `LOADS_AHEAD` a program asks for its slice of the next row before it waits, which 16-bit logits leave room for.
    """
    team = tl.program_id(0) // SLICES
    own = tl.program_id(0) % SLICES
    columns = own * SLICE + tl.arange(0, SLICE)
    mask = columns < num_columns
    every = tl.arange(0, SLICES_PADDED)
    if LOADS_AHEAD:
        row = tl.full((), 0, tl.int64) + team
        next_a, next_b = _load_raw(first + row * first_stride, second + row * second_stride, columns, mask)
    for row_number in range(team, rows, teams):
        row = tl.full((), 0, tl.int64) + row_number
        if LOADS_AHEAD:
            a, b = next_a.to(tl.float32) * inverse_temperature, next_b.to(tl.float32) * inverse_temperature
            ahead = row + teams
            there = columns < tl.where(ahead < rows, num_columns, 0)
            next_a, next_b = _load_raw(first + ahead * first_stride, second + ahead * second_stride, columns, there)
        else:
            a, b = _load_pair(
                first + row * first_stride, second + row * second_stride, columns, mask, inverse_temperature
            )
        first_exp, second_exp, first_max, first_sum, second_max, second_sum, gap = _slice_statistics(a, b)
        row_first_max, row_second_max = first_max, second_max
        if SLICES > 1:
            slot = partials + (row * SLICES + own) * NUMBERS
            _store_statistics(slot, first_max, first_sum, second_max, second_sum, gap)
            tl.debug_barrier()
            arrived = tl.atomic_add(arrivals + row, 1, sem="acq_rel") + 1
            while arrived < SLICES:
                arrived = tl.atomic_add(arrivals + row, 0, sem="acquire")
            row_first_max, first_sum, row_second_max, second_sum, gap = _join_statistics(
                partials + (row * SLICES + every) * NUMBERS, every < SLICES
            )
        if own == 0:
            row_kl = tl.math.div_rn(gap, first_sum) - (
                (row_first_max - row_second_max) + tl.log(tl.math.div_rn(first_sum, second_sum))
            )
            tl.store(kl + row, row_kl)
        if WANTS_GRADIENT:
            row_factor = _row_factor(gradient_factor, weights + row, WEIGHTED)
            first_factor = tl.exp(first_max - row_first_max) / first_sum * row_factor
            if REVERSE:
                deviation = (a - b) - tl.math.div_rn(gap, first_sum)
                difference = tl.where(first_exp > 0.0, first_exp * first_factor * deviation, 0.0)
            else:
                second_factor = tl.exp(second_max - row_second_max) / second_sum * row_factor
                difference = second_exp * second_factor - first_exp * first_factor
            _store_slice(gradient + row * gradient_stride, difference, columns, mask)


@triton.jit
def statistics_kernel(
    first,
    second,
    partials,
    num_columns,
    first_stride,
    second_stride,
    inverse_temperature,
    SLICE: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    """Five numbers of one slice of one row."""
    row = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * SLICE + tl.arange(0, SLICE)
    mask = columns < num_columns
    a, b = _load_pair(first + row * first_stride, second + row * second_stride, columns, mask, inverse_temperature)
    _, _, first_max, first_sum, second_max, second_sum, gap = _slice_statistics(a, b)
    slot = partials + (row * tl.num_programs(0) + tl.program_id(0)) * NUMBERS
    _store_statistics(slot, first_max, first_sum, second_max, second_sum, gap)


@triton.jit
def gradient_kernel(
    student,
    teacher,
    gradient,
    student_logsumexp,
    teacher_numbers,
    weights,
    num_columns,
    student_stride,
    teacher_stride,
    gradient_stride,
    inverse_temperature,
    gradient_factor,
    REVERSE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SLICE: tl.constexpr,
):
    """The gradient of one slice of one row.

    `teacher_numbers` [rows] are the teacher's log-sum-exps or, for the reverse KL, the h of `kl_divergence.py`.
    """
    row = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * SLICE + tl.arange(0, SLICE)
    mask = columns < num_columns
    s, t = _load_pair(
        student + row * student_stride, teacher + row * teacher_stride, columns, mask, inverse_temperature
    )
    p = tl.exp(s - tl.load(student_logsumexp + row))
    row_factor = _row_factor(gradient_factor, weights + row, WEIGHTED)
    if REVERSE:
        deviation = (s - t) - tl.load(teacher_numbers + row)
        difference = tl.where(p > 0.0, p * deviation, 0.0) * row_factor
    else:
        q = tl.exp(t - tl.load(teacher_numbers + row))
        difference = (p - q) * row_factor
    _store_slice(gradient + row * gradient_stride, difference, columns, mask)


@triton.jit
def _load_pair(first, second, columns, mask, inverse_temperature):
    """The slices of two rows of logits in float32 over the temperature, minus infinity outside `mask`."""
    a, b = _load_raw(first, second, columns, mask)
    return a.to(tl.float32) * inverse_temperature, b.to(tl.float32) * inverse_temperature


@triton.jit
def _load_raw(first, second, columns, mask):
    """The slices as they are stored."""
    a = tl.load(first + columns, mask=mask, other=float("-inf"), eviction_policy="evict_first")
    b = tl.load(second + columns, mask=mask, other=float("-inf"), eviction_policy="evict_first")
    return a, b


@triton.jit
def _store_slice(gradient, difference, columns, mask):
    tl.store(gradient + columns, difference.to(gradient.dtype.element_ty), mask=mask, cache_modifier=".cs")


@triton.jit
def _row_factor(gradient_factor, weight, WEIGHTED: tl.constexpr):
    """What a row's gradient is multiplied by; without weights nothing is read."""
    factor = gradient_factor
    if WEIGHTED:
        factor = gradient_factor * tl.load(weight)
    return factor


@triton.jit
def _slice_statistics(a, b):
    """exp(x - max) of slices of first and second, (max, sum) of each, and the gap sum_j exp(a_j - max) (a_j - b_j)."""
    first_max = tl.maximum(tl.max(a, 0), _LOWEST)
    second_max = tl.maximum(tl.max(b, 0), _LOWEST)
    first_exp = tl.exp(a - first_max)
    second_exp = tl.exp(b - second_max)
    gap = tl.sum(tl.where(first_exp > 0.0, first_exp * (a - b), 0.0), 0)
    return first_exp, second_exp, first_max, tl.sum(first_exp, 0), second_max, tl.sum(second_exp, 0), gap


@triton.jit
def _store_statistics(slot, first_max, first_sum, second_max, second_sum, gap):
    tl.store(slot, first_max)
    tl.store(slot + 1, first_sum)
    tl.store(slot + 2, second_max)
    tl.store(slot + 3, second_sum)
    tl.store(slot + 4, gap)


@triton.jit
def _join_statistics(slots, there):
    """(max, sum) of both rows and the gap from those of the slices; `.cg` passes by what a multiprocessor holds."""
    first_maxima = tl.load(slots, mask=there, other=_LOWEST, cache_modifier=".cg")
    first_sums = tl.load(slots + 1, mask=there, other=0.0, cache_modifier=".cg")
    second_maxima = tl.load(slots + 2, mask=there, other=_LOWEST, cache_modifier=".cg")
    second_sums = tl.load(slots + 3, mask=there, other=0.0, cache_modifier=".cg")
    gaps = tl.load(slots + 4, mask=there, other=0.0, cache_modifier=".cg")
    first_max = tl.max(first_maxima, 0)
    second_max = tl.max(second_maxima, 0)
    first_shares = tl.exp(first_maxima - first_max)
    return (
        first_max,
        tl.sum(first_sums * first_shares, 0),
        second_max,
        tl.sum(second_sums * tl.exp(second_maxima - second_max), 0),
        tl.sum(gaps * first_shares, 0),
    )
