"""Mode numbers, wavenumbers and full transforms on periodic axes.

Conventions, stated once for the whole house. A periodic field of ``N`` points on an axis of length
``L`` is ``u(x_j) = Σ_k û_k exp(2πi k x_j / L)`` with ``x_j = jL/N``: the forward transform carries the
factor ``1/N`` (``norm="forward"``), so amplitudes do not depend on the grid. Space axes come last; the
last axis holds the half spectrum ``k = 0 .. N//2``, the others hold ``0, 1, .., -2, -1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor


def mode_numbers(
    size: int, *, half: bool = False, device: torch.device | str | None = None
) -> Int[Tensor, " modes"]:
    """Return the integer mode numbers of an axis in transform order.

    For even sizes the Nyquist mode is ``-size/2`` on a full axis and ``+size/2`` on a half axis.
    """
    if half:
        return torch.arange(size // 2 + 1, device=device)
    k = torch.arange(size, device=device)
    return torch.where(k < (size + 1) // 2, k, k - size)


def wavenumbers(
    size: int,
    length: float,
    *,
    half: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float[Tensor, " modes"]:
    """Return the angular wavenumbers ``2π k / L`` of an axis, in radians per unit length."""
    return mode_numbers(size, half=half, device=device).to(dtype) * (2 * math.pi / length)


def forward_transform(u: Float[Tensor, "*lead_and_space"], ndim: int) -> Complex[Tensor, "*lead_and_modes"]:
    """Return the spectrum of a real field over its last ``ndim`` axes (half axis last)."""
    return torch.fft.rfftn(u, dim=tuple(range(-ndim, 0)), norm="forward")


def inverse_transform(
    u_hat: Complex[Tensor, "*lead_and_modes"], grid: Sequence[int]
) -> Float[Tensor, "*lead_and_space"]:
    """Return the real field on ``grid`` whose spectrum is ``u_hat`` (the inverse of the forward)."""
    return torch.fft.irfftn(u_hat, s=tuple(grid), dim=tuple(range(-len(grid), 0)), norm="forward")


def multiplicity(
    grid: Sequence[int], *, device: torch.device | str | None = None
) -> Float[Tensor, " half_modes"]:
    """Return how many modes of the full spectrum each column of the half axis stands for: 1 or 2.

    Columns ``0`` and, for even sizes, Nyquist stand for themselves; the others also for their complex
    conjugates. With these weights Parseval's sum over the half spectrum is exact.
    """
    size = grid[-1]
    weights = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64, device=device)
    weights[0] = 1.0
    if size % 2 == 0:
        weights[-1] = 1.0
    return weights
