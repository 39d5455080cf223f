"""The only Fourier code of the house: modes, exact resampling, derivatives, bands, truncated transforms."""

from .bands import RadialBands
from .derivatives import derivative, gradient, laplacian
from .modes import forward_transform, inverse_transform, mode_numbers, multiplicity, wavenumbers
from .resampling import resample
from .truncated import (
    DFTPlan,
    dft_plan,
    kept_modes,
    kept_shape,
    pruned_forward,
    pruned_inverse,
    require_resolved,
)

__all__ = [
    "DFTPlan",
    "RadialBands",
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
    "require_resolved",
    "resample",
    "wavenumbers",
]
