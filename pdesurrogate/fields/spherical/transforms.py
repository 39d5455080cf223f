"""The real spherical harmonic transform of scalars and of velocities."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .grid import SphericalGrid
from .packed_transform import packed_transform


class SphericalTransform:
    """Fields on a grid of the sphere to and from spherical harmonics up to a triangular truncation T.

    ``f(θ, λ) = Σ_{l <= T} Σ_{|m| <= l} f̂_lm Y_lm(θ, λ)`` with orthonormal harmonics of the unit sphere (Condon-Shortley
    phase) and ``f̂_{l,-m} = (-1)^m conj(f̂_lm)``. Spectra are ``(*lead, degree, order)``, both from 0 to T, and zero
    above the diagonal. Analysis is by quadrature, exact for fields within the truncation. θ is the colatitude, λ the
    longitude counted from the first column. A velocity is ``(eastward, northward)`` on the axis before the grid::

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
        packed: the transform that does the work, for solvers and layers that keep its layout.

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
        self.packed = packed_transform(grid, self.truncation, dtype, str(device))
        self._inverse_laplacian = self.packed.inverse_laplacian.to(dtype)

    def analyse(self, field: Float[Tensor, "*lead lat lon"]) -> Complex[Tensor, "*lead degree order"]:
        """Return the coefficients of scalar fields."""
        lead = self._lead_of(field)
        return self.packed.unpack(self.packed.analyse(self._longitude_first(field)), lead)

    def synthesise(self, spectrum: Complex[Tensor, "*lead degree order"]) -> Float[Tensor, "*lead lat lon"]:
        """Return scalar fields on the grid."""
        field = self.packed.synthesise(self.packed.pack(spectrum))
        return field.permute(1, 2, 0).reshape(*spectrum.shape[:-2], *self.grid.shape)

    def gradient(self, spectrum: Complex[Tensor, "*lead degree order"]) -> Float[Tensor, "*lead 2 lat lon"]:
        """Return ``∇f``, eastward and northward: the velocity of the potential f."""
        potential = self.packed.pack(spectrum) / self.radius
        return self._velocity(torch.zeros_like(potential), potential, spectrum.shape[:-2])

    def velocity(
        self, vorticity_divergence: Complex[Tensor, "*lead 2 degree order"]
    ) -> Float[Tensor, "*lead 2 lat lon"]:
        """Return the velocity of given vorticity and divergence; their means, which no velocity has, are ignored."""
        stream, potential = (
            self.packed.pack(part) * (self.radius * self._inverse_laplacian)
            for part in vorticity_divergence.unbind(-3)
        )
        return self._velocity(stream, potential, vorticity_divergence.shape[:-3])

    def vorticity_divergence(
        self, velocity: Float[Tensor, "*lead 2 lat lon"]
    ) -> Complex[Tensor, "*lead 2 degree order"]:
        """Return the spectra of vorticity and divergence of velocities."""
        lead = self._lead_of(velocity)[:-1]
        components = torch.cat([self._longitude_first(part) for part in velocity.unbind(-3)], dim=1)
        parts = self.packed.analyse_vector(components)
        return torch.stack([self.packed.unpack(part, lead) for part in parts], dim=-3) / self.radius

    def _velocity(self, stream: Tensor, potential: Tensor, lead: tuple[int, ...]) -> Tensor:
        components = self.packed.synthesise_vector(stream, potential).unflatten(1, (2, -1))
        return components.permute(2, 1, 3, 0).reshape(*lead, 2, *self.grid.shape)

    def _longitude_first(self, field: Tensor) -> Tensor:
        return field.reshape(-1, *self.grid.shape).permute(2, 0, 1)

    def _lead_of(self, field: Tensor) -> tuple[int, ...]:
        if field.shape[-2:] != self.grid.shape:
            raise ValueError(
                f"a field on {tuple(field.shape[-2:])} points was given to the transform of the grid {self.grid.shape}."
            )
        return tuple(field.shape[:-2])
