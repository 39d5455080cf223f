"""Bricks that more than one model uses: spectral convolution, boundary-aware convolution, coordinates, folding."""

from .boundary_conv import BoundaryConv, pad_boundaries
from .coordinates import COORDINATES, append_coordinates, check_coordinates, num_coordinate_channels
from .folding import fold_inputs, unfold_frames
from .spectral_conv import BACKENDS, SpectralConv, spectral_conv
from .spectral_weights import spectral_weight_from_neuralop, spectral_weight_to_neuralop

__all__ = [
    "BACKENDS",
    "COORDINATES",
    "BoundaryConv",
    "SpectralConv",
    "append_coordinates",
    "check_coordinates",
    "fold_inputs",
    "num_coordinate_channels",
    "pad_boundaries",
    "spectral_conv",
    "spectral_weight_from_neuralop",
    "spectral_weight_to_neuralop",
    "unfold_frames",
]
