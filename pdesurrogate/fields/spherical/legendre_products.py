"""Legendre sums as batched matrix products: one matrix for each order and parity, orders in groups.

A spectrum is *packed*: its modes ``(order m, parity of l - m, (l - m) // 2)`` are one axis, m ascending. Functions of
even ``l - m`` are even about the equator and the others odd, so that half of the latitudes suffice. Orders come in
groups whose matrices have as many rows as the group's first order needs: little is multiplied with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .grid import SphericalGrid
from .legendre import legendre_degrees


@dataclass(frozen=True)
class PackedModes:
    """Where the modes ``0 <= m <= l <= T`` of a triangular truncation stand in a packed spectrum.

    Attributes:
        truncation: T.
        group_size: orders a group.
    """

    truncation: int
    group_size: int

    @cached_property
    def groups(self) -> list[tuple[int, int, int, int]]:
        """First order, number of orders, modes a parity and first place of each group."""
        groups, place = [], 0
        for first in range(0, self.truncation + 1, self.group_size):
            orders = min(self.group_size, self.truncation + 1 - first)
            rows = (self.truncation - first) // 2 + 1
            groups.append((first, orders, rows, place))
            place += orders * 2 * rows
        return groups

    @cached_property
    def orders_and_degrees(self) -> tuple[Int[np.ndarray, " modes"], Int[np.ndarray, " modes"]]:
        """``m`` and ``l`` of every place; places beyond the truncation have ``l > T`` and hold zeros."""
        orders, degrees = [], []
        for first, count, rows, _ in self.groups:
            m, parity, k = np.meshgrid(
                np.arange(first, first + count), np.arange(2), np.arange(rows), indexing="ij"
            )
            orders.append(m.ravel())
            degrees.append((m + 2 * k + parity).ravel())
        return np.concatenate(orders), np.concatenate(degrees)


class LegendreProducts:
    """The sums over degrees and over latitudes of every order, for scalars and for vector harmonics.

    Grid side: ``(order, parity, lat, column)`` on half of the latitudes, or ``(order, lat, column)`` on all of
    them; spectral side: ``(mode, column)``. All real; columns are fields and their real and imaginary parts.

    Args:
        grid: the latitudes.
        truncation: T.
        dtype: of the matrices, which are computed in float64.
        device: where they live.
        group_size: orders a group.
    """

    def __init__(
        self, grid: SphericalGrid, truncation: int, dtype: torch.dtype, device: str, group_size: int = 16
    ) -> None:
        self.modes = PackedModes(truncation, group_size)
        self.num_lat = grid.num_lat
        half = (grid.num_lat + 1) // 2
        scalar = [np.zeros((n, 2, k, half)) for _, n, k, _ in self.modes.groups]
        vector = [np.zeros((n, 2, 2, k, half)) for _, n, k, _ in self.modes.groups]
        for degree, rows in enumerate(legendre_degrees(truncation, grid.colatitudes[:half])):
            for (first, n, _, _), values, pair in zip(self.modes.groups, scalar, vector, strict=True):
                m = np.arange(first, min(first + n, degree + 1))
                parity, k = (degree - m) % 2, (degree - m) // 2
                values[m - first, parity, k] = rows[0][m]
                pair[m - first, parity, 0, k] = rows[1][m]
                # d/dθ turns even into odd: it serves the other parity of the grid.
                pair[m - first, 1 - parity, 1, k] = rows[2][m]

        def matrices(tables: list[np.ndarray]) -> list[Tensor]:
            return [torch.from_numpy(t).reshape(-1, *t.shape[-2:]).to(device, dtype) for t in tables]

        self._scalar = matrices(scalar)
        self._vector = matrices([t.reshape(t.shape[0], 2, -1, half) for t in vector])
        weights = 2 * np.pi * grid.weights[:half]
        if grid.num_lat % 2:
            weights[-1] /= 2  # the equator is folded upon itself
        self.weights: Float[Tensor, "lat 1"] = torch.from_numpy(weights)[:, None].to(device, dtype)

    def synthesise(self, modes: Float[Tensor, "mode column"]) -> Float[Tensor, "order 2 lat column"]:
        """Return ``Σ_l P_lm û_lm`` by parity about the equator."""
        columns = modes.shape[-1]
        parts = []
        for (_, n, k, place), table in zip(self.modes.groups, self._scalar, strict=True):
            block = modes[place : place + 2 * n * k].reshape(2 * n, k, columns)
            parts.append(torch.bmm(table.mT, block).view(n, 2, -1, columns))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def analyse(self, field: Float[Tensor, "order 2 lat column"]) -> Float[Tensor, "mode column"]:
        """Return ``Σ_j P_lm(θ_j) f_m(θ_j)`` over half of the latitudes: weights are the caller's."""
        columns = field.shape[-1]
        parts = []
        for (first, n, _, _), table in zip(self.modes.groups, self._scalar, strict=True):
            block = field[first : first + n].reshape(2 * n, -1, columns)
            parts.append(torch.bmm(table, block).view(-1, columns))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def synthesise_vector(
        self, over_sine: Float[Tensor, "mode column"], by_colatitude: Float[Tensor, "mode column"]
    ) -> Float[Tensor, "order 2 lat column"]:
        """Return ``Σ_l (m P_lm / sin θ) a_lm + (dP_lm/dθ) b_lm`` by parity; a and b are the arguments."""
        columns = over_sine.shape[-1]
        parts = []
        for (_, n, k, place), table in zip(self.modes.groups, self._vector, strict=True):
            a, b = (
                modes[place : place + 2 * n * k].view(n, 2, k, columns)
                for modes in (over_sine, by_colatitude)
            )
            block = torch.stack([a, b.flip(1)], dim=2).view(2 * n, 2 * k, columns)
            parts.append(torch.bmm(table.mT, block).view(n, 2, -1, columns))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def analyse_vector(
        self, field: Float[Tensor, "order 2 lat column"]
    ) -> tuple[Float[Tensor, "mode column"], Float[Tensor, "mode column"]]:
        """Return the sums over half of the latitudes of ``m P_lm / sin θ`` and of ``dP_lm/dθ`` with a field."""
        columns = field.shape[-1]
        over_sine, by_colatitude = [], []
        for (first, n, k, _), table in zip(self.modes.groups, self._vector, strict=True):
            block = field[first : first + n].reshape(2 * n, -1, columns)
            sums = torch.bmm(table, block).view(n, 2, 2, k, columns)
            over_sine.append(sums[:, :, 0].reshape(-1, columns))
            by_colatitude.append(sums[:, :, 1].flip(1).reshape(-1, columns))
        return torch.cat(over_sine), torch.cat(by_colatitude)

    def fold(self, field: Float[Tensor, "order lat column"]) -> Float[Tensor, "order 2 lat column"]:
        """Return even and odd parts about the equator, times ``2π`` and the quadrature weights."""
        half = self.weights.shape[0]
        ahead, behind = field[:, :half], field.flip(1)[:, :half]
        return torch.stack([ahead + behind, ahead - behind], dim=1) * self.weights

    def unfold(self, field: Float[Tensor, "order 2 half column"]) -> Float[Tensor, "order lat column"]:
        """Return a field on all latitudes from its even and odd parts."""
        even, odd = field.unbind(1)
        behind = (even - odd)[:, : self.num_lat // 2]
        return torch.cat([even + odd, behind.flip(1)], dim=1)
