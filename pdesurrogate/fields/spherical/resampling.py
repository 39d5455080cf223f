"""Exact change of grid for band-limited fields on a sphere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..spec import Field
from .grid import SphericalGrid
from .transforms import SphericalTransform

WIND_COMPONENTS = ("lon", "lat")
"""Components of vectors on a sphere: eastward, then northward."""


def resample_sphere(
    u: Float[Tensor, "*lead channel lat lon"],
    fields: Sequence[Field],
    old: SphericalGrid,
    new: SphericalGrid,
) -> Float[Tensor, "*lead channel new_lat new_lon"]:
    """Return fields on another grid of the sphere, by spherical harmonics up to what both grids analyse exactly.

    A field within that truncation is reproduced to rounding; going down drops the harmonics that the coarse grid cannot
    carry, so that nothing aliases. Vectors go through their vorticity and divergence.

    Args:
        u: channels in the order of the fields.
        fields: what the channels are.
        old: grid of ``u``.
        new: the wanted grid.

    Raises:
        ValueError: for a vector with other components than ``("lon", "lat")``, or channels that are not the fields'.
    """
    truncation = min(old.largest_truncation(), new.largest_truncation())
    source, target = (
        SphericalTransform(grid, truncation, dtype=u.dtype, device=u.device) for grid in (old, new)
    )
    sizes = [len(field.channel_names) for field in fields]
    if sum(sizes) != u.shape[-3]:
        raise ValueError(f"{u.shape[-3]} channels were given and the fields have {sum(sizes)}.")
    parts = []
    for field, part in zip(fields, u.split(sizes, dim=-3), strict=True):
        if field.kind != "vector":
            parts.append(target.synthesise(source.analyse(part)))
        elif field.components == WIND_COMPONENTS:
            parts.append(target.velocity(source.vorticity_divergence(part)))
        else:
            raise ValueError(
                f"the vector {field.name!r} has the components {field.components}; on a sphere they are "
                f"{WIND_COMPONENTS}, eastward and northward."
            )
    return torch.cat(parts, dim=-3)
