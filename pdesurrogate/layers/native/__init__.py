"""The pointwise half of a Fourier layer, filters and transforms in C++: compiled on demand and never required."""

from __future__ import annotations

from .calls import native_applies
from .filters import filter_lines
from .loader import native_library, reason_without_native
from .pointwise import (
    BlockGradients,
    BlockWeights,
    block_backward,
    block_forward,
    mlp_backward,
    mlp_forward,
)
from .transfer import transfer_backward, transfer_forward
from .transforms import fft_analyse, fft_synthesise, prime_factors
from .waves import (
    VECTOR,
    wave_mixing_backward,
    wave_mixing_forward,
    wave_products_backward,
    wave_products_forward,
)

__all__ = [
    "VECTOR",
    "BlockGradients",
    "BlockWeights",
    "block_backward",
    "block_forward",
    "fft_analyse",
    "fft_synthesise",
    "filter_lines",
    "mlp_backward",
    "mlp_forward",
    "native_applies",
    "native_library",
    "prime_factors",
    "reason_without_native",
    "transfer_backward",
    "transfer_forward",
    "wave_mixing_backward",
    "wave_mixing_forward",
    "wave_products_backward",
    "wave_products_forward",
]
