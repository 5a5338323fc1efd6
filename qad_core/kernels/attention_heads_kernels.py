"""Triton kernels that split a product's rows into normed and turned heads, and put their gradients together again.

Owns the launches; who calls them and the plain version are `attention_heads.py`. All arithmetic is in float32.
"""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qad_core.kernels.device_choice import persistent_programs, rounded_to_nearest

_ELEMENTS = 2048
"""That a program holds of each half of its rows."""
_BACKWARD_ELEMENTS = 1024


def split(
    rows: Tensor, cosine: Tensor, sine: Tensor, query_weight: Tensor | None, key_weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Queries [s, b, groups * r, d] and keys [s, b, groups, d] of contiguous rows [s, b, groups, r + 2, d].

    cosine and sine [s, d / 2]; a norm is applied where there are weights [d].
    """
    length, batch, groups, heads, width = rows.shape
    queries, half = heads - 2, width // 2
    query = rows.new_empty(length, batch, groups * queries, width)
    key = rows.new_empty(length, batch, groups, width)
    num_rows = length * batch * groups * (queries + 1)
    padded = triton.next_power_of_2(half)
    rows_a_program = max(1, _ELEMENTS // padded)
    with rounded_to_nearest(query) as query_target, rounded_to_nearest(key) as key_target:
        _split_kernel[(triton.cdiv(num_rows, rows_a_program),)](
            rows, query_weight, key_weight, cosine, sine, query_target, key_target,
            num_rows, num_rows // length, eps,
            QUERIES=queries, HALF=half, PADDED=padded, ROWS=rows_a_program, HAS_NORM=query_weight is not None,
        )  # fmt: skip
    return query, key


def split_backward(
    dquery: Tensor,
    dkey: Tensor,
    dvalue: Tensor,
    rows: Tensor,
    cosine: Tensor,
    sine: Tensor,
    query_weight: Tensor | None,
    key_weight: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(drows, dquery_weight [d], dkey_weight [d]) from contiguous gradients of queries, keys and values."""
    length, batch, groups, heads, width = rows.shape
    num_rows = length * batch * groups * heads
    padded = triton.next_power_of_2(width // 2)
    rows_a_program = max(1, _BACKWARD_ELEMENTS // padded)
    tiles = triton.cdiv(num_rows, rows_a_program)
    programs = persistent_programs(rows.device, tiles)
    has_norm = query_weight is not None
    drows = torch.empty_like(rows)
    partial = rows.new_empty(programs, 2, width, dtype=torch.float32) if has_norm else None
    with rounded_to_nearest(drows) as target:
        _split_backward_kernel[(programs,)](
            dquery, dkey, dvalue, rows, query_weight, key_weight, cosine, sine, target, partial,
            num_rows, tiles, num_rows // length, eps,
            QUERIES=heads - 2, HALF=width // 2, PADDED=padded, ROWS=rows_a_program, HAS_NORM=has_norm,
        )  # fmt: skip
    if partial is None or query_weight is None:
        return drows, None, None
    dquery_weight, dkey_weight = partial.sum(0).to(query_weight.dtype)
    return drows, dquery_weight, dkey_weight


@triton.jit
def _split_kernel(
    rows,
    query_weight,
    key_weight,
    cosine,
    sine,
    query,
    key,
    num_rows,
    rows_a_position,
    eps,
    QUERIES: tl.constexpr,
    HALF: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_NORM: tl.constexpr,
):
    """A row is one query or key; those of a group of heads lie beside one another, a value behind them."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row < num_rows)[:, None] & (column < HALF)[None, :]
    group, head = row // (QUERIES + 1), row % (QUERIES + 1)
    is_key = (head == QUERIES)[:, None]
    source = (group.to(tl.int64) * (QUERIES + 2) + head)[:, None] * (2 * HALF) + column[None, :]
    a = tl.load(rows + source, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(rows + source + HALF, mask=inside, other=0.0).to(tl.float32)
    if HAS_NORM:
        scale = 1.0 / tl.sqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / (2 * HALF) + eps)
        a = a * scale[:, None] * _weights(query_weight, key_weight, column, is_key, HALF)
        b = b * scale[:, None] * _weights(query_weight + HALF, key_weight + HALF, column, is_key, HALF)
    angle = (row // rows_a_position)[:, None] * HALF + column[None, :]
    c = tl.load(cosine + angle, mask=inside, other=0.0).to(tl.float32)
    s = tl.load(sine + angle, mask=inside, other=0.0).to(tl.float32)
    first = (a * c - b * s).to(query.dtype.element_ty)
    second = (b * c + a * s).to(query.dtype.element_ty)
    to_query = query + (group.to(tl.int64) * QUERIES + head)[:, None] * (2 * HALF) + column[None, :]
    tl.store(to_query, first, mask=inside & ~is_key)
    tl.store(to_query + HALF, second, mask=inside & ~is_key)
    to_key = key + group.to(tl.int64)[:, None] * (2 * HALF) + column[None, :]
    tl.store(to_key, first, mask=inside & is_key)
    tl.store(to_key + HALF, second, mask=inside & is_key)


@triton.jit
def _split_backward_kernel(
    dquery,
    dkey,
    dvalue,
    rows,
    query_weight,
    key_weight,
    cosine,
    sine,
    drows,
    partial,
    num_rows,
    tiles,
    rows_a_position,
    eps,
    QUERIES: tl.constexpr,
    HALF: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_NORM: tl.constexpr,
):
    """A row is one query, key or value; values pass as they are."""
    column = tl.arange(0, PADDED)
    if HAS_NORM:
        # Summed over rows at the end alone: each sum before it would be one across the program's warps.
        query_first = tl.zeros((ROWS, PADDED), tl.float32)
        query_second = tl.zeros((ROWS, PADDED), tl.float32)
        key_first = tl.zeros((ROWS, PADDED), tl.float32)
        key_second = tl.zeros((ROWS, PADDED), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS)
        inside = (row < num_rows)[:, None] & (column < HALF)[None, :]
        group, head = (row // (QUERIES + 2)).to(tl.int64), row % (QUERIES + 2)
        is_query, is_key = (head < QUERIES)[:, None], (head == QUERIES)[:, None]
        is_value = (head == QUERIES + 1)[:, None]
        from_query = dquery + (group * QUERIES + head)[:, None] * (2 * HALF) + column[None, :]
        of_group = group[:, None] * (2 * HALF) + column[None, :]
        da = _upstream(from_query, dkey + of_group, dvalue + of_group, inside, is_query, is_key, is_value)
        db = _upstream(
            from_query + HALF, dkey + of_group + HALF, dvalue + of_group + HALF, inside, is_query, is_key, is_value
        )
        is_turned = inside & ~is_value
        angle = (row // rows_a_position)[:, None] * HALF + column[None, :]
        c = tl.load(cosine + angle, mask=is_turned, other=1.0).to(tl.float32)
        s = tl.load(sine + angle, mask=is_turned, other=0.0).to(tl.float32)
        turned_a, turned_b = da * c + db * s, db * c - da * s
        at = row.to(tl.int64)[:, None] * (2 * HALF) + column[None, :]
        if HAS_NORM:
            a = tl.load(rows + at, mask=is_turned, other=0.0).to(tl.float32)
            b = tl.load(rows + at + HALF, mask=is_turned, other=0.0).to(tl.float32)
            scale = 1.0 / tl.sqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / (2 * HALF) + eps)[:, None]
            a, b = a * scale, b * scale
            query_first += tl.where(is_query, turned_a * a, 0.0)
            query_second += tl.where(is_query, turned_b * b, 0.0)
            key_first += tl.where(is_key, turned_a * a, 0.0)
            key_second += tl.where(is_key, turned_b * b, 0.0)
            weighted_a = turned_a * _weights(query_weight, key_weight, column, is_key, HALF)
            weighted_b = turned_b * _weights(query_weight + HALF, key_weight + HALF, column, is_key, HALF)
            projection = ((tl.sum(weighted_a * a, 1) + tl.sum(weighted_b * b, 1)) / (2 * HALF))[:, None]
            turned_a = tl.where(is_value, turned_a, (weighted_a - a * projection) * scale)
            turned_b = tl.where(is_value, turned_b, (weighted_b - b * projection) * scale)
        tl.store(drows + at, turned_a.to(drows.dtype.element_ty), mask=inside)
        tl.store(drows + at + HALF, turned_b.to(drows.dtype.element_ty), mask=inside)
    if HAS_NORM:
        out = partial + tl.program_id(0) * (4 * HALF) + column
        tl.store(out, tl.sum(query_first, 0), mask=column < HALF)
        tl.store(out + HALF, tl.sum(query_second, 0), mask=column < HALF)
        tl.store(out + 2 * HALF, tl.sum(key_first, 0), mask=column < HALF)
        tl.store(out + 3 * HALF, tl.sum(key_second, 0), mask=column < HALF)


@triton.jit
def _weights(query_weight, key_weight, column, is_key, HALF: tl.constexpr):
    """Of each row its norm's."""
    inside = column < HALF
    of_query = tl.load(query_weight + column, mask=inside, other=0.0).to(tl.float32)
    of_key = tl.load(key_weight + column, mask=inside, other=0.0).to(tl.float32)
    return tl.where(is_key, of_key[None, :], of_query[None, :])


@triton.jit
def _upstream(from_query, from_key, from_value, inside, is_query, is_key, is_value):
    """Of each row the gradient of what it became."""
    of_query = tl.load(from_query, mask=inside & is_query, other=0.0).to(tl.float32)
    of_key = tl.load(from_key, mask=inside & is_key, other=0.0).to(tl.float32)
    of_value = tl.load(from_value, mask=inside & is_value, other=0.0).to(tl.float32)
    return of_query + of_key + of_value
