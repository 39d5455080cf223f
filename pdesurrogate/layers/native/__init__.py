"""The pointwise half of a Fourier layer in one pass over the points, compiled on demand and never required."""

from __future__ import annotations

from .loader import native_library, reason_without_native
from .pointwise import (
    BlockGradients,
    BlockWeights,
    block_backward,
    block_forward,
    mlp_backward,
    mlp_forward,
    native_applies,
)

__all__ = [
    "BlockGradients",
    "BlockWeights",
    "block_backward",
    "block_forward",
    "mlp_backward",
    "mlp_forward",
    "native_applies",
    "native_library",
    "reason_without_native",
]
