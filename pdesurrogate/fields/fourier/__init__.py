"""The only Fourier code of the house: modes, cosine transforms, resampling, derivatives, bands, truncation."""

from .bands import RadialBands
from .cosine import (
    cosine_multiplicity,
    cosine_tables,
    cosine_transform,
    cosine_wavenumbers,
    inverse_cosine_transform,
)
from .derivatives import derivative, gradient, laplacian
from .dft_plan import DFTPlan, dft_plan
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
    "RadialBands",
    "ReferenceTransform",
    "TruncatedTransform",
    "complex_modes",
    "cosine_multiplicity",
    "cosine_tables",
    "cosine_transform",
    "cosine_wavenumbers",
    "derivative",
    "dft_plan",
    "forward_transform",
    "gradient",
    "inverse_cosine_transform",
    "inverse_transform",
    "kept_modes",
    "kept_shape",
    "laplacian",
    "mode_numbers",
    "multiplicity",
    "pruned_forward",
    "pruned_inverse",
    "real_planes",
    "require_resolved",
    "resample",
    "truncated_transform",
    "wavenumbers",
]
