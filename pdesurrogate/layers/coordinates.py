"""Positions as channels: how an operator can know where it is.

Without them an operator on a periodic box commutes with shifts, which is right for an equation whose
coefficients and forcing are the same everywhere. A forcing that is fixed in space breaks this symmetry: from
a single frame such an operator can then not know the forcing, whatever its size.

On a sphere the rotation of the planet tells latitudes apart, and orography all points. Positions are then functions
that are smooth at the poles: the sine of the latitude, or the three coordinates of the point in space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Axis
from ..registry import did_you_mean

COORDINATES = ("none", "linear", "periodic", "symmetric")
SPHERICAL_COORDINATES = ("none", "latitude", "position")


def check_coordinates(kind: str, geometry: str = "plane") -> None:
    """Refuse a kind of coordinates that does not exist on a geometry.

    Raises:
        ValueError: with the nearest name and all names.
    """
    allowed = SPHERICAL_COORDINATES if geometry == "sphere" else COORDINATES
    if kind not in allowed:
        where = " on a sphere" if geometry == "sphere" else ""
        raise ValueError(
            f"coordinates is {kind!r}.{did_you_mean(str(kind), allowed)} Allowed{where}: {', '.join(allowed)}."
        )


def num_coordinate_channels(axes: Sequence[Axis], kind: str) -> int:
    """Return how many channels `append_coordinates` adds."""
    if kind in SPHERICAL_COORDINATES:
        return {"none": 0, "latitude": 1, "position": 3}[kind]
    if kind == "symmetric":
        return max(1, len(axes) - 1)
    return sum(2 if kind == "periodic" and axis.boundary == "periodic" else 1 for axis in axes)


def append_coordinates(
    u: Float[Tensor, "batch channel *space"], axes: Sequence[Axis], kind: str
) -> Float[Tensor, "batch more_channels *space"]:
    """Return ``u`` with the position ``s`` in [0, 1) along each axis as further channels.

    ``"linear"`` gives ``s``, as neuraloperator's grid embedding does; on a periodic axis it jumps at the end
    of the box. ``"periodic"`` gives ``cos 2πs, sin 2πs`` there, which has no jump and is the same function on
    every grid, and ``s`` on the other axes. ``"none"`` adds nothing. ``"symmetric"`` gives what rotations and
    reflections of the last two axes about the centre of the box leave alone, the squared distance ``Σ (s - 1/2)²``
    along these (Helwig et al. 2023, section 5), and ``s`` on axes before them.

    On a sphere, ``"latitude"`` gives ``sin φ`` and ``"position"`` gives ``cos φ cos λ, cos φ sin λ, sin φ``.
    """
    if kind == "none":
        return u
    if kind in SPHERICAL_COORDINATES:
        return torch.cat([u, *_on_sphere(u, axes, kind)], dim=1)
    space = u.shape[2:]
    channels, centred = [u], []
    for dim, (axis, size) in enumerate(zip(axes, space, strict=True)):
        if axis.nodes is None and not axis.is_descending:
            s = (torch.arange(size, dtype=u.dtype, device=u.device) + axis.offset) / size
        else:
            s = torch.as_tensor(
                (axis.coordinates(size) - axis.origin) / axis.length, dtype=u.dtype, device=u.device
            )
        s = s.view(-1, *[1] * (len(space) - 1 - dim))
        if kind == "symmetric" and dim >= len(space) - 2:
            centred.append((s - 0.5).square())
            continue
        smooth = kind == "periodic" and axis.boundary == "periodic"
        angle = 2 * math.pi * s
        for values in (angle.cos(), angle.sin()) if smooth else (s,):
            channels.append(values.expand(u.shape[0], 1, *space))
    if centred:
        channels.append(torch.stack([c.expand(space) for c in centred]).sum(0).expand(u.shape[0], 1, *space))
    return torch.cat(channels, dim=1)


def _on_sphere(u: Tensor, axes: Sequence[Axis], kind: str) -> list[Tensor]:
    latitude, longitude = (
        torch.as_tensor(np.deg2rad(axis.coordinates(size)))
        for axis, size in zip(axes, u.shape[2:], strict=True)
    )
    up = latitude.sin()[:, None].expand(u.shape[2:])
    functions = [up]
    if kind == "position":
        outward = latitude.cos()[:, None]
        functions = [outward * longitude.cos(), outward * longitude.sin(), up]
    return [f.to(u).expand(u.shape[0], 1, *u.shape[2:]) for f in functions]
