"""Which route of a local operator is predicted to be faster: taps one by one, or spectra.

Both end in products with the matrices between channels, complex ones by spectra, which cost twice as much. The time
of the taps is their number times points and channels times a constant. That of the spectra is predicted by
`spectral_cost` for all modes of the grid, with another constant for each factor of a filter and a mode; it does not
depend on the taps. On one core with the compiled library the two met at about 500 taps of a basis of five functions on
64 x 64 points, a radius of nine spacings, and at 700 on 128 x 128.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..registry import did_you_mean
from .filter_bank import FilterBank
from .native import native_applies
from .spectral_cost import COSTS, transform_seconds

ROUTES = ("auto", "direct", "fft")

SECONDS_PER_TAP = {"native": 5.5e-11, "cpu": 6e-10, "cuda": 1e-13}
SECONDS_PER_PRODUCT = {"cpu": 4e-11, "cuda": 4e-14}
SECONDS_PER_FACTOR = {"cpu": 1.5e-9, "cuda": 2e-12}
"""Seconds per tap, channel and point; per entry of a matrix and point; per filter, channel and point of a spectrum.

Measured in float32 on one core of a Zen 4 server CPU with AVX-512, ``native`` by the compiled library and ``cpu`` by
the convolution of PyTorch. Predicted for an H200 from its rates, and measured on none."""


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
    device = v.device.type if v.device.type in COSTS else "cuda"
    points = batch * math.prod(layout)
    products = weights.numel() * points if weights.ndim == 3 else 0
    wide = 2 if v.dtype == torch.float64 else 1
    mixing = wide * products * SECONDS_PER_PRODUCT[device]
    factors = wide * bank.size * points * channels * SECONDS_PER_FACTOR[device]
    tap = SECONDS_PER_TAP["native" if native_applies(v) else device]
    added = [0 if end == "periodic" else 2 * width for width, end in zip(bank.widths, ends, strict=True)]
    padded = [n + more for n, more in zip(layout, added, strict=True)]
    grid = (*padded[1:], padded[0])
    sizes: dict[str, Any] = {"batch": batch, "channels": channels, "dtype": v.dtype, "device_type": device}
    transforms = min(transform_seconds(name, grid, grid, **sizes) for name in COSTS[device])
    return {
        "direct": wide * bank.num_taps * points * channels * tap + mixing,
        "fft": transforms + (2 * mixing + factors) * math.prod(padded) / math.prod(layout),
    }
