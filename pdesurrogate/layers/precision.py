"""Precision policies of the layers: which arithmetic runs inside, whatever autocast surrounds them.

=========  ==========================================================  =============================================
policy     arithmetic                                                  relative error of one layer against float64
=========  ==========================================================  =============================================
``full``   float32 storage, float32 products                           3e-7
``tf32``   float32 storage, products rounded to TF32 on NVIDIA GPUs    5e-4 on such a GPU; elsewhere as ``full``
``bf16``   bfloat16 activations and products, float32 accumulation;    4e-3
           channel mixing of the kept modes, weights, their gradients
           and sums over the grid in float32
=========  ==========================================================  =============================================

float64 fields are computed in float64 under every policy. The errors are those of a spectral layer on 64² and
256² points (smooth and white input agree within a factor 1.3). A policy is a layer's own: inside the layers
autocast is off, so ``bf16-mixed`` of a trainer changes what surrounds them, not them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch

from ..registry import did_you_mean

logger = logging.getLogger(__name__)

PRECISIONS = ("full", "tf32", "bf16")
_ACTIVE: ContextVar[str] = ContextVar("active_policy", default="full")


def check_precision(precision: str) -> None:
    """Refuse a policy that does not exist.

    Raises:
        ValueError: with the nearest name and all names.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"Unknown precision {precision!r}.{did_you_mean(precision, PRECISIONS)} "
            f"Allowed: {', '.join(PRECISIONS)}."
        )


def working_dtype(dtype: torch.dtype, precision: str) -> torch.dtype:
    """Return the dtype in which a layer computes on fields of ``dtype``."""
    if dtype == torch.float64:
        return dtype
    return torch.bfloat16 if precision == "bf16" else torch.float32


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware: Ampere or later, AVX512-BF16 or AMX."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return True


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Run matrix products under a policy: autocast off, and TF32 on NVIDIA GPUs on or off as the policy says.

    Nodes of the autograd graph keep `active_policy` from their forward pass, because the backward pass runs when this
    context has long been left.
    """
    if torch.compiler.is_exporting() and not torch.is_autocast_enabled(device.type):
        yield  # a region without autocast has a graph of its own, into which sizes of open grids cannot be written
        return
    with torch.autocast(device.type, enabled=False):
        if torch.compiler.is_compiling():
            yield
            return
        token = _ACTIVE.set(precision)
        flags = torch.backends.cuda.matmul
        before = flags.fp32_precision
        if device.type == "cuda":
            flags.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        try:
            yield
        finally:
            _ACTIVE.reset(token)
            if device.type == "cuda":
                flags.fp32_precision = before


def active_policy() -> str:
    """Return the policy of the innermost `products_in` around this call, ``full`` outside of any."""
    return _ACTIVE.get()


@lru_cache(maxsize=8)
def note_slow_bfloat16(device_type: str) -> None:
    """Say once per process and kind of device that bfloat16 saves memory there but no time."""
    if not has_fast_bfloat16(device_type):
        logger.warning(
            "precision is bf16 and this %s has no bfloat16 products in hardware: the numbers are the same, the speed "
            "is not. Set precision=full to compute faster.",
            device_type,
        )
