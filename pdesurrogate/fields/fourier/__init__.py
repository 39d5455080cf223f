"""The only Fourier code of the house: modes, cosine transforms, resampling, derivatives, bands, truncation."""

from .axis_roles import BOUNDARIES, axis_roles, has_real_spectra, layout_order
from .bands import RadialBands, mode_energies
from .cosine import (
    cosine_multiplicity,
    cosine_tables,
    cosine_transform,
    cosine_wavenumbers,
    inverse_cosine_transform,
)
from .derivatives import derivative, gradient, laplacian
from .dft_plan import DFTPlan, dft_plan
from .fused_transform import FusedTransform, reason_without_fused
from .kept_tables import keep_tables
from .modes import forward_transform, inverse_transform, mode_numbers, multiplicity, wavenumbers
from .quarter_cosine import (
    inverse_quarter_cosine_transform,
    quarter_cosine_transform,
    quarter_cosine_wavenumbers,
)
from .real_waves import RealWaves, WaveKind, num_waves, wave_table
from .reference import ReferenceTransform
from .resampling import resample
from .transforms import (
    DFTTransform,
    FFTTransform,
    Spectrum,
    TruncatedTransform,
    complex_modes,
    modes_of_planes,
    planes_of_modes,
    real_planes,
    truncated_transform,
)
from .truncated import kept_modes, kept_shape, pruned_forward, pruned_inverse, require_resolved

__all__ = [
    "BOUNDARIES",
    "DFTPlan",
    "DFTTransform",
    "FFTTransform",
    "FusedTransform",
    "RadialBands",
    "RealWaves",
    "ReferenceTransform",
    "Spectrum",
    "TruncatedTransform",
    "WaveKind",
    "axis_roles",
    "complex_modes",
    "cosine_multiplicity",
    "cosine_tables",
    "cosine_transform",
    "cosine_wavenumbers",
    "derivative",
    "dft_plan",
    "forward_transform",
    "gradient",
    "has_real_spectra",
    "inverse_cosine_transform",
    "inverse_quarter_cosine_transform",
    "inverse_transform",
    "keep_tables",
    "kept_modes",
    "kept_shape",
    "laplacian",
    "layout_order",
    "mode_energies",
    "mode_numbers",
    "modes_of_planes",
    "multiplicity",
    "num_waves",
    "planes_of_modes",
    "pruned_forward",
    "pruned_inverse",
    "quarter_cosine_transform",
    "quarter_cosine_wavenumbers",
    "real_planes",
    "reason_without_fused",
    "require_resolved",
    "resample",
    "truncated_transform",
    "wave_table",
    "wavenumbers",
]
