"""The truncated transforms by their definition: whole spectra, of which the kept modes are cut out. The oracle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .axis_roles import axis_roles
from .modes import forward_transform, inverse_transform, mode_numbers
from .transforms import FFTTransform
from .truncated import kept_modes


class ReferenceTransform(FFTTransform):
    """Whole Fourier spectra, and of walls the whole spectrum of the field continued by its mirror image."""

    def _forward(self, u: Tensor) -> Tensor:
        for dim in range(2, 2 + self._num_walls):
            u = _mirrored_forward(u, dim)
        if self._num_walls < self.ndim:
            u = forward_transform(u, self.ndim - self._num_walls)
        for dim, places in enumerate(self._kept_places(u.device), 2):
            u = u.index_select(dim, places)
        return u

    def _inverse(self, u_hat: Tensor) -> Tensor:
        grid = [self.grid[axis] for axis in self._arranged]
        whole = grid if self._num_walls == self.ndim else [*grid[:-1], grid[-1] // 2 + 1]
        for dim, places in enumerate(self._kept_places(u_hat.device), 2):
            shape = list(u_hat.shape)
            shape[dim] = whole[dim - 2]
            u_hat = u_hat.new_zeros(shape).index_copy(dim, places, u_hat)
        u = inverse_transform(u_hat, grid[self._num_walls :]) if self._num_walls < self.ndim else u_hat
        for dim in range(2, 2 + self._num_walls):
            u = _mirrored_inverse(u, dim)
        return u

    def _kept_places(self, device: torch.device) -> list[Tensor]:
        """Return where the kept modes of each arranged axis stand in its whole spectrum."""
        roles, places = axis_roles(self.boundaries), []
        for axis in self._arranged:
            if roles[axis] == "wall":
                places.append(torch.arange(self.num_modes[axis], device=device))
                continue
            half = roles[axis] == "half"
            numbers = mode_numbers(self.grid[axis], half=half).tolist()
            kept = [numbers.index(k) for k in kept_modes(self.num_modes[axis], half=half)]
            places.append(torch.tensor(kept, device=device))
        return places


def _mirrored_forward(u: Tensor, dim: int) -> Tensor:
    """Return the cosine amplitudes from the Fourier modes of the field and its mirror image, a period of ``2L``."""
    size = u.shape[dim]
    line = u.movedim(dim, -1)
    u_hat = forward_transform(torch.cat([line, line.flip(-1)], -1), 1)[..., :size]
    return (u_hat * _half_cell(size, u).conj() * _pairs(size, u)).real.movedim(-1, dim)


def _mirrored_inverse(amplitudes: Tensor, dim: int) -> Tensor:
    size = amplitudes.shape[dim]
    u_hat = amplitudes.movedim(dim, -1) / _pairs(size, amplitudes) * _half_cell(size, amplitudes)
    u_hat = torch.cat([u_hat, torch.zeros_like(u_hat[..., :1])], -1)
    return inverse_transform(u_hat, [2 * size])[..., :size].movedim(-1, dim)


def _pairs(size: int, like: Tensor) -> Tensor:
    pairs = torch.full((size,), 2.0, dtype=like.dtype, device=like.device)
    pairs[0] = 1.0
    return pairs


def _half_cell(size: int, like: Tensor) -> Tensor:
    """Return the phases ``exp(iπk / 2N)`` of a shift by half a cell."""
    angle = torch.arange(size, dtype=torch.float64, device=like.device) * (math.pi / (2 * size))
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype.to_complex())
