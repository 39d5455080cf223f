"""Predicted time of the truncated transforms: operations and bytes times measured constants.

The time of an analysis and a synthesis is a sum of four counts, each with a constant of the device:

- ``flops`` of the matrix products, or ``butterflies`` (points times log₂ of the axis) of the FFTs,
- ``bytes`` read and written by every stage and every copy,
- ``far_bytes``, the same bytes again where the fields are larger than the near cache (`NEAR_CACHE`),
- ``calls`` of an operation, each of which costs the host a fixed time.

The fused kernels of the ``triton`` route do the flops of ``dft`` and move neither the half-transformed field nor
the planes of the spectrum. The compiled FFTs of the ``native`` route do the butterflies of ``fft``, more of them for
sizes with large prime factors, and read and write fields and modes alone.

`calibrate` measures the transforms on a spread of sizes and fits the constants (non-negative least squares on
relative errors). `COSTS` holds what it found; only which of two routes is faster depends on them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fields.fourier import (
    DFTTransform,
    FFTTransform,
    TruncatedTransform,
    axis_roles,
    kept_shape,
    layout_order,
)
from .native import prime_factors
from .native_transform import NativeTransform, reason_without_native_transform

COSTS: dict[str, dict[str, dict[str, float]]] = {
    # Measured by `calibrate` on one core of a Sapphire Rapids server CPU, large blocks kept by malloc.
    "cpu": {
        "dft": {"work": 6.8e-12, "bytes": 3.0e-11, "far_bytes": 0.0, "calls": 8.6e-6},
        "fft": {"work": 1.6e-10, "bytes": 2.5e-11, "far_bytes": 5.0e-11, "calls": 4.3e-6},
        "native": {"work": 9.8e-11, "bytes": 0.0, "far_bytes": 0.0, "calls": 2.8e-5},
    },
    # Predicted for an H200 (50 TFLOP/s float32 products, 4.3 TB/s from memory, 3.5 times that from cache).
    "cuda": {
        "dft": {"work": 2.0e-14, "bytes": 6.7e-14, "far_bytes": 1.7e-13, "calls": 5.0e-6},
        "fft": {"work": 5.0e-14, "bytes": 6.7e-14, "far_bytes": 1.7e-13, "calls": 5.0e-6},
    },
}
"""Seconds per count by kind of device and route; kinds of device without an entry use those of ``cuda``."""

COUNTS = ("work", "bytes", "far_bytes", "calls")

NEAR_CACHE = {"cpu": 2 * 2**20, "cuda": 40 * 2**20}
"""Bytes of fields up to which stages find their operands in cache: a core's L2, an H200's L2."""

NATIVE_LANES = 32
"""Numbers that go through a compiled transform together, whether there are as many or not."""

CALIBRATION_CASES = (
    ((64, 64), (16, 16), 8, 32),
    ((64, 64), (24, 24), 8, 32),
    ((64, 64), (48, 48), 8, 32),
    ((64, 64), (64, 64), 4, 32),
    ((128, 128), (24, 24), 2, 32),
    ((128, 128), (64, 64), 2, 32),
    ((256, 256), (16, 16), 1, 16),
    ((256, 256), (64, 64), 1, 32),
    ((512,), (64,), 16, 32),
    ((512,), (512,), 16, 32),
    ((32, 32, 32), (16, 16, 16), 1, 20),
    ((32, 32, 32), (32, 32, 32), 1, 20),
    ((12, 12), (4, 4), 1, 4),
)
"""Grid, kept modes, batch and channels of what `calibrate` times."""

CALIBRATED: dict[str, type[TruncatedTransform]] = {
    "dft": DFTTransform,
    "fft": FFTTransform,
    "native": NativeTransform,
}
"""Routes that are measured; those that a device lacks take no part."""


def transform_counts(
    backend: str,
    grid: Sequence[int],
    num_modes: Sequence[int],
    *,
    batch: int,
    channels: int,
    dtype: torch.dtype,
    device_type: str,
    boundaries: Sequence[str] | None = None,
) -> tuple[float, ...]:
    """Return the `COUNTS` of one analysis and one synthesis together."""
    boundaries = ("periodic",) * len(grid) if boundaries is None else boundaries
    roles, kept_modes = axis_roles(boundaries), kept_shape(num_modes, boundaries)
    fields = batch * channels
    work = moved = 0.0
    done, rest, planes = 1, math.prod(grid), 1
    for place, axis in enumerate(layout_order(len(grid))):
        n, k, role = grid[axis], kept_modes[axis], roles[axis]
        planes_after = 2 if role == "half" else planes
        rest //= n
        lines = fields * done * rest
        before, after = planes * n * lines, planes_after * k * lines
        if backend in ("dft", "triton"):
            work += 2 * 2 * (planes_after * k) * (planes * n) * lines
            fused = (before, 0.0) if place == 0 else (0.0, after)
            moved += 2 * sum(fused if backend == "triton" and place < 2 else (before, after))
        elif backend == "native":
            width, lanes = rest * channels, NATIVE_LANES * (2 if place == 0 else 1)
            filled = math.ceil(width / lanes) * lanes / width
            work += 2 * before * filled * sum(1 if p == 2 else p for p in prime_factors(n))
            moved += 2 * (before if place == 0 else 0.0) + 2 * (after if place == len(grid) - 1 else 0.0)
        else:
            work += 2 * before * math.log2(max(n, 2))
            # In and out of the FFT at full length, and the cut or the zeros.
            moved += 2 * (2 * before + 2 * after)
            if role == "wall":
                moved += 8 * before  # points and modes in another order, there and back
        done *= k
        planes = planes_after
    if backend == "fft":
        moved += 4 * fields * math.prod(grid)  # to channels first and back
    ndim = len(grid)
    calls = {"dft": 2.0 * ndim + 4, "triton": 2.0 + 6 * (ndim - 2), "native": 2.0}.get(
        backend, 6.0 * ndim + 6
    )
    moved *= dtype.itemsize
    near = NEAR_CACHE.get(device_type, NEAR_CACHE["cuda"])
    far = moved if fields * math.prod(grid) * dtype.itemsize > near else 0.0
    # Products and butterflies in float64 take twice as long.
    return work * (2 if dtype == torch.float64 else 1), moved, far, calls


def transform_seconds(
    backend: str,
    grid: Sequence[int],
    num_modes: Sequence[int],
    *,
    batch: int,
    channels: int,
    dtype: torch.dtype = torch.float32,
    device_type: str = "cpu",
    boundaries: Sequence[str] | None = None,
) -> float:
    """Return the predicted time in seconds of one analysis and one synthesis."""
    cost = COSTS.get(device_type, COSTS["cuda"])[backend]
    sizes: dict[str, Any] = {"batch": batch, "channels": channels, "dtype": dtype, "device_type": device_type}
    counts = transform_counts(backend, grid, num_modes, **sizes, boundaries=boundaries)
    return sum(cost[name] * count for name, count in zip(COUNTS, counts, strict=True))


def calibrate(
    device: torch.device | str = "cpu",
    *,
    repeats: int = 5,
    cases: Sequence[tuple] = CALIBRATION_CASES,
    routes: Mapping[str, type[TruncatedTransform]] = CALIBRATED,
) -> dict[str, dict[str, float]]:
    """Measure the transforms on a device in float32 and return the fitted constants, an entry of `COSTS`.

    Args:
        device: where.
        repeats: measurements of each case.
        cases: as `CALIBRATION_CASES`; a route takes no part in those of a dimension that it does not have.
        routes: by backend.
    """
    from scipy.optimize import nnls  # at call time: it is slow to import and no model needs it

    device = torch.device(device)
    costs = {}
    for backend, route in routes.items():
        if backend == "native" and reason_without_native_transform(device, torch.float32, 2) is not None:
            continue
        counts, seconds = [], []
        for grid, num_modes, batch, channels in cases:
            if backend == "triton" and len(grid) == 1:
                continue
            transform = route(grid, num_modes, torch.float32, str(device))
            u = torch.randn(batch, grid[-1], *grid[:-1], channels, device=device)
            sizes = {"batch": batch, "channels": channels, "dtype": torch.float32, "device_type": device.type}
            counts.append(transform_counts(backend, grid, num_modes, **sizes))
            seconds.append(_median_seconds(partial(_there_and_back, transform, u), device, repeats))
        relative = np.array(counts) / np.array(seconds)[:, None]
        scale = np.maximum(relative.max(axis=0), 1e-300)
        constants, _ = nnls(relative / scale, np.ones(len(seconds)))
        costs[backend] = dict(zip(COUNTS, (constants / scale).tolist(), strict=True))
    return costs


def _there_and_back(transform: TruncatedTransform, u: Tensor) -> Tensor:
    # Contiguous, because the mixing between the two reads and writes modes that are.
    return transform.synthesise(transform.analyse(u).contiguous()).contiguous()


def _median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    times = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - start)
    return float(np.median(times[1:]))
