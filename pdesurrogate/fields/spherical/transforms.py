"""The real spherical harmonic transform of scalars and of velocities."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from pdesurrogate.fields import fourier

from .grid import SphericalGrid
from .legendre_products import LegendreProducts


class SphericalTransform:
    """Fields on a grid of the sphere to and from spherical harmonics up to a triangular truncation T.

    ``f(θ, λ) = Σ_{l <= T} Σ_{|m| <= l} f̂_lm Y_lm(θ, λ)`` with orthonormal harmonics of the unit sphere (Condon-Shortley
    phase) and ``f̂_{l,-m} = (-1)^m conj(f̂_lm)``. Spectra are ``(*lead, degree, order)``, both from 0 to T, and zero above
    the diagonal. Analysis is by quadrature, exact for fields within the truncation. θ is the colatitude, λ the longitude
    counted from the first column. A velocity is ``(eastward, northward)`` on the axis before the grid::

        u = (1/a) (∂ψ/∂θ + 1/sin θ ∂χ/∂λ)      ζ = k·∇×u = Δψ
        v = (1/a) (1/sin θ ∂ψ/∂λ - ∂χ/∂θ)      δ = ∇·u = Δχ

    with stream function ψ and velocity potential χ; spectra of ``(ζ, δ)`` stand on the axis before the degrees.
    Everything is differentiable, and nothing is divided by sin θ, so that grids may hold the poles.

    Args:
        grid: the points.
        truncation: T; by default the largest that the grid analyses exactly.
        radius: a, which enters derivatives.
        dtype: of the fields, float32 or float64; matrices are computed in float64.
        device: of the fields.

    Attributes:
        degrees: ``l`` along the degree axis.
        laplacian: eigenvalues ``-l(l+1)/a²`` along the degree axis, float64.
        modes: the transform between grids and packed spectra, which solvers use directly.

    Raises:
        ValueError: for a truncation beyond the grid's, naming the needed grid; for another dtype or radius.
    """

    def __init__(
        self,
        grid: SphericalGrid,
        truncation: int | None = None,
        radius: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.truncation = grid.largest_truncation() if truncation is None else truncation
        grid.require(self.truncation)
        if not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"radius is {radius}; it must be finite and positive.")
        self.grid, self.radius = grid, radius
        self.degrees = torch.arange(self.truncation + 1, device=device)
        self.laplacian = -self.degrees.double() * (self.degrees + 1) / radius**2
        self.modes = packed_transform(grid, self.truncation, dtype, str(device))

    def analyse(self, field: Float[Tensor, "*lead lat lon"]) -> Complex[Tensor, "*lead degree order"]:
        """Return the coefficients of scalar fields."""
        lead = self._lead_of(field)
        return self.modes.unpack(self.modes.analyse(field.reshape(-1, *self.grid.shape)), lead)

    def synthesise(self, spectrum: Complex[Tensor, "*lead degree order"]) -> Float[Tensor, "*lead lat lon"]:
        """Return scalar fields on the grid."""
        lead = spectrum.shape[:-2]
        return self.modes.synthesise(self.modes.pack(spectrum)).reshape(*lead, *self.grid.shape)

    def gradient(self, spectrum: Complex[Tensor, "*lead degree order"]) -> Float[Tensor, "*lead 2 lat lon"]:
        """Return ``∇f``, eastward and northward: the velocity of the potential f."""
        packed = self.modes.pack(spectrum) / self.radius
        east, north = self.modes.synthesise_vector(torch.zeros_like(packed), packed)
        return self._joined(east, north, spectrum.shape[:-2])

    def velocity(
        self, vorticity_divergence: Complex[Tensor, "*lead 2 degree order"]
    ) -> Float[Tensor, "*lead 2 lat lon"]:
        """Return the velocity of given vorticity and divergence; their means, which no velocity has, are ignored."""
        stream, potential = (
            self.radius * self.modes.inverse_laplacian * self.modes.pack(part)
            for part in vorticity_divergence.unbind(-3)
        )
        east, north = self.modes.synthesise_vector(stream, potential)
        return self._joined(east, north, vorticity_divergence.shape[:-3])

    def vorticity_divergence(
        self, velocity: Float[Tensor, "*lead 2 lat lon"]
    ) -> Complex[Tensor, "*lead 2 degree order"]:
        """Return the spectra of vorticity and divergence of velocities."""
        lead = self._lead_of(velocity)[:-1]
        east, north = (part.reshape(-1, *self.grid.shape) for part in velocity.unbind(-3))
        parts = self.modes.analyse_vector(east, north)
        return torch.stack([self.modes.unpack(part, lead) for part in parts], dim=-3) / self.radius

    def _lead_of(self, field: Tensor) -> tuple[int, ...]:
        if field.shape[-2:] != self.grid.shape:
            raise ValueError(
                f"a field on {tuple(field.shape[-2:])} points was given to the transform of the grid {self.grid.shape}."
            )
        return tuple(field.shape[:-2])

    def _joined(self, east: Tensor, north: Tensor, lead: tuple[int, ...]) -> Tensor:
        return torch.stack([east, north], dim=1).reshape(*lead, 2, *self.grid.shape)


class PackedTransform:
    """The same transform on the unit sphere between ``(field, lat, lon)`` and packed spectra ``(mode, field)``.

    Args:
        grid: the points.
        truncation: T.
        dtype: of the fields.
        device: of the fields.

    Attributes:
        order, degree: ``m`` and ``l`` of every packed mode; modes with ``l > T`` are padding and hold zeros.
        inverse_laplacian: ``-1/(l(l+1))`` as a column, 0 for the mean.
    """

    def __init__(self, grid: SphericalGrid, truncation: int, dtype: torch.dtype, device: str) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"dtype is {dtype}; spherical transforms know torch.float32 and torch.float64."
            )
        self.grid, self.truncation = grid, truncation
        self.products = LegendreProducts(grid, truncation, dtype, device)
        order, degree = self.products.modes.orders_and_degrees
        self.order, self.degree = torch.from_numpy(order).to(device), torch.from_numpy(degree).to(device)
        inverse = np.where(degree == 0, 0.0, -1.0 / np.maximum(degree * (degree + 1.0), 1.0))
        self.inverse_laplacian = torch.from_numpy(inverse)[:, None].to(device, dtype)
        inside = np.flatnonzero(degree <= truncation)
        square = np.full((truncation + 1, truncation + 1), len(order))
        square[degree[inside], order[inside]] = inside
        self._place_of = torch.from_numpy(square.ravel()).to(device)
        degree_or_end = np.minimum(degree, truncation + 1)
        self._index_of = torch.from_numpy(degree_or_end * (truncation + 1) + order).to(device)

    def pack(self, spectrum: Complex[Tensor, "*lead degree order"]) -> Complex[Tensor, "mode field"]:
        """Return the packed form of spectra, their leading axes flattened."""
        size = self.truncation + 1
        if spectrum.shape[-2:] != (size, size):
            raise ValueError(
                f"a spectrum of shape {tuple(spectrum.shape[-2:])} was given; truncation T = {self.truncation} has "
                f"{size} degrees and {size} orders."
            )
        flat = spectrum.reshape(-1, size * size).mT
        padded = torch.cat([flat, flat.new_zeros(size, flat.shape[1])])
        return padded[self._index_of]

    def unpack(
        self, modes: Complex[Tensor, "mode field"], lead: tuple[int, ...]
    ) -> Complex[Tensor, "*lead degree order"]:
        """Return spectra with degrees and orders as axes."""
        padded = torch.cat([modes, modes.new_zeros(1, modes.shape[1])])
        size = self.truncation + 1
        return padded[self._place_of].mT.reshape(*lead, size, size)

    def analyse(self, field: Float[Tensor, "field lat lon"]) -> Complex[Tensor, "mode field"]:
        """Return the coefficients of scalar fields."""
        return as_complex(self.products.analyse(self.to_orders(field)))

    def synthesise(self, modes: Complex[Tensor, "mode field"]) -> Float[Tensor, "field lat lon"]:
        """Return scalar fields on the grid."""
        return self.to_grid(self.products.synthesise(as_columns(modes)))

    def synthesise_vector(
        self, stream: Complex[Tensor, "mode field"], potential: Complex[Tensor, "mode field"]
    ) -> tuple[Float[Tensor, "field lat lon"], Float[Tensor, "field lat lon"]]:
        """Return eastward and northward velocity on the unit sphere of ψ and χ."""
        east, north = self.to_grid(self.velocity_orders(stream, potential)).chunk(2)
        return east, north

    def velocity_orders(
        self, stream: Complex[Tensor, "mode field"], potential: Complex[Tensor, "mode field"]
    ) -> Float[Tensor, "order 2 half column"]:
        """Return the orders of the eastward, then of the northward velocities, by parity about the equator."""
        over_sine = torch.cat([1j * potential, 1j * stream], dim=1)
        by_colatitude = torch.cat([stream, -potential], dim=1)
        return self.products.synthesise_vector(as_columns(over_sine), as_columns(by_colatitude))

    def analyse_vector(
        self, east: Float[Tensor, "field lat lon"], north: Float[Tensor, "field lat lon"]
    ) -> tuple[Complex[Tensor, "mode field"], Complex[Tensor, "mode field"]]:
        """Return vorticity and divergence of velocities on the unit sphere."""
        orders = self.to_orders(torch.cat([east, north]))
        over_sine, by_colatitude = self.products.analyse_vector(orders)
        east_s, north_s = as_complex(over_sine).chunk(2, dim=1)
        east_d, north_d = as_complex(by_colatitude).chunk(2, dim=1)
        return 1j * north_s - east_d, 1j * east_s + north_d

    def to_orders(self, field: Float[Tensor, "field lat lon"]) -> Float[Tensor, "order 2 half column"]:
        """Return the weighted Fourier coefficients along longitude, by parity about the equator."""
        orders = fourier.pruned_forward(field, (2 * self.truncation + 1,))
        return self.products.fold(as_columns(orders.permute(2, 1, 0)))

    def to_grid(self, orders: Float[Tensor, "order 2 half column"]) -> Float[Tensor, "field lat lon"]:
        """Return fields from their Fourier coefficients along longitude."""
        modes = as_complex(self.products.unfold(orders)).permute(2, 1, 0)
        return fourier.pruned_inverse(modes, (self.grid.num_lon,))


def as_columns(modes: Complex[Tensor, "*rows field"]) -> Float[Tensor, "*rows column"]:
    """Return complex columns as twice as many real ones, real and imaginary parts side by side."""
    return torch.view_as_real(modes.contiguous()).flatten(-2)


def as_complex(columns: Float[Tensor, "*rows column"]) -> Complex[Tensor, "*rows field"]:
    """Return pairs of real columns as complex ones."""
    return torch.view_as_complex(columns.unflatten(-1, (-1, 2)))


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
