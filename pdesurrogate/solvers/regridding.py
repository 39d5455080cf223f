"""States of finite-volume and staggered solvers on other grids: means over cells going down, interpolation going up.

Going down, a coarse cell holds the mean of the fine ones that it covers, in part or whole, so that sums over the box
stay. Going up, values are interpolated linearly between the centres of cells and held constant beyond the outermost.
A component of velocity lies on the faces of its own axis: along it values are interpolated linearly between faces,
which leaves a velocity without divergence without divergence (Raviart and Thomas 1977, lowest order).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor


def regrid_cells(u: Float[Tensor, "*lead_and_space"], grid: Sequence[int]) -> Float[Tensor, "*lead_and_grid"]:
    """Return means over cells on another grid.

    Args:
        u: on cells, the last axes are those of space.
        grid: the wanted number of cells along each of them.
    """
    for axis, size in enumerate(grid):
        u = _along(u, axis - len(grid), cell_matrix(u.shape[axis - len(grid)], size))
    return u


def regrid_faces(
    u: Float[Tensor, "*lead_and_faces"], grid: Sequence[int], own: int
) -> Float[Tensor, "*lead_and_grid"]:
    """Return a component of velocity on the lower faces of another grid's cells.

    Args:
        u: on all faces along its own axis, one more than there are cells, and on cells along the others.
        grid: the wanted number of cells along each axis.
        own: number of its own axis, from 0.
    """
    for axis, size in enumerate(grid):
        dim = axis - len(grid)
        count = u.shape[dim]
        u = _along(u, dim, face_matrix(count - 1, size) if axis == own else cell_matrix(count, size))
    return u


def cell_matrix(old: int, new: int) -> Float64[Tensor, "new old"]:
    """Return what takes means over ``old`` even cells of a line to means over ``new``, or values at centres."""
    if new <= old:
        edges = torch.arange(new + 1, dtype=torch.float64) * old / new
        lower = torch.arange(old, dtype=torch.float64)
        overlap = torch.minimum(edges[1:, None], lower + 1) - torch.maximum(edges[:-1, None], lower)
        return overlap.clamp_min(0.0) * new / old
    places = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    return _between(places.clamp(0, old - 1), old)


def face_matrix(old: int, new: int) -> Float64[Tensor, "new faces"]:
    """Return what takes values on ``old + 1`` even faces of a line to the lower faces of ``new`` cells."""
    return _between(torch.arange(new, dtype=torch.float64) * old / new, old + 1)


def _between(places: Float64[Tensor, " new"], count: int) -> Float64[Tensor, "new old"]:
    """Return the weights of linear interpolation between points 0 to ``count - 1``."""
    return (1 - (places[:, None] - torch.arange(count, dtype=torch.float64)).abs()).clamp_min(0.0)


def _along(u: Tensor, dim: int, matrix: Tensor) -> Tensor:
    return (u.movedim(dim, -1).double() @ matrix.T.to(u.device)).to(u.dtype).movedim(-1, dim)
