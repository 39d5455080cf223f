"""The scales of a domain: waves of a box, cosines between its ends, spherical harmonics of a sphere, in bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec, Field
from ..fields.fourier import RadialBands
from ..fields.spherical.grid import SphericalGrid, spherical_grid
from ..fields.spherical.resampling import WIND_COMPONENTS
from ..fields.spherical.transforms import SphericalTransform
from .norms import check_shapes, field_slices, spatial_means


@dataclass(frozen=True)
class DegreeBands:
    """Degrees of spherical harmonics up to what a grid analyses exactly, plus one bin for what lies beyond.

    Energy of degree l is ``1/4π Σ_m |f̂_lm|²`` of a scalar, and ``1/4π Σ_m (|ζ̂_lm|² + |δ̂_lm|²) / l(l+1)`` of a wind
    with vorticity ζ and divergence δ on the unit sphere; degrees add up to the mean square over the area.

    Attributes:
        grid: of the fields.
    """

    grid: SphericalGrid

    @property
    def num_complete(self) -> int:
        """Number of degrees, 0 included."""
        return self.grid.largest_truncation() + 1

    @property
    def num_bands(self) -> int:
        """Number of bands: the degrees and what lies beyond."""
        return self.num_complete + 1

    @property
    def centres(self) -> Float[Tensor, " complete"]:
        """The degrees."""
        return torch.arange(self.num_complete, dtype=torch.float64)

    def spectrum(
        self, u: Float[Tensor, "batch time component lat lon"], field: Field
    ) -> Float[Tensor, "batch time bands"]:
        """Return the energies of a field by degree, components added, without what lies beyond."""
        transform = SphericalTransform(self.grid, dtype=torch.float64, device=u.device)
        u = u.to(torch.float64)
        if field.kind == "vector" and field.components == WIND_COMPONENTS:
            eigenvalues = (-transform.laplacian).clamp_min(1.0)
            energies = transform.vorticity_divergence(u).abs().square() / eigenvalues[:, None]
        else:
            energies = transform.analyse(u).abs().square()
        by_degree = 2 * energies.sum(-1) - energies[..., 0]  # orders m and -m
        return by_degree.sum(2) / (4 * math.pi)


def bands_of(spec: DataSpec, grid: Sequence[int], *, centred: bool) -> RadialBands | DegreeBands:
    """Return the bands of a domain: of its waves, its cosines along axes with ends, or its spherical harmonics.

    Args:
        spec: of the fields.
        grid: points along each axis.
        centred: whether whole wavenumbers of a box are the middles of bands or their lower ends.

    Raises:
        ValueError: for latitudes that follow no rule.
    """
    if spec.geometry == "sphere":
        return DegreeBands(spherical_grid(spec, grid))
    has_ends = tuple(boundary != "periodic" for boundary in spec.boundaries)
    return RadialBands(tuple(grid), spec.lengths, centred, has_ends)


def energies_by_band(
    u: Float[Tensor, "batch time channel *space"], spec: DataSpec, *, centred: bool
) -> Float[Tensor, "batch time field bands"]:
    """Return the mean square of each field that is forecast in each band, float64; bands add up to the whole.

    Raises:
        ValueError: if the fields are not the spec's.
    """
    check_shapes(u, u, spec)
    bands = bands_of(spec, u.shape[3:], centred=centred)
    if isinstance(bands, RadialBands):
        per_channel = bands.spectrum(u)
        return torch.stack([per_channel[:, :, part].sum(2) for part in field_slices(spec)], dim=2)
    squares = spatial_means(u.to(torch.float64).square(), spec).flatten(3)[..., 0]
    rows = []
    for field, part in zip(spec.forecast_fields, field_slices(spec), strict=True):
        known = bands.spectrum(u[:, :, part], field)
        beyond = squares[:, :, part].sum(2) - known.sum(-1)
        rows.append(torch.cat([known, beyond.clamp_min(0.0)[..., None]], dim=-1))
    return torch.stack(rows, dim=2)
