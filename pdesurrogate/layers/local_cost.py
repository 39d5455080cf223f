"""Which way of a local operator is predicted to be faster: taps one by one, spectra, or the spectra of a Fourier layer.

The time of the taps is their number times points and channels, and a product of matrices a point and filter. Spectra
need the transforms of all modes, predicted by `spectral_cost`, the making of a matrix for every mode and one product
with it; how many taps there are does not matter. In a Fourier layer the waves need a transform anyway, and both
operators can share one of all modes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..registry import did_you_mean
from .filter_bank import FilterBank
from .native import native_applies
from .spectral_backends import choose_backend
from .spectral_cost import transform_seconds

ROUTES = ("auto", "direct", "fft")

SECONDS_PER_TAP = {"native": 5.5e-11, "cpu": 6e-10, "cuda": 1e-13}
SECONDS_PER_PRODUCT = {"native": 2.5e-11, "cpu": 4e-11, "cuda": 4e-14}
"""Seconds per tap, channel and point; per product of real numbers in a matrix that acts on points or modes.

Measured in float32 on one core of server CPUs with AVX-512: taps, and products by PyTorch (``cpu``), on a Zen 4;
products by the compiled library (``native``) from one timing on a Sapphire Rapids under load. Predicted
for an H200 from its rates, and measured on none."""


def choose_route(route: str, bank: FilterBank, ends: tuple[str, ...], v: Tensor, weights: Tensor) -> str:
    """Return ``"direct"`` or ``"fft"``: the one asked for, or for ``"auto"`` the one predicted to be faster.

    Raises:
        ValueError: if the route does not exist.
    """
    if route not in ROUTES:
        raise ValueError(
            f"Unknown route {route!r}.{did_you_mean(str(route), ROUTES)} Allowed: {', '.join(ROUTES)}."
        )
    if route != "auto":
        return route
    seconds = predicted_seconds(bank, ends, v, weights)
    return min(seconds, key=seconds.__getitem__)


def predicted_seconds(
    bank: FilterBank, ends: tuple[str, ...], v: Tensor, weights: Tensor
) -> dict[str, float]:
    """Return the predicted time of one forward pass by each route."""
    batch, *layout, channels = v.shape
    wide = 2 if v.dtype == torch.float64 else 1
    points = batch * math.prod(layout)
    products = weights.numel() * points if weights.ndim == 3 else 0
    kind = _kind(v)
    device = "cpu" if kind == "native" else kind
    taps = bank.num_taps * points * channels * SECONDS_PER_TAP[kind]
    added = [0 if end == "periodic" else 2 * width for width, end in zip(bank.widths, ends, strict=True)]
    padded = [n + more for n, more in zip(layout, added, strict=True)]
    grid = (*padded[1:], padded[0])
    return {
        "direct": wide * (taps + products * SECONDS_PER_PRODUCT[device]),
        "fft": _transforms(v, grid, grid) + _transfer(bank, padded, v, weights),
    }


def joins_the_waves(bank: FilterBank, u: Tensor, weights: Tensor, num_modes: Sequence[int]) -> bool:
    """Whether a local operator in a periodic box is predicted to be faster on the modes of a Fourier layer.

    Args:
        bank: its filters.
        u: field that the layer acts on.
        weights: matrices or factors of the filters.
        num_modes: kept modes of the layer per axis in space order.
    """
    grid = (*u.shape[2:-1], u.shape[1])
    ends = ("periodic",) * len(grid)
    together = _transforms(u, grid, grid) + _transfer(bank, u.shape[1:-1], u, weights)
    return together < min(predicted_seconds(bank, ends, u, weights).values()) + _transforms(
        u, grid, num_modes
    )


def _kind(v: Tensor) -> str:
    if v.device.type != "cpu":
        return "cuda"
    return "native" if native_applies(v) else "cpu"


def _transforms(v: Tensor, grid: Sequence[int], num_modes: Sequence[int]) -> float:
    sizes: dict[str, Any] = {"batch": v.shape[0], "channels": v.shape[-1], "dtype": v.dtype}
    route = choose_backend("auto", grid, num_modes, **sizes, device=v.device)
    return transform_seconds(route, grid, num_modes, **sizes, device_type=v.device.type)


def _transfer(bank: FilterBank, layout: Sequence[int], v: Tensor, weights: Tensor) -> float:
    """Seconds in which the modes of a grid are multiplied by sums of filters."""
    modes = math.prod(layout[1:]) * (layout[0] // 2 + 1)
    made = 2 * weights.numel()
    used = 4 * v.shape[0] * (weights.shape[1] * weights.shape[2] if weights.ndim == 3 else weights.shape[1])
    wide = 2 if v.dtype == torch.float64 else 1
    return wide * modes * (made + used) * SECONDS_PER_PRODUCT[_kind(v)]
