"""Semi-Lagrangian transport on a staggered box: every point takes the value at its departure point.

A departure point is given by its displacement, in cells along each axis, from the point that it belongs to. Positions
never become one number, so that fluid at rest keeps every bit of what it holds, and float32 has as many digits far
from the origin as near it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .staggered import Faces, StaggeredBox

CLEAR = 1e-30
"""Density up to which air is clear: negative values end here, and numbers too small to be fast on a CPU."""

Displacement = list[Float[Tensor, "batch ..."]]


@dataclass(frozen=True)
class Displacements:
    """Where fluid comes from: of cell centres, and of the faces of each axis."""

    centres: Displacement
    faces: list[Displacement]


def depart(box: StaggeredBox, faces: Faces, dt: float, *, midpoint: bool) -> Displacements:
    """Return displacements of fluid that arrives after a time ``dt`` in a steady velocity.

    Euler's rule, ``-dt v(x)``, is what PhiFlow calls semi-Lagrangian. The midpoint rule ``-dt v(x - dt v(x)/2)`` is of
    second order in time.
    """
    centred = [0.5 * (v.narrow(k + 1, 0, n) + v.narrow(k + 1, 1, n)) for k, (v, n) in _sized(box, faces)]
    scales = [-dt / spacing for spacing in box.spacings]
    moves = [scale * v for scale, v in zip(scales, centred, strict=True)]
    of_faces = [
        [scales[k] * faces[k] if k == axis else _to_faces(moves[k], axis) for k in range(box.ndim)]
        for axis in range(box.ndim)
    ]
    if not midpoint:
        return Displacements(moves, of_faces)
    half = [0.5 * move for move in moves]
    later = []
    for k, scale in enumerate(scales):
        # The component's own faces lie half a cell to either side of centres.
        towards = [move + 0.5 if axis == k else move for axis, move in enumerate(half)]
        later.append(scale * sample_component(box, faces[k], k, towards) - moves[k])
    return Displacements(
        [move + change for move, change in zip(moves, later, strict=True)],
        [
            [move + _to_faces(change, axis) for move, change in zip(of_faces[axis], later, strict=True)]
            for axis in range(box.ndim)
        ],
    )


def sample_scalar(
    box: StaggeredBox,
    density: Float[Tensor, "batch *cells"],
    displacement: Displacement,
    *,
    cubic: bool = False,
    inflow: tuple[Float[Tensor, "#batch *layer"], Float[Tensor, "#batch *layer"]] | None = None,
) -> Float[Tensor, "batch *cells"]:
    """Return a scalar at departure points.

    Walls are mirrors. What enters through an open top has none of it; what enters
    at the bottom has the ``inflow``'s. Cubic interpolation is limited, and never negative.

    Args:
        box: where.
        density: at centres.
        displacement: of centres.
        cubic: tensor products of Lagrange's cubics instead of linear interpolation.
        inflow: ``(share, value)`` of what lies below the bottom: its share of each column's area, and its value.
    """
    width = 2 if cubic else 1
    padded, bounds = density, []
    for axis, n in enumerate(box.grid):
        padded = _end_layers(box, box.pad(padded, None, axis, width), axis, width, inflow)
        low = width - (1.0 if axis == 0 and inflow is not None else 0.5)
        high = n - 1 + width + (1.0 if box.is_open(axis, 1) else 0.5)
        bounds.append((low, high))
    result = interpolate(padded, displacement, [width] * box.ndim, bounds, cubic=cubic, limited=True)
    return torch.where(result <= CLEAR, 0.0, result)  # keeps NaN, which is told later


def sample_component(
    box: StaggeredBox,
    component: Float[Tensor, "batch *faces"],
    axis: int,
    displacement: Displacement,
    *,
    cubic: bool = False,
) -> Float[Tensor, "batch *points"]:
    """Return the velocity component along ``axis`` at points displaced from its faces, within the walls."""
    width = 2 if cubic else 1
    padded, margins, bounds = component, [], []
    for other, n in enumerate(box.grid):
        if other == axis:
            margin = 1 if cubic else 0
            padded = box.pad(padded, axis, other, 1) if cubic else padded
            bounds.append((float(margin), float(n + margin)))
        else:
            margin = width
            padded = box.pad(padded, axis, other, width)
            beyond = 1.0 if box.slip == 0 else 0.5  # where PhiFlow has its walls
            bounds.append((margin - beyond, n - 1 + margin + beyond))
        margins.append(margin)
    return interpolate(padded, displacement, margins, bounds, cubic=cubic)


def interpolate(
    values: Float[Tensor, "batch *padded"],
    displacement: Displacement,
    margins: Sequence[int],
    bounds: Sequence[tuple[float, float]],
    *,
    cubic: bool = False,
    limited: bool = False,
) -> Float[Tensor, "batch *points"]:
    """Return values between lattice points.

    Args:
        values: on a lattice that reaches beyond the points, by two layers at least if ``cubic`` (one at its own walls).
        displacement: of each point ``j`` from the lattice point ``j + margin``, in lattice spacings along each axis.
        margins: by axis.
        bounds: lowest and highest position on the lattice; points further out are moved there.
        cubic: cubic Lagrange interpolation in each direction, or linear.
        limited: whether cubics are kept from inventing extrema: in each direction they stay between the two nearest
            values, except where the curvatures at both have the same sign, as they have at a smooth extremum; there
            the interpolant's own is at most twice the smaller one.
    """
    shape, sizes = displacement[0].shape, values.shape[1:]
    first = 1 if cubic else 0  # lattice points before the one below
    index, fractions = torch.zeros((), dtype=torch.int64, device=values.device), []
    for axis, (move, margin, (low, high)) in enumerate(zip(displacement, margins, bounds, strict=True)):
        points = torch.arange(shape[axis + 1], dtype=values.dtype, device=values.device) + margin
        points = points.view(-1, *[1] * (len(sizes) - 1 - axis))
        within = torch.clamp(move, min=low - points, max=high - points)
        cell = torch.clamp(within.floor(), min=first - points, max=sizes[axis] - 2 - first - points)
        fractions.append((within - cell).flatten(1))
        index = index * sizes[axis] + (cell + points).long()
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    below = index.flatten(1).clamp(0, math.prod(sizes) - 1)  # a state that is not finite is told later
    flat = values.flatten(1)
    if not cubic:
        return _linear(flat, below, fractions, strides).view(shape)
    start = (below - sum(strides)).clamp_min(0)
    if limited:
        return _limited(flat, start, fractions, strides).view(shape)
    return _weighted(flat, start, [_cubic_weights(f) for f in fractions], strides).view(shape)


def _sized(box: StaggeredBox, faces: Faces) -> list[tuple[int, tuple[Tensor, int]]]:
    return list(enumerate(zip(faces, box.grid, strict=True)))


def _to_faces(centred: Tensor, axis: int) -> Tensor:
    """Return means of neighbouring cells on the faces between them, and the cells' own values on the outer faces."""
    dim, n = axis + 1, centred.shape[axis + 1]
    inner = 0.5 * (centred.narrow(dim, 0, n - 1) + centred.narrow(dim, 1, n - 1))
    return torch.cat([centred.narrow(dim, 0, 1), inner, centred.narrow(dim, n - 1, 1)], dim)


