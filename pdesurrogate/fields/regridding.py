"""Fields on other grids of the same box, at the points where the axes of the data say that values are.

- **Waves** (`on_other_grid`): the sum of waves, on a sphere of spherical harmonics, that both grids carry.
- **Points** (`kept_points`): every k-th value, where such a point is one of the coarse grid.
- **Cells** (`regrid_cells`): means over cells going down, so that sums over the box stay, interpolation going up. A
  component of a vector that lives on the lower faces of cells is interpolated linearly between faces along its own
  axis, which leaves a velocity without divergence without divergence (Raviart and Thomas 1977, lowest order).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .fourier import resample
from .spec import DataSpec
from .spherical.grid import spherical_grid
from .spherical.resampling import resample_sphere


def regrid(
    u: Float[Tensor, "*lead channel *space"], spec: DataSpec, grid: Sequence[int], method: str
) -> Float[Tensor, "*lead channel *grid"]:
    """Return fields on another grid by one of the methods of the module; ``"native"`` leaves them alone.

    Args:
        u: fields of the spec, the axes of space last and the channels before them.
        spec: says where points and components lie.
        grid: the wanted size of each axis.
        method: see `pdesurrogate.data.views.Regridded`.

    Raises:
        ValueError: if the method is none, or is ``"stride"`` and points of the grid are not among those of ``u``.
    """
    if method == "native":
        return u
    if method == "spectral":
        return on_other_grid(u, spec, grid)
    if method == "cells":
        return _on_cells(u, spec, grid)
    if method != "stride":
        raise ValueError(f"the method of regridding is {method!r}; allowed: native, stride, cells, spectral.")
    return _by_place(u, spec, lambda part, leads: _points(part, grid, leads))


def kept_points(lead: float, old: int, new: int) -> slice | None:
    """Return which of ``old`` points of an axis are those of ``new``; None if they are not among them.

    Point j of the coarse axis lies at ``(j + lead) · r`` fine spacings from the axis's end, point i of the fine one at
    ``i + lead``: all are shared if ``r = old / new`` and ``lead · (r - 1)`` are whole.
    """
    first = lead * (old // new - 1)
    if old % new or not float(first).is_integer():
        return None
    return slice(int(first), None, old // new)


def on_other_grid(
    u: Float[Tensor, "*lead channel *space"], spec: DataSpec, grid: Sequence[int]
) -> Float[Tensor, "*lead channel *grid"]:
    """Return fields on another grid, by the waves or the spherical harmonics that it carries."""
    if spec.geometry == "sphere":
        old, new = (spherical_grid(spec, sizes) for sizes in (u.shape[-2:], tuple(grid)))
        return resample_sphere(u, spec.fields, old, new)
    return _by_place(u, spec, lambda part, leads: resample(part, grid, leads))


def can_resample(spec: DataSpec) -> bool:
    """Return whether fields can be taken to other grids without error: on periodic boxes, and on spheres of a rule."""
    return spec.is_periodic or (spec.geometry == "sphere" and spec.axes[0].nodes is not None)


def regrid_cells(
    u: Float[Tensor, "*lead_and_space"], grid: Sequence[int], periodic: Sequence[bool] | None = None
) -> Float[Tensor, "*lead_and_grid"]:
    """Return means over cells on another grid.

    Args:
        u: on cells, the last axes are those of space.
        grid: the wanted number of cells along each of them.
        periodic: which of them close on themselves; None for none. Going up, values are interpolated across the ends of
            those, and are constant beyond the outermost centres of the others.
    """
    wraps = periodic or [False] * len(grid)
    for axis, (size, wrap) in enumerate(zip(grid, wraps, strict=True)):
        dim = axis - len(grid)
        u = _along(u, dim, cell_matrix(u.shape[dim], size, periodic=wrap))
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


def cell_matrix(old: int, new: int, periodic: bool = False) -> Float64[Tensor, "new old"]:
    """Return what takes means over ``old`` even cells of a line to means over ``new``, or values at centres."""
    if new <= old:
        edges = torch.arange(new + 1, dtype=torch.float64) * old / new
        lower = torch.arange(old, dtype=torch.float64)
        overlap = torch.minimum(edges[1:, None], lower + 1) - torch.maximum(edges[:-1, None], lower)
        return overlap.clamp_min(0.0) * new / old
    places = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    if not periodic:
        return _between(places.clamp(0, old - 1), old)
    around = _between(places + 1, old + 2)  # with one cell more at each end, which is that of the other end
    inner = around[:, 1:-1].clone()
    inner[:, -1] += around[:, 0]
    inner[:, 0] += around[:, -1]
    return inner


def face_matrix(old: int, new: int) -> Float64[Tensor, "new faces"]:
    """Return what takes values on ``old + 1`` even faces of a line to the lower faces of ``new`` cells."""
    return _between(torch.arange(new, dtype=torch.float64) * old / new, old + 1)


def _by_place(u: Tensor, spec: DataSpec, on_grid: Callable[[Tensor, list[float]], Tensor]) -> Tensor:
    """Return fields on another grid, given what takes fields there whose first points have the given leads.

    Points of a component on faces have the lead of faces along its own axis: none, or a whole spacing where the axis
    descends.
    """
    if not any(spec.face_axes):
        return on_grid(u, [axis.lead for axis in spec.axes])
    channels = [
        on_grid(part, [float(a.is_descending) if a.name == own else a.lead for a in spec.axes])
        for own, part in zip(spec.face_axes, u.unbind(-spec.ndim - 1), strict=True)
    ]
    return torch.stack(channels, -spec.ndim - 1)


def _points(u: Tensor, grid: Sequence[int], leads: Sequence[float]) -> Tensor:
    sizes = u.shape[-len(grid) :]
    points = [kept_points(lead, old, new) for lead, old, new in zip(leads, sizes, grid, strict=True)]
    if None in points:
        raise ValueError(f"points of the grid {tuple(grid)} are not among those of {tuple(sizes)}.")
    return u[(..., *points)]


def _on_cells(u: Tensor, spec: DataSpec, grid: Sequence[int]) -> Tensor:
    """Return means over coarser cells; components on lower faces are interpolated along their own axes."""
    channel_dim = -spec.ndim - 1
    for number, (axis, size) in enumerate(zip(spec.axes, grid, strict=True)):
        dim, old = number - spec.ndim, u.shape[number - spec.ndim]
        if size == old:
            continue
        means = _along(u, dim, cell_matrix(old, size, periodic=axis.boundary == "periodic"))
        on_faces = [channel for channel, name in enumerate(spec.face_axes) if name == axis.name]
        if on_faces:
            between = face_matrix(old, size)[:, :old]  # no lower face of a coarser cell is the last one
            place = torch.tensor(on_faces, device=u.device)
            faces = u.index_select(channel_dim, place)
            faces = _along(faces, dim, between.flip((0, 1)) if axis.is_descending else between)
            means = means.index_copy(channel_dim % u.ndim, place, faces)
        u = means
    return u


def _between(places: Float64[Tensor, " new"], count: int) -> Float64[Tensor, "new old"]:
    """Return the weights of linear interpolation between points 0 to ``count - 1``."""
    return (1 - (places[:, None] - torch.arange(count, dtype=torch.float64)).abs()).clamp_min(0.0)


def _along(u: Tensor, dim: int, matrix: Tensor) -> Tensor:
    return (u.movedim(dim, -1).double() @ matrix.T.to(u.device)).to(u.dtype).movedim(-1, dim)
