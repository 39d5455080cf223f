"""Cosine transforms between a wall and an open end, on cell-centred axes.

A field whose normal derivative vanishes at the lower end and which itself vanishes at the upper end is
``u(x_j) = Σ_k a_k cos(π(k + 1/2) x_j / L)`` with ``k = 0 .. N - 1`` at the cell centres ``x_j = (j + 1/2) L/N``:
cosines of an odd number of quarter waves. The transform (DCT-IV) carries the factor ``2/N``, so that amplitudes do
not depend on the grid,

    a_k = (2/N) Σ_j u_j cos(π(2k + 1)(2j + 1) / 4N),

and the inverse is the plain sum. Continued with the opposite sign beyond the open end, the field lies between two walls
``2L`` apart and has their odd cosines alone; both directions are transforms of that continuation.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .cosine import cosine_transform, inverse_cosine_transform


def quarter_cosine_wavenumbers(
    size: int,
    length: float,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float[Tensor, " modes"]:
    """Return the angular wavenumbers ``π(k + 1/2) / L`` of an axis from a wall to an open end."""
    return (torch.arange(size, device=device).to(dtype) + 0.5) * (math.pi / length)


def quarter_cosine_transform(u: Float[Tensor, "*points"], dim: int) -> Float[Tensor, "*amplitudes"]:
    """Return the amplitudes ``a`` of a real field along one axis, in the field's dtype.

    Raises:
        TypeError, ValueError: as `cosine_transform`.
    """
    return (
        cosine_transform(torch.cat([u, -u.flip(dim)], dim), dim).unflatten(dim, (-1, 2)).select(_next(dim), 1)
    )


def inverse_quarter_cosine_transform(
    amplitudes: Float[Tensor, "*amplitudes"], dim: int
) -> Float[Tensor, "*points"]:
    """Return the field with the given amplitudes, the inverse of `quarter_cosine_transform`.

    Raises:
        TypeError, ValueError: as `cosine_transform`.
    """
    interleaved = torch.stack([torch.zeros_like(amplitudes), amplitudes], _next(dim))
    odd = interleaved.flatten(dim, dim + 1) if dim >= 0 else interleaved.flatten(dim - 1, dim)
    return inverse_cosine_transform(odd, dim).narrow(dim, 0, amplitudes.shape[dim])


def _next(dim: int) -> int:
    """Return the place of a new axis right behind ``dim``, which keeps counting from its own end."""
    return dim + 1 if dim >= 0 else dim
