"""Shallow flow on a rotating sphere in spherical harmonics: its tendencies, free of aliasing."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.packed_transform import packed_transform

DEPTH, VORTICITY, DIVERGENCE = 0, 1, 2


class SphericalFlow:
    """Depth, vorticity and divergence up to a triangular truncation T, and what can be computed from them.

    States are complex, ``(batch, 3, mode)``, modes packed as in `PackedTransform`. Products are formed on the grid,
    which must analyse products of two fields exactly: ``3T < 2 N_lat`` on Gauss-Legendre latitudes, ``3T < N_lon``.

    The mean depth H of each trajectory is kept apart from the deviation ``h' = h - H`` in ``div(h u) = H δ + div(h'
    u)``: what is transformed is small then, and single precision loses no digits to the mean.

    Args:
        grid: the points.
        truncation: T.
        dtype: real dtype of the fields.
        device: where they live.
        radius: of the sphere.
        rotation: its angular velocity Ω; ``f = 2Ω sin(lat)`` where the axes agree.
        gravity: g.
        tilt: angle between the axis of rotation and the grid's.
        orography: height of the ground on the grid, one for all trajectories or one each.

    Raises:
        ValueError: for a truncation beyond the grid's, naming the needed grid.
    """

    def __init__(
        self,
        grid: SphericalGrid,
        truncation: int,
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        radius: float,
        rotation: float,
        gravity: float,
        tilt: float = 0.0,
        orography: Float[Tensor, "#batch lat lon"] | None = None,
    ) -> None:
        grid.require(truncation, product=2)
        self.grid, self.truncation = grid, truncation
        self._radius, self._rotation, self._gravity = radius, rotation, gravity
        self._packed = packed_transform(grid, truncation, dtype, str(device))
        degree = self._packed.degree.double()
        inside = degree <= truncation
        self.laplacian: Float64[Tensor, " mode"] = (
            torch.where(inside, -degree * (degree + 1), 0.0) / radius**2
        )
        self._laplacian = self.laplacian.to(dtype)
        self._to_potential = (radius * self._packed.inverse_laplacian).to(dtype)
        self._is_deviation = (degree > 0).to(dtype)
        phi, lam = torch.from_numpy(grid.latitudes), torch.from_numpy(grid.longitudes)[:, None, None]
        coriolis = 2 * rotation * (phi.sin() * math.cos(tilt) - lam.cos() * phi.cos() * math.sin(tilt))
        self._coriolis = coriolis.to(device=device, dtype=dtype)
        self._ground = 0.0 if orography is None else self._packed.analyse(_longitude_first(orography))

    def to_modes(
        self, state: Float[Tensor, "batch channel lat lon"]
    ) -> Complex[Tensor, "batch channel mode"]:
        """Fields on the grid to their modes."""
        planes = self._packed.analyse(_longitude_first(state.flatten(0, 1)))
        return torch.complex(*planes).unflatten(0, state.shape[:2])

    def to_grid(self, modes: Complex[Tensor, "batch channel mode"]) -> Float[Tensor, "batch channel lat lon"]:
        """Modes to the fields on the grid."""
        field = self._packed.synthesise(_planes(modes).flatten(1, 2))
        return field.permute(1, 2, 0).unflatten(0, modes.shape[:2])

    def wind(self, modes: Complex[Tensor, "batch 3 mode"]) -> Float[Tensor, "batch 2 lat lon"]:
        """Return the eastward and northward wind on the grid."""
        east, north = self._wind(_planes(modes))
        return torch.stack([east, north], dim=2).permute(1, 2, 3, 0)

    def modes_of_wind(self, wind: Float[Tensor, "batch 2 lat lon"]) -> Complex[Tensor, "batch 2 mode"]:
        """Return vorticity and divergence of winds."""
        components = torch.cat([_longitude_first(part) for part in wind.unbind(1)], dim=1)
        parts = self._packed.analyse_vector(components)
        return torch.stack([torch.complex(*part) for part in parts], dim=1) / self._radius

    def tendency(self, modes: Complex[Tensor, "batch 3 mode"]) -> Complex[Tensor, "batch 3 mode"]:
        """Return the rates of change without diffusion.

        ``-H δ - div(h' u)``, ``-div(q u)`` and ``curl(q u) - Δ(|u|²/2 + g (h' + b))`` with ``q = ζ + f``.
        """
        planes = _planes(modes)
        depth, vorticity, divergence = planes.unbind(2)
        batch = depth.shape[1]
        deviation = depth * self._is_deviation
        fields = self._packed.synthesise(torch.cat([deviation, vorticity], dim=1))
        thickness, absolute = fields[:, :batch], fields[:, batch:] + self._coriolis
        east, north = self._wind(planes)
        fluxes = [absolute * east, thickness * east, absolute * north, thickness * north]
        curl, outflow = self._packed.analyse_vector(torch.cat(fluxes, dim=1))
        energy = self._packed.analyse((east.square() + north.square()) / 2)
        head = energy + self._gravity * (deviation + self._ground)
        mean = _mean_of(depth).unsqueeze(-1)
        rates = [
            -mean * divergence - outflow[:, batch:] / self._radius,
            -outflow[:, :batch] / self._radius,
            curl[:, :batch] / self._radius - self._laplacian * head,
        ]
        return torch.complex(*torch.stack(rates, dim=2))

    def frequency(self, modes: Complex[Tensor, "batch 3 mode"]) -> Float[Tensor, " batch"]:
        """Return the largest frequency of each trajectory, ``max |u| κ + sqrt(g h κ² + 4Ω²)``, ``κ² = T(T+1)/a²``.

        That of a gravity wave of the smallest scale, carried along by the wind; a time step times this is what
        integrators limit.
        """
        planes = _planes(modes.detach())
        speed = torch.hypot(*self._wind(planes))
        depth = self._packed.synthesise(planes[:, :, DEPTH]).clamp_min(0.0)
        kappa2 = self.truncation * (self.truncation + 1) / self._radius**2
        wave = torch.sqrt(self._gravity * kappa2 * depth + 4 * self._rotation**2)
        return (speed * math.sqrt(kappa2) + wave).amax((0, 2))

    def _wind(self, planes: Float[Tensor, "2 batch 3 mode"]) -> tuple[Tensor, Tensor]:
        """Return the eastward and the northward wind, ``(lon, batch, lat)``."""
        stream, potential = (planes[:, :, DEPTH + 1 :] * self._to_potential).unbind(2)
        east, north = self._packed.synthesise_vector(stream, potential).chunk(2, dim=1)
        return east, north


def _planes(modes: Complex[Tensor, "batch channel mode"]) -> Float[Tensor, "2 batch channel mode"]:
    return torch.stack([modes.real, modes.imag])


def _mean_of(modes: Float[Tensor, "2 batch mode"]) -> Float[Tensor, " batch"]:
    """Return the mean over the sphere: the first packed mode is that of ``Y_00 = 1/sqrt(4π)``."""
    return modes[0, :, 0] / math.sqrt(4 * math.pi)


def _longitude_first(field: Float[Tensor, "field lat lon"]) -> Float[Tensor, "lon field lat"]:
    return field.permute(2, 0, 1)
