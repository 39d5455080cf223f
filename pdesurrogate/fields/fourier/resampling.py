"""Exact change of grid for band-limited periodic fields."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def resample(
    u: Float[Tensor, "*lead_and_space"], grid: Sequence[int], leads: Sequence[float] | None = None
) -> Float[Tensor, "*lead_and_new_space"]:
    """Return the trigonometric interpolant of ``u`` on another grid of the same periodic box.

    Works axis by axis over the last ``len(grid)`` axes: up or down, even or odd. A field whose modes
    fit on both grids is reproduced to rounding, and then down followed by up is the identity. Going
    down drops the modes that the coarse grid cannot carry, so that nothing aliases.

    The Nyquist mode of an even grid is a pure cosine, ``a cos(π j)``. It keeps its function: on a finer
    grid its amplitude splits into ``a/2`` at ``±N/2``; a fine mode that lands on the Nyquist of the
    coarse grid is sampled there, ``a = 2 Re û``.

    Args:
        u: the field.
        grid: sizes of its last axes.
        leads: distance of the first point of each from the lower end of the box, on both grids in their own spacings:
            0 for nodes, which share the first point, and 0.5 for centres of cells, which do not. None for all 0.

    Raises:
        ValueError: if a target size is not positive or ``grid`` has more axes than ``u``.
    """
    if len(grid) > u.ndim or any(n < 1 for n in grid):
        raise ValueError(
            f"cannot resample a field of shape {tuple(u.shape)} to the grid {tuple(grid)}: sizes must "
            "be positive, one for each of the field's last axes."
        )
    for dim, size, lead in zip(range(-len(grid), 0), grid, leads or [0.0] * len(grid), strict=True):
        u = _resample_axis(u, dim, size, lead)
    return u


def _resample_axis(u: Tensor, dim: int, size: int, lead: float) -> Tensor:
    old = u.shape[dim]
    if size == old:
        return u
    kept = min(old, size) // 2 + 1
    spectrum = torch.fft.rfft(u, dim=dim, norm="forward").narrow(dim, 0, kept)
    if lead:
        moved = 2 * math.pi * lead * (1 / size - 1 / old)
        angles = moved * torch.arange(kept, dtype=torch.float64, device=u.device)
        turn = torch.polar(torch.ones_like(angles), angles).to(spectrum.dtype)
        spectrum = spectrum * turn.view(-1, *[1] * (-dim - 1))
    if min(old, size) % 2 == 0:
        # The last kept mode is the smaller grid's Nyquist: one real cosine there, two modes elsewhere.
        below, nyquist = spectrum.split([kept - 1, 1], dim)
        nyquist = 2.0 * nyquist.real if size < old else 0.5 * nyquist
        spectrum = torch.cat([below, nyquist.to(spectrum.dtype)], dim)
    return torch.fft.irfft(spectrum, n=size, dim=dim, norm="forward")
