"""Spectral derivatives on periodic boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .modes import wavenumbers

_POWERS_OF_I = (1, 1j, -1, -1j)


def derivative(
    u: Float[Tensor, "*shape"], dim: int, length: float, order: int = 1
) -> Float[Tensor, "*shape"]:
    """Return ``∂^order u / ∂x^order`` along axis ``dim`` of a periodic box of size ``length``.

    Exact for band-limited fields. For odd orders the Nyquist mode of an even grid is dropped: the
    derivative of ``cos(π j)`` vanishes at every grid point.

    Raises:
        ValueError: if ``order`` is negative.
    """
    if order < 0:
        raise ValueError(f"order is {order}; the order of a derivative is 0, 1, 2, ...")
    size = u.shape[dim]
    k = wavenumbers(size, length, half=True, dtype=u.dtype, device=u.device)
    multiplier = k**order * _POWERS_OF_I[order % 4]
    if size % 2 == 0 and order % 2 == 1:
        multiplier[-1] = 0.0
    u_hat = torch.fft.rfft(u, dim=dim, norm="forward")
    shape = [1] * u.ndim
    shape[dim] = -1
    return torch.fft.irfft(u_hat * multiplier.view(shape), n=size, dim=dim, norm="forward")


def gradient(
    u: Float[Tensor, "*lead_and_space"], lengths: Sequence[float]
) -> Float[Tensor, "*lead_dim_and_space"]:
    """Return ``∇u`` over the last ``len(lengths)`` axes, stacked in a new axis just before them."""
    ndim = len(lengths)
    parts = [derivative(u, dim - ndim, length) for dim, length in enumerate(lengths)]
    return torch.stack(parts, dim=-ndim - 1)


def laplacian(
    u: Float[Tensor, "*lead_and_space"], lengths: Sequence[float]
) -> Float[Tensor, "*lead_and_space"]:
    """Return ``Δu`` over the last ``len(lengths)`` axes."""
    ndim = len(lengths)
    total = torch.zeros_like(u)
    for dim, length in enumerate(lengths):
        total = total + derivative(u, dim - ndim, length, order=2)
    return total
