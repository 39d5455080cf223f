"""Bricks that more than one model uses: spectral convolution, boundary-aware convolution, folding."""

from .boundary_conv import BoundaryConv, pad_boundaries
from .folding import fold_inputs, unfold_frames
from .spectral_conv import BACKENDS, SpectralConv, spectral_conv
from .spectral_weights import spectral_weight_from_neuralop, spectral_weight_to_neuralop

__all__ = [
    "BACKENDS",
    "BoundaryConv",
    "SpectralConv",
    "fold_inputs",
    "pad_boundaries",
    "spectral_conv",
    "spectral_weight_from_neuralop",
    "spectral_weight_to_neuralop",
    "unfold_frames",
]
