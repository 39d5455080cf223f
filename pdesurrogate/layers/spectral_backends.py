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
    FusedTransform,
    ReferenceTransform,
    TruncatedTransform,
    reason_without_fused,
    truncated_transform,
)
from ..registry import did_you_mean
from .native_transform import NativeTransform, reason_without_native_transform
from .spectral_cost import COSTS, transform_seconds


def _anywhere(device: torch.device, dtype: torch.dtype, ndim: int) -> str | None:
    return None


@dataclass(frozen=True)
class Backend:
    """One route of the truncated transforms.

    Attributes:
        transform: the transforms and their adjoints.
        refusal: why it cannot run on a device with fields of a dtype and a dimension, as a clause, or None if it
            can.
    """

    transform: type[TruncatedTransform]
    refusal: Callable[[torch.device, torch.dtype, int], str | None] = _anywhere

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
    "triton": Backend(FusedTransform, reason_without_fused),
    "native": Backend(NativeTransform, reason_without_native_transform),
}
"""``dft``: products with cosine and sine tables. ``fft``: pruned FFTs. ``reference``: whole spectra, the oracle.
``triton``: the products of ``dft`` in fused kernels, on NVIDIA GPUs, for two and three dimensions.
``native``: compiled FFTs of channels-last fields, in float32 on the CPU, without walls."""


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

    Predicted are the routes that have constants in `COSTS` for this kind of device. ``triton`` has none until it is
    measured on one (``python -m benchmarks.calibrate``), so that it runs where it is asked for by name only.
    Boundaries are None in periodic boxes. Gradients do not change the choice: the backward pass runs the same
    transforms once more, transposed.

    Raises:
        ValueError: if the backend is unknown, or cannot run on this device; it names those that can.
    """
    check_backend(backend)
    if backend == "auto":
        if dtype in (torch.bfloat16, torch.float16):
            return "dft"  # there are no FFTs in half precision
        return _fastest(tuple(grid), tuple(num_modes), batch, channels, dtype, device, boundaries)
    reason = _refusal(backend, device, dtype, len(grid), boundaries)
    if reason is not None:
        able = available_backends(device, dtype, len(grid), boundaries)
        raise ValueError(
            f"The spectral backend {backend!r} cannot run here: {reason}. Available on {device.type} for {dtype}: "
            f"auto, {', '.join(able)}."
        )
    return backend


def available_backends(
    device: torch.device, dtype: torch.dtype, ndim: int, boundaries: Sequence[str] | None = None
) -> list[str]:
    """Return the names of the routes that can run on a device with fields of a dtype and a dimension.

    Args:
        device: that the fields are on.
        dtype: of the fields.
        ndim: number of axes of space.
        boundaries: ``"periodic"`` or ``"wall"`` per axis; all periodic if None.
    """
    return [name for name in BACKENDS if _refusal(name, device, dtype, ndim, boundaries) is None]


def _refusal(
    name: str, device: torch.device, dtype: torch.dtype, ndim: int, boundaries: Sequence[str] | None
) -> str | None:
    entry = BACKENDS[name]
    if boundaries is not None and "wall" in boundaries and not entry.transform.takes_walls:
        return f"it knows no walls and the boundaries are {tuple(boundaries)}"
    return entry.refusal(device, dtype, ndim)


@lru_cache(maxsize=1024)
def _fastest(
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    batch: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    boundaries: tuple[str, ...] | None,
) -> str:
    known = COSTS.get(device.type, COSTS["cuda"])
    sizes: dict[str, Any] = {"batch": batch, "channels": channels, "dtype": dtype, "device_type": device.type}
    seconds = {
        name: transform_seconds(name, grid, num_modes, **sizes, boundaries=boundaries)
        for name in available_backends(device, dtype, len(grid), boundaries)
        if name in known
    }
    return min(seconds, key=seconds.__getitem__)
