"""Bricks that more than one model uses: spectral, spherical and local convolution, boundaries, coordinates, folding."""

from .axial_integral import axial_integral, contract
from .axial_kernels import KERNEL_NORMS, AxialKernel, axis_means, check_kernel_norm
from .boundary_conv import BoundaryConv, pad_boundaries
from .channel_mixing import ChannelMixing
from .coordinates import COORDINATES, append_coordinates, check_coordinates, num_coordinate_channels
from .factorised_weights import CONTRACTIONS, FactorisedSpectralWeights
from .filter_basis import BASES, filter_basis
from .folding import fold_inputs, unfold_frames
from .fourier_layer import MEMORY_MODES, FourierLayerWeights, check_memory, fourier_layer
from .local_kernels import DifferentialKernel, IntegralKernel, LocalKernel, PlainKernel, apply_kernels
from .mode_products import mode_matmul, mode_multiply
from .pointwise_mlp import PointwiseLinear, PointwiseMLP, pointwise_map
from .precision import PRECISIONS, check_precision, has_fast_bfloat16
from .region_share import AllRegions, RegionShare
from .regions import RegionGrid, split_regions
from .rotary import positions, random_directions, rotary_frequencies, rotate, wave_features
from .spectral_backends import BACKENDS, available_backends, check_backend
from .spectral_conv import SpectralConv, spectral_conv
from .spectral_operator import spectral_analysis, spectral_operator, spectral_synthesis
from .spectral_weights import spectral_weight_from_neuralop, spectral_weight_to_neuralop
from .spherical_conv import SphericalConv, degree_matmul
from .spherical_disco import SphericalDisco
from .tensor_decompositions import decompose
from .tensor_factorisations import FACTORISATIONS, Factorisation, check_factorisation

__all__ = [
    "BACKENDS",
    "BASES",
    "CONTRACTIONS",
    "COORDINATES",
    "FACTORISATIONS",
    "KERNEL_NORMS",
    "MEMORY_MODES",
    "PRECISIONS",
    "AllRegions",
    "AxialKernel",
    "BoundaryConv",
    "ChannelMixing",
    "DifferentialKernel",
    "Factorisation",
    "FactorisedSpectralWeights",
    "FourierLayerWeights",
    "IntegralKernel",
    "LocalKernel",
    "PlainKernel",
    "PointwiseLinear",
    "PointwiseMLP",
    "RegionGrid",
    "RegionShare",
    "SpectralConv",
    "SphericalConv",
    "SphericalDisco",
    "append_coordinates",
    "apply_kernels",
    "available_backends",
    "axial_integral",
    "axis_means",
    "check_backend",
    "check_coordinates",
    "check_factorisation",
    "check_kernel_norm",
    "check_memory",
    "check_precision",
    "contract",
    "decompose",
    "degree_matmul",
    "filter_basis",
    "fold_inputs",
    "fourier_layer",
    "has_fast_bfloat16",
    "mode_matmul",
    "mode_multiply",
    "num_coordinate_channels",
    "pad_boundaries",
    "pointwise_map",
    "positions",
    "random_directions",
    "rotary_frequencies",
    "rotate",
    "spectral_analysis",
    "spectral_conv",
    "spectral_operator",
    "spectral_synthesis",
    "spectral_weight_from_neuralop",
    "spectral_weight_to_neuralop",
    "split_regions",
    "unfold_frames",
    "wave_features",
]
