"""Cosine transforms between walls, on cell-centred axes.

Conventions, stated once for the whole house. A field between two walls at which its normal derivative
vanishes is ``u(x_j) = Σ_k a_k cos(πk x_j / L)`` with ``k = 0 .. N - 1`` at the cell centres ``x_j = (j + 1/2)
L/N``. The forward transform (DCT-II) carries the factor ``1/N``, so amplitudes do not depend on the grid:

    a_k = (w_k / N) Σ_j u_j cos(πk (2j + 1) / 2N),   w_0 = 1, w_k = 2 otherwise;

a cosine of amplitude 3 goes in and 3 is read out. The inverse (DCT-III) is the plain sum. Parseval's sum is
``mean(u²) = Σ_k a_k² / w_k``.

Two routes give the same numbers. Long axes take one real FFT of the field in the order "even points up, odd
points down" (Makhoul 1980, IEEE Trans. ASSP 28, 27). Short ones, and traced programs, take a product with a
table of cosines, which is faster there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor

LONGEST_PRODUCT = 128
"""Points of an axis up to which the product is faster than the FFT, measured on one core with AVX-512."""


def cosine_wavenumbers(
    size: int,
    length: float,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float[Tensor, " modes"]:
    """Return the angular wavenumbers ``πk / L`` of an axis between walls, in radians per unit length."""
    return torch.arange(size, device=device).to(dtype) * (math.pi / length)


def cosine_transform(u: Float[Tensor, "*points"], dims: int | Sequence[int]) -> Float[Tensor, "*amplitudes"]:
    """Return the cosine amplitudes ``a`` of a real field along the given axes, in the field's dtype.

    Raises:
        TypeError: if the field is neither float32 nor float64.
        ValueError: if an axis is given twice or is empty.
    """
    for dim in _checked_dims(u, dims):
        u = _forward_product(u, dim) if _takes_product(u, dim) else _forward_fft(u, dim)
    return u


def inverse_cosine_transform(
    amplitudes: Float[Tensor, "*amplitudes"], dims: int | Sequence[int]
) -> Float[Tensor, "*points"]:
    """Return the field with the given cosine amplitudes, the inverse of `cosine_transform`.

    Raises:
        TypeError, ValueError: as `cosine_transform`.
    """
    u = amplitudes
    for dim in _checked_dims(u, dims):
        u = _inverse_product(u, dim) if _takes_product(u, dim) else _inverse_fft(u, dim)
    return u


def cosine_multiplicity(num_modes: int) -> Float[Tensor, " modes"]:
    """Return ``w_k`` for the modes ``0 .. num_modes - 1``: 1 for the mean and 2 for every other cosine."""
    return torch.where(torch.arange(num_modes) == 0, 1.0, 2.0).to(torch.float64)


def cosine_tables(
    size: int, num_modes: int
) -> tuple[Float[Tensor, "modes points"], Float[Tensor, "points modes"]]:
    """Return the float64 matrices of the forward transform to the first modes, and of the way back."""
    product = torch.outer(torch.arange(num_modes), 2 * torch.arange(size) + 1).to(torch.float64)
    # k(2j + 1) mod 4N, exact in float64 and free of branches on the size: it may be a tracer's symbol.
    cosines = ((product - 4 * size * torch.floor(product / (4 * size))) * (math.pi / (2 * size))).cos()
    return cosines * cosine_multiplicity(num_modes)[:, None] / size, cosines.T


def _checked_dims(u: Tensor, dims: int | Sequence[int]) -> list[int]:
    if u.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"a cosine transform acts on real fields in float32 or float64; this one is {u.dtype}. Convert it first."
        )
    chosen = [dims] if isinstance(dims, int) else list(dims)
    try:
        resolved = [range(u.ndim)[dim] for dim in chosen]
    except IndexError:
        raise ValueError(
            f"axes {tuple(chosen)} do not all exist in a field of shape {tuple(u.shape)}."
        ) from None
    if len(set(resolved)) != len(resolved) or any(u.shape[dim] == 0 for dim in resolved):
        raise ValueError(
            f"cannot transform a field of shape {tuple(u.shape)} along the axes {tuple(chosen)}: each may be given "
            "once and has at least one point."
        )
    return resolved


def _takes_product(u: Tensor, dim: int) -> bool:
    if torch.compiler.is_compiling() or u.numel() == 0:  # no FFT takes an empty batch
        return True
    if u.device.type != "cpu" or u.shape[dim] > LONGEST_PRODUCT:
        return False
    # Where products of float32 may be rounded to fewer digits, only the FFT keeps them all.
    full = torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled("cpu")
    return full or u.dtype == torch.float64


def _forward_product(u: Tensor, dim: int) -> Tensor:
    return _along(_tables(u.shape[dim], u.dtype, u.device)[0], u, dim)


def _inverse_product(u: Tensor, dim: int) -> Tensor:
    return _along(_tables(u.shape[dim], u.dtype, u.device)[1], u, dim)


def _along(table: Tensor, u: Tensor, dim: int) -> Tensor:
    """Multiply an axis by a square table. Batched over what leads, so that no result depends on its neighbours."""
    if torch.compiler.is_compiling() or u.ndim == 1:
        with torch.autocast(u.device.type, enabled=False):
            return torch.matmul(u.movedim(dim, -1), table.T).movedim(-1, dim)
    if dim == u.ndim - 1:
        rows = u.flatten(0, -3) if u.ndim > 2 else u[None]
        return torch.bmm(rows, table.T.expand(rows.shape[0], -1, -1)).view(u.shape)
    lead, rest = math.prod(u.shape[:dim]), math.prod(u.shape[dim + 1 :])
    columns = u.reshape(lead, u.shape[dim], rest)
    return torch.bmm(table.expand(lead, -1, -1), columns).view(u.shape)


def _forward_fft(u: Tensor, dim: int) -> Tensor:
    size = u.shape[dim]
    line = u.movedim(dim, -1)
    reordered = torch.cat([line[..., ::2], line[..., 1::2].flip(-1)], -1)
    turned = torch.fft.rfft(reordered, norm="forward") * _quarter_turns(size, u.dtype, u.device)
    # Mode N - k is minus the imaginary part of what mode k is the real part of.
    upper = -turned.imag[..., 1 : (size + 1) // 2].flip(-1)
    halves = torch.cat([turned.real, upper], -1)
    # The mean is its own partner and not counted twice.
    return torch.cat([halves[..., :1], 2 * halves[..., 1:]], -1).movedim(-1, dim)


def _inverse_fft(amplitudes: Tensor, dim: int) -> Tensor:
    size = amplitudes.shape[dim]
    line = amplitudes.movedim(dim, -1)
    lower = torch.cat([line[..., :1], 0.5 * line[..., 1 : size // 2 + 1]], -1)
    partner = torch.cat([torch.zeros_like(line[..., :1]), 0.5 * line[..., (size + 1) // 2 :].flip(-1)], -1)
    turned = torch.complex(lower, -partner) * _quarter_turns(size, line.dtype, line.device).conj()
    reordered = torch.fft.irfft(turned, n=size, norm="forward")
    even, odd = reordered.split([(size + 1) // 2, size // 2], -1)
    if size % 2:
        both = torch.stack([even[..., :-1], odd.flip(-1)], -1).flatten(-2)
        return torch.cat([both, even[..., -1:]], -1).movedim(-1, dim)
    return torch.stack([even, odd.flip(-1)], -1).flatten(-2).movedim(-1, dim)


def _tables(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling():
        forward, inverse = cosine_tables(size, size)
        return forward.to(device, dtype), inverse.to(device, dtype)
    return _cached_tables(size, dtype, str(device))


@lru_cache(maxsize=64)
def _cached_tables(size: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # gradients flow through them later
        forward, inverse = cosine_tables(size, size)
        return forward.to(device, dtype).contiguous(), inverse.to(device, dtype).contiguous()


@lru_cache(maxsize=64)
def _cached_turns(size: int, dtype: torch.dtype, device: str) -> Tensor:
    with torch.inference_mode(False):
        angle = torch.arange(size // 2 + 1, dtype=torch.float64) * (-math.pi / (2 * size))
        turns = torch.polar(torch.ones_like(angle), angle)
        return turns.to(device, torch.complex64 if dtype == torch.float32 else torch.complex128)


def _quarter_turns(size: int, dtype: torch.dtype, device: torch.device) -> Complex[Tensor, " half"]:
    """Return ``exp(-iπk / 2N)`` for the modes ``0 .. N//2``."""
    return _cached_turns(size, dtype, str(device))
