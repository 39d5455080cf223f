"""Means and slopes on a sphere, where points stand for different areas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.fourier.kept_tables import kept
from ..fields.spherical.grid import SphericalGrid, spherical_grid
from ..fields.spherical.transforms import SphericalTransform


def area_shares(
    spec: DataSpec, sizes: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "lat 1"]:
    """Return the share of the sphere that each point of a row stands for, from the quadrature of its latitudes.

    Raises:
        ValueError: if the latitudes follow no rule, so that their areas are not known.
    """
    return kept(_shares(spherical_grid(spec, sizes), dtype, str(device)))


@lru_cache(maxsize=32)
def _shares(grid: SphericalGrid, dtype: torch.dtype, device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(grid.weights / (2 * grid.num_lon)).to(device, dtype)[:, None]


def slope_norms(
    field: Float[Tensor, "batch time component lat lon"], grid: SphericalGrid
) -> Float[Tensor, "batch time"]:
    """Return the root mean square of the slope on the unit sphere, from all harmonics that the grid analyses exactly.

    ``‖∇f‖² = Σ l(l+1) |f̂_lm|²`` for a scalar. For winds, whose components are no scalars, ``‖ζ‖² + ‖δ‖²`` takes its
    place, which is the same sum over the harmonics of stream function and potential, each with ``l(l+1)`` once more.
    """
    transform = SphericalTransform(grid, dtype=field.dtype, device=field.device)
    if field.shape[2] == 1:
        degrees = transform.degrees.to(field.dtype)
        spectrum = transform.analyse(field) * (degrees * (degrees + 1)).sqrt()[:, None]
    else:
        spectrum = transform.vorticity_divergence(field)
    pairs = torch.view_as_real(spectrum)
    # Orders m and -m; the mean over the sphere of an orthonormal harmonic's square is 1/4π.
    twice = torch.full((spectrum.shape[-1], 1), math.sqrt(2.0), dtype=field.dtype, device=field.device)
    twice[0] = 1.0
    return torch.linalg.vector_norm((pairs * twice).flatten(2), dim=-1) / math.sqrt(4 * math.pi)