def _end_layers(
    box: StaggeredBox, padded: Tensor, axis: int, width: int, inflow: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Set the layers beyond an open top and below the bottom's inflow."""
    if axis == 0 and box.top == "open":
        padded[:, -width:] = 0.0
    if axis == 0 and inflow is not None:
        share, value = (part[:, None] for part in inflow)
        padded[:, :width] = torch.lerp(padded[:, :width], value.expand_as(padded[:, :width]), share)
    return padded


def _linear(
    flat: Tensor, index: Tensor, fractions: Sequence[Tensor], strides: Sequence[int], offset: int = 0
) -> Tensor:
    if not strides:
        return flat[:, offset:].gather(1, index)
    lower = _linear(flat, index, fractions[1:], strides[1:], offset)
    return torch.lerp(
        lower, _linear(flat, index, fractions[1:], strides[1:], offset + strides[0]), fractions[0]
    )


def _weighted(
    flat: Tensor, index: Tensor, weights: Sequence[list[Tensor]], strides: Sequence[int], offset: int = 0
) -> Tensor:
    if not strides:
        return flat[:, offset:].gather(1, index)
    total = torch.zeros_like(weights[0][0])
    for step, weight in enumerate(weights[0]):
        part = _weighted(flat, index, weights[1:], strides[1:], offset + step * strides[0])
        total = torch.addcmul(total, weight, part)
    return total


def _cubic_weights(f: Tensor) -> list[Tensor]:
    """Return Lagrange's weights of the points -1, 0, 1, 2 at ``0 <= f <= 1``."""
    before, after = f * (f - 1), (f + 1) * (f - 2)
    return [-before * (f - 2) / 6, after * (f - 1) / 2, -after * f / 2, before * (f + 1) / 6]


def _limited(
    flat: Tensor, index: Tensor, fractions: Sequence[Tensor], strides: Sequence[int], offset: int = 0
) -> Tensor:
    """Return the line between the two nearest values and what its curvature adds: Lagrange's cubic, or less of it.

    One axis after the other, from the last to the first: where the limiter acts, an exchange of axes is no exact
        symmetry.
    """
    if not strides:
        return flat[:, offset:].gather(1, index)
    before, below, above, after = (
        _limited(flat, index, fractions[1:], strides[1:], offset + step * strides[0]) for step in range(4)
    )
    f = fractions[0]
    bend_below, bend_above = before + above - 2 * below, below + after - 2 * above
    bend = torch.lerp(2 * bend_below + bend_above, bend_below + 2 * bend_above, f) / 3
    line = torch.lerp(below, above, f)
    most = 2 * torch.minimum(bend_below.abs(), bend_above.abs())
    is_smooth = bend_below * bend_above > 0
    curved = line + 0.5 * f * (f - 1) * torch.where(is_smooth, bend.clamp(-most, most), bend)
    between = torch.clamp(curved, torch.minimum(below, above), torch.maximum(below, above))
    return torch.where(is_smooth, curved, between)
