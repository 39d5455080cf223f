"""The only Fourier code of the house: modes, exact resampling, derivatives, bands, truncated transforms."""

from .bands import RadialBands
from .derivatives import derivative, gradient, laplacian
from .dft_plan import DFTPlan, dft_plan
from .fused_transform import FusedTransform, reason_without_fused
from .modes import forward_transform, inverse_transform, mode_numbers, multiplicity, wavenumbers
from .resampling import resample
from .transforms import (
    DFTTransform,
    FFTTransform,
    ReferenceTransform,
    TruncatedTransform,
    complex_modes,
    real_planes,
    truncated_transform,
)
from .truncated import kept_modes, kept_shape, pruned_forward, pruned_inverse, require_resolved

__all__ = [
    "DFTPlan",
    "DFTTransform",
    "FFTTransform",
    "FusedTransform",
    "RadialBands",
    "ReferenceTransform",
    "TruncatedTransform",
    "complex_modes",
    "derivative",
    "dft_plan",
    "forward_transform",
    "gradient",
    "inverse_transform",
    "kept_modes",
    "kept_shape",
    "laplacian",
    "mode_numbers",
    "multiplicity",
    "pruned_forward",
    "pruned_inverse",
    "real_planes",
    "reason_without_fused",
    "require_resolved",
    "resample",
    "truncated_transform",
    "wavenumbers",
]
