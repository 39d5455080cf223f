"""Legendre sums as batched matrix products: one matrix for each order and parity, orders in groups.

Layouts. A spectrum is *packed*: ``(column, mode)``, its modes ``(order m, parity of l - m, (l - m) // 2)`` on one axis,
m ascending. On the grid's side stand Fourier coefficients along longitude, ``(order, column, lat)``. Columns are real:
fields and their real and imaginary parts. Functions of even ``l - m`` are even about the equator and the others
odd, so that half of the latitudes suffice; orders come in groups whose matrices have as many columns as the
group's first order needs, so that little is multiplied with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from .grid import SphericalGrid
from .legendre import legendre_degrees

ORDERS_PER_GROUP = 16


@dataclass(frozen=True)
class OrderGroup:
    """Orders ``first .. first + count - 1`` with ``rows`` degrees a parity, from ``place`` on in a packed spectrum."""

    first: int
    count: int
    rows: int
    place: int

    @property
    def num_modes(self) -> int:
        """Places that the group takes."""
        return 2 * self.count * self.rows


@dataclass(frozen=True)
class PackedModes:
    """Where the modes ``0 <= m <= l <= T`` of a truncation T stand in a packed spectrum.

    The truncation is triangular, or trapezoidal where ``max_order`` keeps fewer orders than degrees.
    """

    truncation: int
    max_order: int | None = None

    @property
    def num_orders(self) -> int:
        """Orders that are kept, from 0 on."""
        return 1 + (self.truncation if self.max_order is None else self.max_order)

    @cached_property
    def groups(self) -> tuple[OrderGroup, ...]:
        """The groups of orders, ascending."""
        groups, place = [], 0
        for first in range(0, self.num_orders, ORDERS_PER_GROUP):
            count = min(ORDERS_PER_GROUP, self.num_orders - first)
            groups.append(OrderGroup(first, count, (self.truncation - first) // 2 + 1, place))
            place += groups[-1].num_modes
        return tuple(groups)

    @cached_property
    def orders_and_degrees(self) -> tuple[Int[np.ndarray, " mode"], Int[np.ndarray, " mode"]]:
        """``m`` and ``l`` of every place; places beyond the truncation have ``l > T`` and hold zeros."""
        orders, degrees = [], []
        for group in self.groups:
            axes = (np.arange(group.first, group.first + group.count), np.arange(2), np.arange(group.rows))
            m, parity, k = np.meshgrid(*axes, indexing="ij")
            orders.append(m.ravel())
            degrees.append((m + 2 * k + parity).ravel())
        return np.concatenate(orders), np.concatenate(degrees)


class LegendreProducts:
    """Sums over degrees and quadrature over latitudes for every order, for scalars and for vector harmonics.

    Args:
        grid: the latitudes.
        truncation: T.
        dtype: of the matrices, which are computed in float64.
        device: where they live.
    """

    def __init__(self, grid: SphericalGrid, truncation: int, dtype: torch.dtype, device: str) -> None:
        self.modes = PackedModes(truncation)
        self.num_lat = grid.num_lat
        scalar, vector = scalar_tables(self.modes, grid), _vector_tables(self.modes, grid)
        self._scalar = [torch.from_numpy(table).flatten(0, 1).to(device, dtype) for table in scalar]
        self._vector = [torch.from_numpy(table).flatten(0, 1).to(device, dtype) for table in vector]
        self._weights = torch.from_numpy(folded_weights(grid)).to(device, dtype)

    def synthesise(self, modes: Float[Tensor, "column mode"]) -> Float[Tensor, "order column lat"]:
        """Return ``Σ_l P_lm û_lm``."""
        parts = []
        for group, table in zip(self.modes.groups, self._scalar, strict=True):
            parts.append(torch.bmm(_block(modes, group).flatten(1, 2).transpose(0, 1), table.mT))
        return self._unfold(torch.cat(parts))

    def synthesise_vector(
        self, over_sine: Float[Tensor, "column mode"], by_colatitude: Float[Tensor, "column mode"]
    ) -> Float[Tensor, "order column lat"]:
        """Return ``Σ_l (m P_lm / sin θ) a_lm + (dP_lm/dθ) b_lm``; a and b are the arguments."""
        parts = []
        for group, table in zip(self.modes.groups, self._vector, strict=True):
            # d/dθ turns even into odd: what meets in one half of the grid has the other parity there.
            pair = torch.stack([_block(over_sine, group), _block(by_colatitude, group).flip(2)], dim=3)
            parts.append(torch.bmm(pair.flatten(3).flatten(1, 2).transpose(0, 1), table.mT))
        return self._unfold(torch.cat(parts))

    def analyse(self, field: Float[Tensor, "order column lat"]) -> Float[Tensor, "column mode"]:
        """Return ``∫ P_lm f_m`` over the sphere."""
        parts = []
        folded = self._fold(field)
        for group, table in zip(self.modes.groups, self._scalar, strict=True):
            sums = torch.bmm(folded[2 * group.first : 2 * (group.first + group.count)], table)
            parts.append(sums.transpose(0, 1).flatten(1))
        return torch.cat(parts, dim=1)

    def analyse_vector(
        self, field: Float[Tensor, "order column lat"]
    ) -> tuple[Float[Tensor, "column mode"], Float[Tensor, "column mode"]]:
        """Return ``∫ (m P_lm / sin θ) f_m`` and ``∫ (dP_lm/dθ) f_m`` over the sphere."""
        over_sine, by_colatitude = [], []
        folded = self._fold(field)
        for group, table in zip(self.modes.groups, self._vector, strict=True):
            sums = torch.bmm(folded[2 * group.first : 2 * (group.first + group.count)], table)
            pair = sums.transpose(0, 1).unflatten(2, (2, group.rows)).unflatten(1, (group.count, 2))
            over_sine.append(pair[:, :, :, 0].flatten(1))
            by_colatitude.append(pair[:, :, :, 1].flip(2).flatten(1))
        return torch.cat(over_sine, dim=1), torch.cat(by_colatitude, dim=1)

    def _fold(self, field: Tensor) -> Tensor:
        """Return even and odd parts about the equator times quadrature weights, ``(order · parity, column, half)``."""
        half = len(self._weights)
        ahead, behind = field[..., :half], field[..., self.num_lat - half :].flip(-1)
        return torch.stack([ahead + behind, ahead - behind], dim=1).mul_(self._weights).flatten(0, 1)

    def _unfold(self, parts: Tensor) -> Tensor:
        """Return a field on all latitudes from its even and odd parts."""
        even, odd = parts.unflatten(0, (-1, 2)).unbind(1)
        behind = (even - odd)[..., : self.num_lat // 2]
        return torch.cat([even + odd, behind.flip(-1)], dim=-1)


def _block(modes: Float[Tensor, "column mode"], group: OrderGroup) -> Float[Tensor, "column order 2 row"]:
    block = modes[:, group.place : group.place + group.num_modes]
    return block.unflatten(1, (group.count, 2, group.rows))


def folded_weights(grid: SphericalGrid) -> Float64[np.ndarray, " half"]:
    """Return ``2π w`` of the latitudes of one hemisphere, for sums over a field's even and odd parts."""
    weights = 2 * np.pi * grid.weights[: (grid.num_lat + 1) // 2]
    if grid.num_lat % 2:
        weights[-1] /= 2  # the equator is folded upon itself
    return weights


def scalar_tables(modes: PackedModes, grid: SphericalGrid) -> list[Float64[np.ndarray, "order 2 half row"]]:
    """Return ``P_lm`` of each group on one hemisphere; zero beyond the truncation."""
    half = (grid.num_lat + 1) // 2
    tables = [np.zeros((g.count, 2, half, g.rows)) for g in modes.groups]
    for degree, (values, _, _) in enumerate(legendre_degrees(modes.truncation, grid.colatitudes[:half])):
        for group, table in zip(modes.groups, tables, strict=True):
            m = np.arange(group.first, min(group.first + group.count, degree + 1))
            table[m - group.first, (degree - m) % 2, :, (degree - m) // 2] = values[m]
    return tables


def _vector_tables(modes: PackedModes, grid: SphericalGrid) -> list[Float64[np.ndarray, "order 2 half row2"]]:
    """Return ``m P_lm / sin θ`` beside ``dP_lm/dθ`` of each group on one hemisphere."""
    half = (grid.num_lat + 1) // 2
    tables = [np.zeros((g.count, 2, half, 2 * g.rows)) for g in modes.groups]
    for degree, (_, over_sine, by_colatitude) in enumerate(
        legendre_degrees(modes.truncation, grid.colatitudes[:half])
    ):
        for group, table in zip(modes.groups, tables, strict=True):
            m = np.arange(group.first, min(group.first + group.count, degree + 1))
            i, parity, k = m - group.first, (degree - m) % 2, (degree - m) // 2
            table[i, parity, :, k] = over_sine[m]
            table[i, 1 - parity, :, group.rows + k] = by_colatitude[m]
    return tables
