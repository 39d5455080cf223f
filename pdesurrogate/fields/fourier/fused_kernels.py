"""Triton kernels of a truncated transform over two axes, without the half-transformed field in memory.

With ``u`` ``(batch, x, y, channel)``, half axis ``x``, both kernels are two products with the tables of `DFTPlan`:

    analysis     T(p k_x, y c) = Σ_x A₁(p k_x, x) u(x, y c)        û(q k_y, k_x c) = Σ_py A₂(q k_y, p y) T(p y, k_x c)
    synthesis    W(p y, k_x c) = Σ_qk S₂(p y, q k_y) û(q k_y, k_x c)    u(x, y c) = Σ_pk S₁(x, p k_x) W(p k_x, y c)

``p`` and ``q`` are the real and the imaginary plane. ``T`` and ``W`` exist for one block of ``y`` at a time, in
registers and shared memory. A program of the analysis walks over all of ``x`` and ``y`` of one sample for a tile
of modes and channels; one of the synthesis writes a tile of the field and walks over the modes. Where modes need
several tiles, the field is read again for each (from the second-level cache, as these programs are neighbours).

This module needs Triton; only `fused_transform` imports it, when a transform is built.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def analysis_kernel(
    u,
    half_table,
    full_table,
    planes,
    size_x,
    size_y,
    channels,
    modes_x,
    modes_y,
    stride_batch,
    stride_mode,
    stride_plane,
    stride_channel,
    PRECISION: tl.constexpr,
    BLOCK_MODES_X: tl.constexpr,
    BLOCK_MODES_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Write the modes of one tile ``(k_x, k_y, channel)`` of one sample; strides are those of ``planes``."""
    tile = tl.program_id(0)
    tiles_ky = tl.cdiv(modes_y, BLOCK_MODES_Y)
    tiles_kx = tl.cdiv(modes_x, BLOCK_MODES_X)
    tiles_c = tl.cdiv(channels, BLOCK_CHANNELS)
    first_ky = (tile % tiles_ky) * BLOCK_MODES_Y
    tile = tile // tiles_ky
    first_kx = (tile % tiles_kx) * BLOCK_MODES_X
    tile = tile // tiles_kx
    first_c = (tile % tiles_c) * BLOCK_CHANNELS
    sample = (tile // tiles_c).to(tl.int64)

    u += sample * size_x * size_y * channels
    rows_x = tl.arange(0, 2 * BLOCK_MODES_X)
    kx_of_row = first_kx + rows_x % BLOCK_MODES_X
    half_rows = 2 * kx_of_row + rows_x // BLOCK_MODES_X
    columns_y = tl.arange(0, BLOCK_Y * BLOCK_CHANNELS)
    c_of_y = first_c + columns_y % BLOCK_CHANNELS
    rows_y = tl.arange(0, 2 * BLOCK_MODES_Y)
    ky_of_row = first_ky + rows_y % BLOCK_MODES_Y
    full_rows = 2 * ky_of_row + rows_y // BLOCK_MODES_Y
    planes_y = tl.arange(0, 2 * BLOCK_Y)

    spectrum = tl.full((2 * BLOCK_MODES_Y, BLOCK_MODES_X * BLOCK_CHANNELS), 0.0, tl.float32)
    for first_y in range(0, size_y, BLOCK_Y):
        y_of_column = first_y + columns_y // BLOCK_CHANNELS
        inside = (y_of_column < size_y) & (c_of_y < channels)
        columns = y_of_column * channels + c_of_y
        half = tl.full((2 * BLOCK_MODES_X, BLOCK_Y * BLOCK_CHANNELS), 0.0, tl.float32)
        for first_x in range(0, size_x, BLOCK_X):
            x = first_x + tl.arange(0, BLOCK_X)
            table = tl.load(
                half_table + half_rows[:, None] * size_x + x[None, :],
                mask=(kx_of_row[:, None] < modes_x) & (x[None, :] < size_x),
                other=0.0,
            )
            field = tl.load(
                u + x[:, None] * (size_y * channels) + columns[None, :],
                mask=(x[:, None] < size_x) & inside[None, :],
                other=0.0,
            )
            half = tl.dot(table, field, half, input_precision=PRECISION)
        # (plane, k_x, y, channel) to (plane, y, k_x, channel)
        half = tl.reshape(half, (2, BLOCK_MODES_X, BLOCK_Y, BLOCK_CHANNELS))
        half = tl.permute(half, (0, 2, 1, 3))
        half = tl.reshape(half, (2 * BLOCK_Y, BLOCK_MODES_X * BLOCK_CHANNELS))
        y = first_y + planes_y % BLOCK_Y
        table = tl.load(
            full_table + full_rows[:, None] * (2 * size_y) + (planes_y // BLOCK_Y * size_y + y)[None, :],
            mask=(ky_of_row[:, None] < modes_y) & (y[None, :] < size_y),
            other=0.0,
        )
        spectrum = tl.dot(table, half.to(table.dtype), spectrum, input_precision=PRECISION)

    columns_x = tl.arange(0, BLOCK_MODES_X * BLOCK_CHANNELS)
    kx = first_kx + columns_x // BLOCK_CHANNELS
    c = first_c + columns_x % BLOCK_CHANNELS
    row = ky_of_row * stride_mode + rows_y // BLOCK_MODES_Y * stride_plane
    column = kx * modes_y * stride_mode + c * stride_channel
    tl.store(
        planes + sample * stride_batch + row[:, None] + column[None, :],
        spectrum.to(planes.dtype.element_ty),
        mask=(ky_of_row[:, None] < modes_y) & ((kx < modes_x) & (c < channels))[None, :],
    )


@triton.jit
@no_type_check
def synthesis_kernel(
    planes,
    half_table,
    full_table,
    u,
    size_x,
    size_y,
    channels,
    modes_x,
    modes_y,
    stride_batch,
    stride_mode,
    stride_plane,
    stride_channel,
    ACCUMULATE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_MODES_X: tl.constexpr,
    BLOCK_MODES_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Write one tile ``(x, y, channel)`` of one sample's field, or add to it; strides are those of ``planes``."""
    tile = tl.program_id(0)
    tiles_x = tl.cdiv(size_x, BLOCK_X)
    tiles_y = tl.cdiv(size_y, BLOCK_Y)
    tiles_c = tl.cdiv(channels, BLOCK_CHANNELS)
    first_x = (tile % tiles_x) * BLOCK_X
    tile = tile // tiles_x
    first_c = (tile % tiles_c) * BLOCK_CHANNELS
    tile = tile // tiles_c
    first_y = (tile % tiles_y) * BLOCK_Y
    sample = (tile // tiles_y).to(tl.int64)

    planes += sample * stride_batch
    rows_y = tl.arange(0, 2 * BLOCK_Y)
    y_of_row = first_y + rows_y % BLOCK_Y
    full_rows = rows_y // BLOCK_Y * size_y + y_of_row
    columns_x = tl.arange(0, BLOCK_MODES_X * BLOCK_CHANNELS)
    c_of_x = first_c + columns_x % BLOCK_CHANNELS
    modes = tl.arange(0, 2 * BLOCK_MODES_Y)
    x = first_x + tl.arange(0, BLOCK_X)
    planes_x = tl.arange(0, 2 * BLOCK_MODES_X)

    field = tl.full((BLOCK_X, BLOCK_Y * BLOCK_CHANNELS), 0.0, tl.float32)
    for first_kx in range(0, modes_x, BLOCK_MODES_X):
        kx_of_column = first_kx + columns_x // BLOCK_CHANNELS
        inside = (kx_of_column < modes_x) & (c_of_x < channels)
        columns = kx_of_column * modes_y * stride_mode + c_of_x * stride_channel
        half = tl.full((2 * BLOCK_Y, BLOCK_MODES_X * BLOCK_CHANNELS), 0.0, tl.float32)
        for first_ky in range(0, modes_y, BLOCK_MODES_Y):
            ky = first_ky + modes % BLOCK_MODES_Y
            plane = modes // BLOCK_MODES_Y
            table = tl.load(
                full_table + full_rows[:, None] * (2 * modes_y) + (2 * ky + plane)[None, :],
                mask=(y_of_row[:, None] < size_y) & (ky[None, :] < modes_y),
                other=0.0,
            )
            spectrum = tl.load(
                planes + (ky * stride_mode + plane * stride_plane)[:, None] + columns[None, :],
                mask=(ky[:, None] < modes_y) & inside[None, :],
                other=0.0,
            )
            half = tl.dot(table, spectrum.to(table.dtype), half, input_precision=PRECISION)
        # (plane, y, k_x, channel) to (plane, k_x, y, channel)
        half = tl.reshape(half, (2, BLOCK_Y, BLOCK_MODES_X, BLOCK_CHANNELS))
        half = tl.permute(half, (0, 2, 1, 3))
        half = tl.reshape(half, (2 * BLOCK_MODES_X, BLOCK_Y * BLOCK_CHANNELS))
        kx = first_kx + planes_x % BLOCK_MODES_X
        table = tl.load(
            half_table + x[:, None] * (2 * modes_x) + (2 * kx + planes_x // BLOCK_MODES_X)[None, :],
            mask=(x[:, None] < size_x) & (kx[None, :] < modes_x),
            other=0.0,
        )
        field = tl.dot(table, half.to(table.dtype), field, input_precision=PRECISION)

    columns_y = tl.arange(0, BLOCK_Y * BLOCK_CHANNELS)
    y = first_y + columns_y // BLOCK_CHANNELS
    c = first_c + columns_y % BLOCK_CHANNELS
    u += sample * size_x * size_y * channels
    places = u + x[:, None] * (size_y * channels) + (y * channels + c)[None, :]
    inside = (x[:, None] < size_x) & ((y < size_y) & (c < channels))[None, :]
    if ACCUMULATE:
        field += tl.load(places, mask=inside, other=0.0)
    tl.store(places, field.to(u.dtype.element_ty), mask=inside)
