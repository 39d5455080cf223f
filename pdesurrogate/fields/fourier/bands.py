"""Radial wavenumber bands: spectra whose sum is exactly the field's mean square."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .cosine import cosine_multiplicity, cosine_transform
from .modes import forward_transform, mode_numbers, multiplicity


@dataclass(frozen=True)
class RadialBands:
    """Shells of width ``Δκ = 2π / max(L)`` in physical wavenumber, plus one bin for the corners.

    Band ``b`` holds the modes with ``|κ|/Δκ`` in ``[b - 1/2, b + 1/2)``, and band 0 is the mean; or, not centred,
    those in ``[b, b + 1)``. Shells are complete up to the smallest Nyquist wavenumber of the axes. Modes beyond it, in
    the corners of the spectral box, share the last bin, so that the bands always add up to the whole field.

    Along axes with ends, cosines ``cos(πk x / L)`` take the place of waves (DCT-II): an even continuation has no jump
    at the ends, whose ``1/κ`` tail would pass for small scales. Where the field has a slope there, ``1/κ²`` is left.

    Attributes:
        grid: grid size per axis.
        lengths: physical extent per axis.
        centred: whether whole wavenumbers are the middles of the bands or their lower ends.
        has_ends: which axes have ends; none by default.
    """

    grid: tuple[int, ...]
    lengths: tuple[float, ...]
    centred: bool = True
    has_ends: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if len(self.grid) != len(self.lengths) or not self.grid:
            raise ValueError(f"grid {self.grid} and lengths {self.lengths} must have one entry per axis.")
        if min(self.grid) < 1 or min(self.lengths) <= 0:
            raise ValueError(f"grid {self.grid} and lengths {self.lengths} must be positive.")

    @property
    def spacing(self) -> float:
        """Width ``Δκ`` of a band in radians per unit length."""
        return 2 * math.pi / max(self.lengths)

    @property
    def num_complete(self) -> int:
        """Number of complete shells, the mean included."""
        nyquist = min(math.pi * n / length for n, length in zip(self.grid, self.lengths, strict=True))
        return max(1, math.floor(nyquist / self.spacing + 1e-9) + self.centred)

    @property
    def num_bands(self) -> int:
        """Number of bands: the complete shells and the corner bin."""
        return self.num_complete + 1

    @property
    def centres(self) -> Float[Tensor, " complete"]:
        """Wavenumber at the middle of each complete shell."""
        middles = torch.arange(self.num_complete, dtype=torch.float64) + (0.0 if self.centred else 0.5)
        return middles * self.spacing

    def index(self, device: torch.device | str | None = None) -> Int[Tensor, "*modes"]:
        """Return the band of every mode: cosines of the axes with ends first, then the half spectrum of the others."""
        ndim, (cosines, waves) = len(self.grid), self._axes()
        squared = torch.zeros((), dtype=torch.float64, device=device)
        for place, dim in enumerate([*cosines, *waves]):
            n, length = self.grid[dim], self.lengths[dim]
            if dim in cosines:
                k = torch.arange(n, dtype=torch.float64, device=device) / (2 * length)
            else:
                k = mode_numbers(n, half=place == ndim - 1, device=device).to(torch.float64) / length
            squared = squared + k.square().view(-1, *[1] * (ndim - place - 1))
        below = 0.5 if self.centred else 0.0
        shell = torch.floor(squared.sqrt() * max(self.lengths) + below + 1e-9).to(torch.int64)
        return shell.clamp(max=self.num_complete)

    def spectrum(self, u: Float[Tensor, "*lead_and_space"]) -> Float[Tensor, "*lead bands"]:
        """Return the mean square of ``u`` in each band, float64; the sum is ``mean(u²)`` (Parseval).

        Raises:
            ValueError: if the last axes of ``u`` are not this object's grid.
        """
        ndim = len(self.grid)
        if tuple(u.shape[-ndim:]) != self.grid:
            raise ValueError(f"field of shape {tuple(u.shape)} does not end in the grid {self.grid}.")
        flat = self._energies(u).flatten(-ndim)
        bands = flat.new_zeros((*flat.shape[:-1], self.num_bands))
        return bands.index_add_(-1, self.index(u.device).flatten(), flat)

    def _axes(self) -> tuple[list[int], list[int]]:
        """Return which axes take cosines and which take waves."""
        has_ends = self.has_ends or (False,) * len(self.grid)
        chosen = [dim for dim, ends in enumerate(has_ends) if ends]
        return chosen, [dim for dim in range(len(self.grid)) if dim not in chosen]

    def _energies(self, u: Float[Tensor, "*lead_and_space"]) -> Float[Tensor, "*lead_and_modes"]:
        """Return the mean square of every mode in the order of `index`."""
        ndim, (cosines, waves) = len(self.grid), self._axes()
        if not cosines:
            return mode_energies(u, ndim)
        dims = [dim - ndim for dim in cosines]
        u = cosine_transform(u.to(torch.float64), dims)
        for dim in dims:
            weights = cosine_multiplicity(u.shape[dim]).to(u.device).rsqrt()
            u = u * weights.view(-1, *[1] * (-dim - 1))
        u = u.movedim(dims, list(range(-ndim, len(dims) - ndim)))
        return mode_energies(u, len(waves)) if waves else u.square()


def mode_energies(u: Float[Tensor, "*lead_and_space"], ndim: int) -> Float[Tensor, "*lead_and_modes"]:
    """Return ``|û_k|²`` of every mode of the half spectrum, with its complex conjugate; their sum is ``mean(u²)``."""
    power = forward_transform(u.to(torch.float64), ndim).abs().square()
    return power * multiplicity(u.shape[-ndim:], device=u.device)
