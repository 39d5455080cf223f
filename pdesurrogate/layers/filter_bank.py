"""Banks of filters on grid points: ``z_m(x) = Σ_j f_m(j) v(x + j)``, the same for all channels.

What a local kernel is on a grid: differences to the neighbours, or the sampled functions of a basis. Fields are
``(batch, N_d, N_1, .., N_{d-1}, channel)``, continued by a halo (`halo`) so wide as the filters reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier.kept_tables import kept
from .native import filter_lines, native_applies
from .pointwise_mlp import piece_rows


@dataclass(frozen=True, eq=False)
class FilterBank:
    """Filters on a box of grid points around the point of evaluation.

    Attributes:
        filters: values, ``(filter, *box)``, axes in the order of the layout, an odd number of points along each.
    """

    filters: Float[Tensor, "filter *box"]

    @property
    def size(self) -> int:
        """Number of filters."""
        return self.filters.shape[0]

    @property
    def widths(self) -> tuple[int, ...]:
        """How many points the filters reach along each axis of the layout."""
        return tuple(n // 2 for n in self.filters.shape[1:])

    @property
    def num_taps(self) -> int:
        """Number of values that are not zero."""
        return int((self.filters != 0).sum())


@lru_cache(maxsize=256)
def reflected(bank: FilterBank) -> FilterBank:
    """Return the bank of ``f_m(-j)``, which carries gradients back."""
    return FilterBank(bank.filters.flip(tuple(range(1, bank.filters.ndim))))


def joined(banks: tuple[FilterBank, ...]) -> FilterBank:
    """Return one bank with the filters of all, in their order."""
    if len(banks) == 1:
        return banks[0]
    return _join(banks) if torch.compiler.is_compiling() else _cached_join(banks)


@lru_cache(maxsize=64)
def _cached_join(banks: tuple[FilterBank, ...]) -> FilterBank:
    with torch.inference_mode(False):  # gradients flow through them later
        return _join(banks)


def _join(banks: tuple[FilterBank, ...]) -> FilterBank:
    widths = [max(ws) for ws in zip(*(bank.widths for bank in banks), strict=True)]
    boxes = []
    for bank in banks:
        pads = [w - own for w, own in zip(widths, bank.widths, strict=True) for _ in range(2)]
        boxes.append(F.pad(bank.filters, pads[::-1]))
    return FilterBank(torch.cat(boxes))


def filtered(v: Tensor, bank: FilterBank) -> Tensor:
    """Return ``z``, ``(batch, *layout, filter, channel)``, from a continued field by one ordinary convolution."""
    batch, channels, ndim = v.shape[0], v.shape[-1], v.ndim - 2
    convolve = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    alone = v.movedim(-1, 1).flatten(0, 1).unsqueeze(1)
    z = convolve(alone, _values(bank, v.dtype, v.device).unsqueeze(1))
    return z.unflatten(0, (batch, channels)).movedim(1, -1).movedim(1, -2)


def _values(bank: FilterBank, dtype: torch.dtype, device: torch.device) -> Tensor:
    if torch.compiler.is_compiling():
        return bank.filters.to(device, dtype)
    return kept(_cached_values(bank, dtype, str(device)))


@lru_cache(maxsize=64)
def _cached_values(bank: FilterBank, dtype: torch.dtype, device: str) -> Tensor:
    with torch.inference_mode(False):  # gradients flow through them later
        return bank.filters.to(device, dtype)


def pieces(
    padded: Tensor, bank: FilterBank, grid: Sequence[int], num_channels: int
) -> Iterator[tuple[slice, Tensor]]:
    """Walk over a continued field in pieces that stay in cache: rows of points and ``z``, ``(row, filter, channel)``.

    The memory of a piece is that of the next one.

    Args:
        padded: a continued field, contiguous.
        bank: the filters.
        grid: sizes in the order of the layout of the field within.
        num_channels: of the field within, or of what is computed from it if that is more.
    """
    points = grid[-1]
    wide = bank.size * num_channels * padded.element_size()
    if native_applies(padded):
        lines = _lines(tuple(padded.shape), bank.widths)
        taps = _taps(bank, tuple(padded.shape))
        step = max(1, min(piece_rows(padded.device, wide * points, len(lines)), len(lines)))
        # One memory for all pieces: fresh pages would cost as much as the work.
        memory = padded.new_empty(step, points, bank.size, padded.shape[-1])
        for start in range(0, len(lines), step):
            some = lines[start : start + step]
            z = filter_lines(padded, some, points, taps, out=memory[: len(some)])
            yield slice(start * points, (start + len(some)) * points), z.flatten(0, 1)
        return
    sample = padded[0].numel() // padded.shape[-1]
    step = piece_rows(padded.device, wide * sample, padded.shape[0])
    inside = math.prod(grid)
    for start in range(0, padded.shape[0], step):
        z = filtered(padded[start : start + step], bank)
        count = z.shape[0]
        yield slice(start * inside, (start + count) * inside), z.flatten(0, -3)


@lru_cache(maxsize=64)
def _lines(shape: tuple[int, ...], widths: tuple[int, ...]) -> Tensor:
    """Return where the neighbourhood of the first point of every line begins, in numbers of a contiguous field."""
    index = torch.zeros(1, dtype=torch.int64)
    for dim, n in enumerate(shape[:-2]):
        count = n - 2 * widths[dim - 1] if dim else n
        index = (index[:, None] + torch.arange(count) * math.prod(shape[dim + 1 :])).flatten()
    return index


@lru_cache(maxsize=64)
def _taps(bank: FilterBank, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return where each filter's taps begin, their shifts in numbers of a contiguous field, and their values."""
    found = bank.filters.nonzero()
    shifts = torch.zeros(len(found), dtype=torch.int64)
    for dim in range(1, len(shape) - 1):
        shifts += found[:, dim] * math.prod(shape[dim + 1 :])
    per_filter = torch.bincount(found[:, 0], minlength=bank.size)
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), per_filter.cumsum(0)])
    return bounds, shifts, bank.filters[tuple(found.T)].to(torch.float32)
