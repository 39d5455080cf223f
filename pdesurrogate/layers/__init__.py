"""Bricks that more than one model uses: spectral, spherical and local convolution, boundaries, coordinates, folding."""

from .axial_integral import axial_integral, contract
from .axial_kernels import KERNEL_NORMS, AxialKernel, axis_means, check_kernel_norm
from .boundary_conv import BoundaryConv, pad_boundaries
from .channel_mixing import ChannelMixing
from .coordinates import COORDINATES, append_coordinates, check_coordinates, num_coordinate_channels
from .factorised_weights import CONTRACTIONS, FactorisedSpectralWeights
from .filter_bank import FilterBank
from .filter_basis import BASES, filter_basis
from .folding import fold_inputs, unfold_frames
from .fourier_layer import MEMORY_MODES, FourierLayerWeights, check_memory, fourier_layer
from .group_fourier_layer import GroupFourierLayer
from .group_tables import symmetric_modes
from .group_weights import (
    GroupLift,
    GroupLinear,
    GroupProjection,
    GroupSpectralWeight,
    IsotropicSpectralWeight,
)
from .local_cost import joins_the_waves
from .local_kernels import (
    DifferentialKernel,
    IntegralKernel,
    LocalKernel,
    PlainKernel,
    apply_kernels,
    joint_filters,
)
from .local_operator import local_operator
from .mode_products import mode_matmul, mode_multiply
from .pointwise_mlp import PointwiseLinear, PointwiseMLP, pointwise_linear, pointwise_map, pointwise_mlp
from .precision import PRECISIONS, check_precision, has_fast_bfloat16
from .recomputation import recomputed
from .region_share import AllRegions, RegionShare
from .regions import RegionGrid, split_regions
from .rotary import positions, random_directions, rotary_frequencies, rotate, wave_features
from .spectral_backends import BACKENDS, available_backends, check_backend
from .spectral_conv import SpectralConv, spectral_conv
from .spectral_norm import kept_multiplicity, normalise_kept, normalise_modes
from .spectral_operator import spectral_analysis, spectral_operator, spectral_synthesis
from .spectral_weights import spectral_weight_from_neuralop, spectral_weight_to_neuralop
from .spherical_conv import SphericalConv, degree_matmul
from .spherical_disco import SphericalDisco
from .tensor_decompositions import decompose
from .tensor_factorisations import FACTORISATIONS, Factorisation, check_factorisation
from .tracing import needs_plain_operations
from .wave_layer import wave_layer

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
    "FilterBank",
    "FourierLayerWeights",
    "GroupFourierLayer",
    "GroupLift",
    "GroupLinear",
    "GroupProjection",
    "GroupSpectralWeight",
    "IntegralKernel",
    "IsotropicSpectralWeight",
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
    "joins_the_waves",
    "joint_filters",
    "kept_multiplicity",
    "local_operator",
    "mode_matmul",
    "mode_multiply",
    "needs_plain_operations",
    "normalise_kept",
    "normalise_modes",
    "num_coordinate_channels",
    "pad_boundaries",
    "pointwise_linear",
    "pointwise_map",
    "pointwise_mlp",
    "positions",
    "random_directions",
    "recomputed",
    "rotary_frequencies",
    "rotate",
    "spectral_analysis",
    "spectral_conv",
    "spectral_operator",
    "spectral_synthesis",
    "spectral_weight_from_neuralop",
    "spectral_weight_to_neuralop",
    "split_regions",
    "symmetric_modes",
    "unfold_frames",
    "wave_features",
    "wave_layer",
]
