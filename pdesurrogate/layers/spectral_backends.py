"""The routes of a spectral convolution by name, where each can run, and which one is taken by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from ..fields.fourier import (
    DFTTransform,
    FFTTransform,
    ReferenceTransform,
    TruncatedTransform,
    truncated_transform,
)
from ..registry import did_you_mean
from .spectral_cost import transform_seconds


def _anywhere(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


@dataclass(frozen=True)
class Backend:
    """One route of the truncated transforms.

    Attributes:
        transform: the transforms and their adjoints.
        refusal: why it cannot run on a device with fields of a dtype, as a clause, or None if it can.
    """

    transform: type[TruncatedTransform]
    refusal: Callable[[torch.device, torch.dtype], str | None] = _anywhere

    def build(
        self,
        grid: tuple[int, ...],
        num_modes: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        boundaries: tuple[str, ...] | None = None,
    ) -> TruncatedTransform:
        """Return the transforms of a grid, from a cache."""
        return truncated_transform(self.transform, grid, num_modes, dtype, device, boundaries)


BACKENDS: dict[str, Backend] = {
    "dft": Backend(DFTTransform),
    "fft": Backend(FFTTransform),
    "reference": Backend(ReferenceTransform),
}
"""``dft``: products with cosine and sine tables. ``fft``: pruned FFTs. ``reference``: whole spectra, the oracle."""


def check_backend(backend: str) -> None:
    """Refuse a backend that does not exist.

    Raises:
        ValueError: with the nearest name and all names.
    """
    names = ("auto", *BACKENDS)
    if backend not in names:
        raise ValueError(
            f"Unknown spectral backend {backend!r}.{did_you_mean(backend, names)} Available: {', '.join(names)}."
        )


def choose_backend(
    backend: str,
    grid: Sequence[int],
    num_modes: Sequence[int],
    *,
    batch: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    boundaries: tuple[str, ...] | None = None,
) -> str:
    """Return the name of the route to take: the one asked for, or for ``"auto"`` the one predicted to be fastest.

    Boundaries are None in periodic boxes. Gradients do not change the choice: the backward pass runs the same
    transforms once more, transposed.

    Raises:
        ValueError: if the backend is unknown, or cannot run on this device; it names those that can.
    """
    check_backend(backend)
    if backend == "auto":
        if dtype in (torch.bfloat16, torch.float16):
            return "dft"  # there are no FFTs in half precision
        return _fastest(tuple(grid), tuple(num_modes), batch, channels, dtype, device.type, boundaries)

    def refused(entry: Backend) -> str | None:
        if boundaries is not None and not entry.transform.takes_walls:
            return f"it knows no walls and the boundaries are {boundaries}"
        return entry.refusal(device, dtype)

    refusal = refused(BACKENDS[backend])
    if refusal is not None:
        able = [name for name, entry in BACKENDS.items() if refused(entry) is None]
        raise ValueError(
            f"The spectral backend {backend!r} cannot run here: {refusal}. Available on {device.type} for {dtype}: "
            f"auto, {', '.join(able)}."
        )
    return backend


@lru_cache(maxsize=1024)
def _fastest(
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    batch: int,
    channels: int,
    dtype: torch.dtype,
    device_type: str,
    boundaries: tuple[str, ...] | None,
) -> str:
    sizes: dict[str, Any] = {"batch": batch, "channels": channels, "dtype": dtype, "device_type": device_type}
    seconds = {
        name: transform_seconds(name, grid, num_modes, **sizes, boundaries=boundaries)
        for name in ("dft", "fft")
    }
    return min(seconds, key=seconds.__getitem__)
