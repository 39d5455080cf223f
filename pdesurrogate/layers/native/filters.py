"""Filters of channels-last fields through the compiled library: the same ones for all channels, tap by tap."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .loader import native_library, reason_without_native


def filter_lines(
    padded: Float[Tensor, "batch *layout channel"],
    lines: Int[Tensor, " line"],
    points: int,
    taps: tuple[Int[Tensor, " bounds"], Int[Tensor, " tap"], Float[Tensor, " tap"]],
    out: Float[Tensor, "line point filter channel"] | None = None,
) -> Float[Tensor, "line point filter channel"]:
    """Return ``z_m(x) = Σ_j f_m(j) v(x + j)`` for every filter ``m`` along some lines of the innermost axis.

    Args:
        padded: contiguous float32 fields on the CPU, with room for the filters around every point.
        lines: where each line begins, counted in numbers of ``padded``.
        points: of a line.
        taps: where the taps of each filter begin and the last ones end; their shifts, counted in numbers of
            ``padded``; their values.
        out: memory for the result.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: if a tensor is not contiguous on the CPU or of the wrong type, or a tap would leave ``padded``.
    """
    library = native_library()
    if library is None:
        raise RuntimeError(f"the native filters are not available: {reason_without_native()}")
    bounds, shifts, values = taps
    wanted = ((padded, torch.float32), (lines, torch.int64), (bounds, torch.int64), (shifts, torch.int64))
    channels, num_filters = padded.shape[-1], len(bounds) - 1
    z = padded.new_empty(len(lines), points, num_filters, channels) if out is None else out
    if z.shape != (len(lines), points, num_filters, channels):
        raise ValueError(
            f"out has the shape {tuple(z.shape)}; it must be {(len(lines), points, num_filters, channels)}."
        )
    for tensor, dtype in (*wanted, (values, torch.float32), (z, torch.float32)):
        if tensor.dtype != dtype or tensor.device.type != "cpu" or not tensor.is_contiguous():
            raise ValueError(
                f"a tensor of the native filters is {tensor.dtype} on {tensor.device}; it must be contiguous {dtype} "
                "on the CPU."
            )
    if len(lines) and len(shifts):
        # The library sees addresses and no sizes.
        first = int(lines.min()) + int(shifts.min())
        last = int(lines.max()) + int(shifts.max()) + points * channels
        if first < 0 or last > padded.numel():
            raise ValueError(f"taps reach from {first} to {last} of a field of {padded.numel()} numbers.")
    sizes = torch.get_num_threads(), len(lines), points, channels, num_filters
    arrays = lines, bounds, shifts, values, padded, z
    library.filter_lines(*(ctypes.c_long(n) for n in sizes), *(ctypes.c_void_p(t.data_ptr()) for t in arrays))
    return z
