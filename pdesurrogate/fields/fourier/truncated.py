"""Kept modes, and truncated real transforms by pruned FFTs: one per axis, on kept modes only.

A kept set is given by ``num_modes``, the number of modes per axis counting both signs. On a full axis
the ``K`` modes nearest zero are kept, ``-floor(K/2) .. ceil(K/2) - 1``; on the half axis ``0 ..
K//2``. This is the convention of neuraloperator's ``n_modes``. Between walls the first ``K`` cosines are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .axis_roles import axis_roles, periodic_box


def kept_modes(num_modes: int, *, half: bool) -> list[int]:
    """Return the kept mode numbers of an axis in transform order."""
    if half:
        return list(range(num_modes // 2 + 1))
    return [*range((num_modes + 1) // 2), *range(-(num_modes // 2), 0)]


def kept_shape(num_modes: Sequence[int], boundaries: Sequence[str] | None = None) -> tuple[int, ...]:
    """Return the shape of the kept spectrum, axes in space order; the box is periodic if nothing is said."""
    roles = axis_roles(periodic_box(len(num_modes)) if boundaries is None else boundaries)
    return tuple(k // 2 + 1 if role == "half" else k for k, role in zip(num_modes, roles, strict=True))


def require_resolved(num_modes: Sequence[int], grid: Sequence[int], axis_names: Sequence[str] = ()) -> None:
    """Check that every kept mode is at or below the grid's Nyquist mode.

    Raises:
        ValueError: naming the axis, its size and the largest allowed number of modes.
    """
    if len(num_modes) != len(grid):
        raise ValueError(f"num_modes {tuple(num_modes)} and grid {tuple(grid)} differ in dimension.")
    for i, (k, n) in enumerate(zip(num_modes, grid, strict=True)):
        if not 1 <= k <= n:
            axis = f"axis {axis_names[i]!r}" if axis_names else f"axis {i}"
            raise ValueError(
                f"{k} modes on {axis} need at least {max(k, 1)} grid points there and the grid has {n}. "
                f"Use num_modes of at most {n} on this axis, or a finer grid."
            )


def pruned_forward(
    u: Float[Tensor, "*lead_and_space"], num_modes: Sequence[int]
) -> Complex[Tensor, "*lead_and_kept"]:
    """Return the kept modes of a real field over its last ``len(num_modes)`` axes.

    Raises:
        ValueError: if the grid does not resolve them.
    """
    ndim = len(num_modes)
    require_resolved(num_modes, u.shape[-ndim:])
    u_hat = torch.fft.rfft(u, dim=-1, norm="forward").narrow(-1, 0, num_modes[-1] // 2 + 1)
    for dim in range(-2, -ndim - 1, -1):
        u_hat = torch.fft.fft(u_hat, dim=dim, norm="forward")
        size, kept = u.shape[dim], num_modes[dim]
        if kept < size:
            positive, negative = (kept + 1) // 2, kept // 2
            parts = (u_hat.narrow(dim, 0, positive), u_hat.narrow(dim, size - negative, negative))
            u_hat = torch.cat(parts, dim)
    return u_hat


def pruned_inverse(
    u_hat: Complex[Tensor, "*lead_and_kept"], grid: Sequence[int]
) -> Float[Tensor, "*lead_and_space"]:
    """Return the real field on ``grid`` with the given kept modes and zeros elsewhere.

    Raises:
        ValueError: if there are more modes on an axis than the grid has.
    """
    ndim = len(grid)
    kept_grid = (*grid[:-1], grid[-1] // 2 + 1)
    if any(k > n for k, n in zip(u_hat.shape[-ndim:], kept_grid, strict=True)):
        raise ValueError(
            f"modes of shape {tuple(u_hat.shape[-ndim:])} do not fit on the grid {tuple(grid)}, whose half "
            f"spectrum is {kept_grid}. Keep fewer modes or choose a finer grid."
        )
    for dim in range(-ndim, -1):
        size, kept = grid[dim], u_hat.shape[dim]
        if kept < size:
            positive, negative = (kept + 1) // 2, kept // 2
            gap = list(u_hat.shape)
            gap[dim] = size - kept
            parts = (
                u_hat.narrow(dim, 0, positive),
                u_hat.new_zeros(gap),
                u_hat.narrow(dim, positive, negative),
            )
            u_hat = torch.cat(parts, dim)
        u_hat = torch.fft.ifft(u_hat, dim=dim, norm="forward")
    return torch.fft.irfft(u_hat, n=grid[-1], dim=-1, norm="forward")
