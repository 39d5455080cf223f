"""The spherical harmonic transform in the layout that is fastest: longitude first, packed spectra.

Fields are ``(lon, field, lat)``; spectra are planar, ``(2, field, mode)``: real and imaginary parts, packed modes. In
this layout every sum is a matrix product on contiguous memory. The sphere has radius 1.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from pdesurrogate.fields import fourier

from .grid import SphericalGrid
from .legendre_products import LegendreProducts

LARGEST_DFT = 256
"""Longitudes up to which cosine and sine tables are faster than FFTs with their changes of layout."""


class PackedTransform:
    """Fields to and from packed spectra of a triangular truncation; see `SphericalTransform` for conventions.

    Args:
        grid: the points.
        truncation: T.
        dtype: of the fields, float32 or float64.
        device: of the fields.

    Attributes:
        order, degree: ``m`` and ``l`` of every packed mode; modes with ``l > T`` are padding and hold zeros.
        inverse_laplacian: ``-1/(l(l+1))`` of every packed mode, 0 for the mean and for padding; float64.

    Raises:
        ValueError: for another dtype.
    """

    def __init__(self, grid: SphericalGrid, truncation: int, dtype: torch.dtype, device: str) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; spherical transforms know torch.float32 and torch.float64.")
        self.grid, self.truncation, self.dtype = grid, truncation, dtype
        self.products = LegendreProducts(grid, truncation, dtype, device)
        self._longitudes = None
        if grid.num_lon <= LARGEST_DFT:
            self._longitudes = fourier.dft_plan((grid.num_lon,), (2 * truncation + 1,), dtype, device)
        order, degree = self.products.modes.orders_and_degrees
        self.order, self.degree = torch.from_numpy(order).to(device), torch.from_numpy(degree).to(device)
        is_inverted = (degree > 0) & (degree <= truncation)
        inverse = np.where(is_inverted, -1.0 / np.maximum(degree * (degree + 1.0), 1.0), 0.0)
        self.inverse_laplacian = torch.from_numpy(inverse).to(device)
        inside = np.flatnonzero(degree <= truncation)
        square = np.full((truncation + 1, truncation + 1), len(order))
        square[degree[inside], order[inside]] = inside
        self._place_of = torch.from_numpy(square.ravel()).to(device)
        place_in_square = np.minimum(degree, truncation + 1) * (truncation + 1) + order
        self._index_of = torch.from_numpy(place_in_square).to(device)

    def analyse(self, field: Float[Tensor, "lon field lat"]) -> Float[Tensor, "2 field mode"]:
        """Return the coefficients of scalar fields."""
        return _planes(self.products.analyse(self.to_orders(field)))

    def synthesise(self, modes: Float[Tensor, "2 field mode"]) -> Float[Tensor, "lon field lat"]:
        """Return scalar fields on the grid."""
        return self.to_grid(self.products.synthesise(modes.flatten(0, 1)))

    def synthesise_vector(
        self, stream: Float[Tensor, "2 field mode"], potential: Float[Tensor, "2 field mode"]
    ) -> Float[Tensor, "lon two_field lat"]:
        """Return the eastward, then the northward velocities of stream functions and velocity potentials."""
        return self.to_grid(self.velocity_orders(stream, potential))

    def velocity_orders(
        self, stream: Float[Tensor, "2 field mode"], potential: Float[Tensor, "2 field mode"]
    ) -> Float[Tensor, "order column lat"]:
        """Return the Fourier coefficients along longitude of what `synthesise_vector` gives."""
        over_sine = torch.cat([times_i(potential), times_i(stream)], dim=1)
        by_colatitude = torch.cat([stream, -potential], dim=1)
        return self.products.synthesise_vector(over_sine.flatten(0, 1), by_colatitude.flatten(0, 1))

    def analyse_vector(
        self, velocity: Float[Tensor, "lon two_field lat"]
    ) -> tuple[Float[Tensor, "2 field mode"], Float[Tensor, "2 field mode"]]:
        """Return vorticity and divergence of velocities: the eastward components first, then the northward."""
        over_sine, by_colatitude = self.products.analyse_vector(self.to_orders(velocity))
        east_s, north_s = _planes(over_sine).chunk(2, dim=1)
        east_d, north_d = _planes(by_colatitude).chunk(2, dim=1)
        return times_i(north_s) - east_d, times_i(east_s) + north_d

    def to_orders(self, field: Float[Tensor, "lon field lat"]) -> Float[Tensor, "order column lat"]:
        """Return Fourier coefficients along longitude."""
        if self._longitudes is not None:
            orders = self._longitudes.analyse(field.reshape(1, self.grid.num_lon, -1))[0]
        else:
            spectrum = fourier.pruned_forward(field.permute(1, 2, 0), (2 * self.truncation + 1,))
            orders = torch.view_as_real(spectrum).permute(2, 3, 0, 1)
        return orders.reshape(self.truncation + 1, 2 * field.shape[1], field.shape[2])

    def to_grid(self, orders: Float[Tensor, "order column lat"]) -> Float[Tensor, "lon field lat"]:
        """Return fields from their Fourier coefficients along longitude."""
        planes = orders.unflatten(1, (2, -1))
        num_fields, num_lat = planes.shape[2:]
        if self._longitudes is not None:
            columns = planes.reshape(1, self.truncation + 1, 2, -1)
            return self._longitudes.synthesise(columns).view(self.grid.num_lon, num_fields, num_lat)
        spectrum = torch.complex(*planes.permute(1, 2, 3, 0).contiguous())
        return fourier.pruned_inverse(spectrum, (self.grid.num_lon,)).permute(2, 0, 1)

    def pack(self, spectrum: Complex[Tensor, "*lead degree order"]) -> Float[Tensor, "2 field mode"]:
        """Return the packed form of spectra, their leading axes flattened.

        Raises:
            ValueError: if they have another truncation.
        """
        size = self.truncation + 1
        if spectrum.shape[-2:] != (size, size):
            raise ValueError(
                f"a spectrum of shape {tuple(spectrum.shape[-2:])} was given; truncation T = {self.truncation} has "
                f"{size} degrees and {size} orders."
            )
        flat = torch.view_as_real(spectrum.reshape(-1, size * size)).movedim(-1, 0)
        return torch.nn.functional.pad(flat, (0, size))[..., self._index_of].to(self.dtype)

    def unpack(
        self, modes: Float[Tensor, "2 field mode"], lead: tuple[int, ...]
    ) -> Complex[Tensor, "*lead degree order"]:
        """Return spectra with degrees and orders as axes."""
        square = torch.nn.functional.pad(modes, (0, 1))[..., self._place_of]
        size = self.truncation + 1
        return torch.complex(*square).reshape(*lead, size, size)


def times_i(modes: Float[Tensor, "2 field mode"]) -> Float[Tensor, "2 field mode"]:
    """Return i times a planar spectrum."""
    return torch.stack([-modes[1], modes[0]])


def _planes(columns: Float[Tensor, "column mode"]) -> Float[Tensor, "2 field mode"]:
    return columns.unflatten(0, (2, -1))


def packed_transform(
    grid: SphericalGrid, truncation: int, dtype: torch.dtype, device: str
) -> PackedTransform:
    """Return a transform from a cache; its matrices are ordinary tensors even if it is made in inference mode."""
    return _cached_transform(grid, truncation, dtype, device)


@lru_cache(maxsize=16)
def _cached_transform(
    grid: SphericalGrid, truncation: int, dtype: torch.dtype, device: str
) -> PackedTransform:
    with torch.inference_mode(False):
        return PackedTransform(grid, truncation, dtype, device)
