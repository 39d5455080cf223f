"""Fourier transforms of channels-last fields on periodic grids through the compiled library, on kept modes only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .calls import call, check_arrays


def prime_factors(size: int) -> list[int]:
    """Return the factors of a size into which its transform falls, ascending."""
    factors, prime = [], 2
    while size > 1:
        while size % prime == 0:
            factors.append(prime)
            size //= prime
        prime += 1
    return factors


def fft_analyse(
    u: Float[Tensor, "batch *layout channel"],
    kept: Sequence[int],
    scales: tuple[float, float],
    out: Complex[Tensor, "mode batch channel"],
) -> None:
    """Write ``s(k) Σ_x u(x) exp(-i k x)`` for the kept modes.

    Args:
        u: contiguous float32 fields on the CPU, half axis leading.
        kept: number of kept modes of each axis in the order of the layout.
        scales: ``s`` of the modes of the half axis that are their own conjugates, and of the others.
        out: complex64 modes; those of a sample side by side, whatever the distance between modes.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: if a tensor cannot be read or written, or more modes are kept than the grid has.
    """
    grid, sizes = _checked(u, kept, out)
    call("fft_analyse", *sizes, *map(float, scales), arrays=(*grid, u, out))


def fft_synthesise(
    u_hat: Complex[Tensor, "mode batch channel"],
    kept: Sequence[int],
    scales: tuple[float, float],
    out: Float[Tensor, "batch *layout channel"],
    *,
    accumulate: bool = False,
) -> None:
    """Write the real fields ``Re Σ_k s(k) w(k) û(k) exp(i k x)``, or add them; arguments as `fft_analyse`.

    The sum is over the kept modes, and ``w`` is 2 for those that stand for a pair ``±k`` of the half axis.

    Raises:
        RuntimeError, ValueError: as `fft_analyse`.
    """
    grid, sizes = _checked(out, kept, u_hat)
    call("fft_synthesise", *sizes, *map(float, scales), int(accumulate), arrays=(*grid, u_hat, out))


def _checked(u: Tensor, kept: Sequence[int], u_hat: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, ...]]:
    batch, *layout, channels = u.shape
    most = [layout[0] // 2 + 1, *layout[1:]]
    if len(kept) != len(layout) or not all(1 <= k <= n for k, n in zip(kept, most, strict=True)):
        raise ValueError(f"modes {tuple(kept)} of a grid of {tuple(layout)} points; there are {tuple(most)}.")
    check_arrays({"the field": (u, tuple(u.shape))})
    expected = (math.prod(kept), batch, channels)
    if tuple(u_hat.shape) != expected or u_hat.dtype != torch.complex64 or u_hat.device.type != "cpu":
        raise ValueError(
            f"the modes are {tuple(u_hat.shape)} of {u_hat.dtype} on {u_hat.device}; they must be {expected} of "
            "torch.complex64 on the CPU."
        )
    if (
        (channels > 1 and u_hat.stride(2) != 1)
        or (batch > 1 and u_hat.stride(1) != channels)
        or u_hat.is_conj()
    ):
        raise ValueError(f"the modes have strides {u_hat.stride()}; those of a sample must lie side by side.")
    return (torch.tensor(layout), torch.tensor(kept)), (len(layout), batch, channels, u_hat.stride(0))
