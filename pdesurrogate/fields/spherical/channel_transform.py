"""The spherical harmonic transform of neural networks: channels last, spectra by degree.

Fields are ``(batch, lon, lat, channel)``, the layout of the Fourier layers with longitude as the half axis. Spectra
are *by degree*: rows ``(degree, order)``, each ``(plane, batch, channel)``, real and imaginary part, so that all
modes of one degree meet its weight in one matrix product. Degrees come in groups whose rows are as long as the group's
last degree needs; places with ``m > l`` hold zeros. Every step is a product with a constant table or a change of order,
so that a backward pass needs nothing of the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pdesurrogate.fields.fourier.kept_tables import kept

from .grid import SphericalGrid
from .legendre_products import PackedModes, folded_weights, scalar_tables
from .longitude_transform import LongitudeTransform

DEGREES_PER_GROUP = 16


@dataclass(frozen=True)
class DegreeGroup:
    """Degrees ``first .. first + count - 1``, each with ``orders`` orders, from row ``place`` on."""

    first: int
    count: int
    orders: int
    place: int

    @property
    def rows(self) -> slice:
        """Its rows in a spectrum by degree."""
        return slice(self.place, self.place + self.count * self.orders)


class ChannelTransform:
    """Scalar fields on a grid to and from spherical harmonics of degrees up to T and orders up to ``max_order``.

    Conventions are those of `SphericalTransform`; on the unit sphere.

    Args:
        grid: the points.
        truncation: T.
        max_order: largest order that is kept, at most T; T if None.
        dtype: of the fields.
        device: of the fields.

    Attributes:
        groups: the groups of degrees in the rows of a spectrum.
        num_rows: rows of a spectrum.

    Raises:
        ValueError: for a truncation beyond what the grid analyses exactly, or orders beyond the degrees.
    """

    def __init__(
        self,
        grid: SphericalGrid,
        truncation: int,
        max_order: int | None,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        grid.require(truncation)
        if max_order is not None and not 0 <= max_order <= truncation:
            raise ValueError(
                f"max_order is {max_order}; orders go from 0 to the largest degree, {truncation}."
            )
        self.grid, self.truncation = grid, truncation
        self._modes = PackedModes(truncation, max_order)
        self._longitudes = LongitudeTransform(grid.num_lon, self._modes.num_orders, dtype, device)
        tables = [table.reshape(-1, *table.shape[2:]) for table in scalar_tables(self._modes, grid)]
        weights = folded_weights(grid)[:, None]

        def cast(table: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(table)).to(device, dtype)

        self._synthesis = [cast(table) for table in tables]
        self._analysis = [cast((table * weights).swapaxes(1, 2)) for table in tables]
        self.groups = _degree_groups(truncation, self._modes.num_orders)
        self.num_rows = self.groups[-1].rows.stop
        there, back = _orders(self._modes, self.groups)
        self._there, self._back = torch.from_numpy(there).to(device), torch.from_numpy(back).to(device)

    def analyse(self, u: Float[Tensor, "batch lon lat channel"]) -> Float[Tensor, "row 2 batch channel"]:
        """Return the spectrum of fields, by quadrature."""
        batch, channels = u.shape[0], u.shape[-1]
        folded = self._fold(self._longitudes.analyse(u))
        parts = []
        for group, table in zip(self._modes.groups, self._analysis, strict=True):
            rows = folded[2 * group.first : 2 * (group.first + group.count)]
            parts.append(torch.bmm(table, rows).flatten(0, 1))
        parts.append(folded.new_zeros(1, folded.shape[-1]))  # what places with m > l are read from
        packed = torch.cat(parts)
        return _reorder(packed, self._there, self._back).view(-1, 2, batch, channels)

    def synthesise(
        self, spectrum: Float[Tensor, "row 2 batch channel"]
    ) -> Float[Tensor, "batch lon lat channel"]:
        """Return the fields of a spectrum."""
        batch, channels = spectrum.shape[2:]
        packed = _reorder(spectrum.flatten(1), self._back, self._there)
        parts = []
        for group, table in zip(self._modes.groups, self._synthesis, strict=True):
            rows = packed[group.place : group.place + group.num_modes]
            parts.append(torch.bmm(table, rows.view(2 * group.count, group.rows, -1)))
        even, odd = torch.cat(parts).unflatten(0, (-1, 2)).unbind(1)
        behind = (even - odd)[:, : self.grid.num_lat // 2]
        orders = torch.cat([even + odd, behind.flip(1)], dim=1)
        return self._longitudes.synthesise(orders.unflatten(-1, (2, batch, channels)))

    def _fold(
        self, orders: Float[Tensor, "order lat 2 batch channel"]
    ) -> Float[Tensor, "matrix half column"]:
        """Return even and odd parts about the equator, ``(order · parity, half, plane · batch · channel)``."""
        half = (self.grid.num_lat + 1) // 2
        ahead, behind = orders[:, :half], orders[:, self.grid.num_lat - half :].flip(1)
        return torch.stack([ahead + behind, ahead - behind], dim=1).flatten(3).flatten(0, 1)


def channel_transform(
    grid: SphericalGrid, truncation: int, max_order: int | None, dtype: torch.dtype, device: str
) -> ChannelTransform:
    """Return a transform from a cache; its tables are ordinary tensors even if it is made in inference mode."""
    return kept(_cached_transform(grid, truncation, max_order, dtype, device))


@lru_cache(maxsize=32)
def _cached_transform(
    grid: SphericalGrid, truncation: int, max_order: int | None, dtype: torch.dtype, device: str
) -> ChannelTransform:
    with torch.inference_mode(False):
        return ChannelTransform(grid, truncation, max_order, dtype, device)


def _degree_groups(truncation: int, num_orders: int) -> tuple[DegreeGroup, ...]:
    groups, place = [], 0
    for first in range(0, truncation + 1, DEGREES_PER_GROUP):
        count = min(DEGREES_PER_GROUP, truncation + 1 - first)
        groups.append(DegreeGroup(first, count, min(first + count, num_orders), place))
        place = groups[-1].rows.stop
    return tuple(groups)


def _orders(modes: PackedModes, groups: tuple[DegreeGroup, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row by degree its place in a packed spectrum with a row of zeros at the end, and the reverse.

    Places of a packed spectrum beyond the truncation point to row 0: tables hold zeros there, in both directions.
    """
    order, degree = modes.orders_and_degrees
    zeros = len(order)
    there = np.full(groups[-1].rows.stop, zeros)
    back = np.zeros(zeros + 1, dtype=np.int64)
    for group in groups:
        inside = np.flatnonzero((degree >= group.first) & (degree < group.first + group.count))
        rows = group.place + (degree[inside] - group.first) * group.orders + order[inside]
        there[rows], back[inside] = inside, rows
    return there, back


class _Reorder(torch.autograd.Function):
    """Rows in another order. Each row that counts is read once, so that the adjoint reads them back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, source: Tensor, adjoint_source: Tensor) -> Tensor:
        ctx.sources = source, adjoint_source
        return rows.index_select(0, source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        source, adjoint_source = ctx.sources
        return _Reorder.apply(gradients[0], adjoint_source, source), None, None


def _reorder(rows: Tensor, source: Tensor, adjoint_source: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return rows.index_select(0, source)
    return _Reorder.apply(rows, source, adjoint_source)
