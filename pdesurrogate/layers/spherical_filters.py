"""Filters of local integral kernels on the sphere, sampled around every latitude and summed by quadrature.

A filter ``ψ(r, α)`` is seen from the point of evaluation: r is the angle of the great circle to the other point, α its
direction there, counted from south towards east. Along a circle of latitude all points see the same filter, turned
about the axis, so that the sum over longitudes is a convolution and its Fourier modes a product: for every order m
there is a matrix from latitudes to latitudes, of a band as wide as the cutoff. Rows of latitude are taken together in
blocks, whose products are dense. A sparse matrix over the points has fewer terms, whatever the grid by the same factor,
and loses more than that factor to dense products in speed.

At the poles themselves, which equiangular grids hold, a direction is that of the meridian on which the pole is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..fields.fourier import forward_transform
from ..fields.fourier.kept_tables import kept
from ..fields.spherical.grid import SphericalGrid
from ..fields.spherical.longitude_transform import LongitudeTransform
from .filter_basis import FilterBasis, filter_basis

ROWS_PER_BLOCK = 8


@dataclass(frozen=True)
class LatitudeBlock:
    """Matrices from the input latitudes ``first .. first + size - 1`` to some output latitudes, for every order.

    Attributes:
        first: first input latitude.
        size: number of input latitudes.
        rows: number of output latitudes.
        tables: real parts of all rows, then imaginary parts.
    """

    first: int
    size: int
    rows: int
    tables: Float[Tensor, "order function two_rows size"]

    @property
    def latitudes(self) -> slice:
        """The input latitudes."""
        return slice(self.first, self.first + self.size)


class SphericalFilters:
    """The sums ``f_l(x) = Σ_j q_j ψ_l(r, α) v(x_j) / n_l(x)`` of all filters of a basis between two grids.

    q are the areas of quadrature and ``n_l(x) = Σ_j q_j |ψ_l|``, at every latitude. A constant is therefore left as it
    is by filters that are nowhere negative, on any grid. Waves that the output's longitudes cannot carry are left out.

    Args:
        basis: the filters.
        cutoff: angle in radians at which they end.
        grid: points of the input.
        out_grid: points of the output.
        dtype, device: of the fields.

    Attributes:
        blocks: the matrices, output latitudes in order.
        inward, outward: the transforms along longitude.

    Raises:
        ValueError: for a cutoff that is no angle, or that spans less than the grid resolves.
    """

    def __init__(
        self,
        basis: FilterBasis,
        cutoff: float,
        grid: SphericalGrid,
        out_grid: SphericalGrid,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        require_cutoff(cutoff, grid)
        num_orders = grid.num_lon // 2 + 1
        if out_grid.num_lon != grid.num_lon:
            num_orders = (min(grid.num_lon, out_grid.num_lon) + 1) // 2
        self.inward = LongitudeTransform(grid.num_lon, num_orders, dtype, device)
        self.outward = LongitudeTransform(out_grid.num_lon, num_orders, dtype, device)
        self.blocks = []
        for start in range(0, out_grid.num_lat, ROWS_PER_BLOCK):
            rows = [
                _row(basis, cutoff, grid, theta)
                for theta in out_grid.colatitudes[start : start + ROWS_PER_BLOCK]
            ]
            first = min(j for j, _ in rows)
            size = max(j + filters.shape[1] for j, filters in rows) - first
            tables = torch.zeros(num_orders, basis.size, 2, len(rows), size, dtype=dtype)
            for i, (j, filters) in enumerate(rows):
                # f(λ) = Σ_n ψ(Δ_n) v(λ + Δ_n): the mode m of v is multiplied by Σ_n ψ(Δ_n) exp(imΔ_n).
                modes = grid.num_lon * forward_transform(filters, 1).conj()[..., :num_orders]
                place = slice(j - first, j - first + filters.shape[1])
                tables[:, :, 0, i, place] = modes.real.permute(2, 0, 1).to(dtype)
                tables[:, :, 1, i, place] = modes.imag.permute(2, 0, 1).to(dtype)
            self.blocks.append(LatitudeBlock(first, size, len(rows), tables.flatten(2, 3).to(device)))


def require_cutoff(cutoff: float, grid: SphericalGrid) -> None:
    """Refuse a cutoff that is no angle on the sphere, or shorter than the distance of latitudes.

    Raises:
        ValueError: with the range that the grid allows.
    """
    spacing = float(np.abs(np.diff(grid.colatitudes)).max())
    if not (math.isfinite(cutoff) and 0 < cutoff <= math.pi):
        raise ValueError(
            f"cutoff is {cutoff}; it is an angle in radians, above 0 and at most π = {math.pi:.4f}."
        )
    if cutoff < spacing:
        raise ValueError(
            f"cutoff is {cutoff:.4g} rad and the latitudes of the grid {grid.shape} lie {spacing:.4g} rad apart: "
            f"filters would see no neighbour. Use a cutoff of at least {_round_up(spacing)}, or at least "
            f"{math.ceil(math.pi / cutoff) + 1} latitudes."
        )


def spherical_filters(
    basis: str,
    basis_shape: tuple[int, ...] | None,
    cutoff: float,
    grid: SphericalGrid,
    out_grid: SphericalGrid,
    dtype: torch.dtype,
    device: str,
) -> SphericalFilters:
    """Return the filters of a `filter_basis` from a cache, which layers share.

    The matrices are ordinary tensors even if they are made in inference mode.
    """
    return kept(_cached_filters(basis, basis_shape, cutoff, grid, out_grid, dtype, device))


@lru_cache(maxsize=16)
def _cached_filters(
    basis: str,
    basis_shape: tuple[int, ...] | None,
    cutoff: float,
    grid: SphericalGrid,
    out_grid: SphericalGrid,
    dtype: torch.dtype,
    device: str,
) -> SphericalFilters:
    with torch.inference_mode(False):
        return SphericalFilters(filter_basis(basis, 2, basis_shape), cutoff, grid, out_grid, dtype, device)


def polar_offsets(
    theta: float, colatitudes: Float64[np.ndarray, " lat"], longitudes: Float64[np.ndarray, " lon"]
) -> tuple[Float64[Tensor, "lat lon"], Float64[Tensor, "lat lon"]]:
    """Return angular distance and direction of points as seen from the colatitude ``theta`` at longitude 0."""
    there, angle = torch.from_numpy(colatitudes.copy())[:, None], torch.from_numpy(longitudes.copy())[None]
    south = math.cos(theta) * there.sin() * angle.cos() - math.sin(theta) * there.cos()
    east = there.sin() * angle.sin()
    up = math.cos(theta) * there.cos() + math.sin(theta) * there.sin() * angle.cos()
    return torch.atan2(torch.hypot(south, east), up), torch.atan2(east, south)


def _row(
    basis: FilterBasis, cutoff: float, grid: SphericalGrid, theta: float
) -> tuple[int, Float64[Tensor, "function lat lon"]]:
    """Return the filters around one colatitude with quadrature and normalisation, and the latitude they begin at."""
    within = np.flatnonzero(np.abs(grid.colatitudes - theta) <= cutoff)
    radius, angle = polar_offsets(theta, grid.colatitudes[within], grid.longitudes)
    areas = torch.from_numpy(2 * math.pi / grid.num_lon * grid.weights[within])[:, None]
    filters = areas * basis.on_disc(radius / cutoff, angle)
    norms = filters.abs().sum((1, 2), keepdim=True)
    if not (norms > 1e-3 * norms.max()).all():
        spacing = float(np.abs(np.diff(grid.colatitudes)).max())
        empty = torch.nonzero(norms.flatten() <= 1e-3 * norms.max()).flatten().tolist()
        raise ValueError(
            f"the filters {empty} of a basis of {basis.size} hold no point of the grid {grid.shape} around latitude "
            f"{90 - math.degrees(theta):.1f}° within the cutoff {cutoff:.4g} rad (latitudes lie {spacing:.4g} rad "
            "apart). Use a larger cutoff, fewer filters or a finer grid."
        )
    return int(within[0]), filters / norms


def _round_up(value: float) -> str:
    """Return two digits that are not below the value."""
    digits = 1 - math.floor(math.log10(value))
    return f"{math.ceil(value * 10**digits) / 10**digits:.{max(digits, 0)}f}"
