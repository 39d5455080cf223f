"""What every operator on a sphere needs beside the frame of operators on a grid: its grids, and a word about winds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..fields import DataSpec
from ..fields.spherical.grid import SphericalGrid, spherical_grid
from .notes import is_first
from .operator_frame import OperatorFrame
from .options import require_at_least

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SphericalFrame(OperatorFrame):
    """The frame of an operator on the sphere, which may work inside on coarser, Gauss-Legendre latitudes.

    Attributes:
        scale_factor: points of the data over points inside, along each axis; with 1 the operator works on the grid of
            the data itself.

    Raises:
        ValueError: as `OperatorFrame`, and for data whose latitudes follow no rule.
    """

    scale_factor: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self.model, 1, scale_factor=self.scale_factor)
        spherical_grid(self.spec, (4, 8))
        note_winds(self.model, self.spec)

    def grid(self, sizes: Sequence[int]) -> SphericalGrid:
        """Return the grid of the data."""
        return spherical_grid(self.spec, sizes)

    def inner_grid(self, sizes: Sequence[int]) -> SphericalGrid:
        """Return the grid inside."""
        grid = self.grid(sizes)
        if self.scale_factor == 1:
            return grid
        num_lat, num_lon = (max(2, -(-n // self.scale_factor)) for n in grid.shape)
        return SphericalGrid(num_lat, num_lon, "gauss-legendre", north_first=grid.north_first)


def note_winds(model: str, spec: DataSpec) -> None:
    """Say in the log, once for a model and its fields, that components of vectors are no smooth fields on a sphere."""
    winds = [field.name for field in spec.fields if field.kind == "vector"]
    if winds and is_first(model, "winds", *winds):
        logger.warning(
            "%s: %s %s given by components, which turn with the meridian and jump at the poles; the operator takes "
            "them for scalars, and errs there. Give vorticity and divergence instead, from which winds follow "
            "(pdesurrogate.fields.spherical.transforms.SphericalTransform.velocity).",
            model,
            ", ".join(winds),
            "is" if len(winds) == 1 else "are",
        )
