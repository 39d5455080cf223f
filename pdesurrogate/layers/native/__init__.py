"""The pointwise half of a Fourier layer, and filters, in C++: compiled on demand and never required."""

from __future__ import annotations

from .filters import filter_lines
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
    "filter_lines",
    "mlp_backward",
    "mlp_forward",
    "native_applies",
    "native_library",
    "reason_without_native",
]
