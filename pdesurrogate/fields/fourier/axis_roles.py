"""What each axis of a box is in a truncated transform: between walls, the half axis, or a full axis.

An axis is periodic, with waves ``exp(2πi k x / L)``, or lies between two walls, with cosines ``cos(πk x / L)`` at
cell centres (see `cosine`). A real field has real cosine amplitudes; the first periodic axis that is transformed
makes them complex, and being a transform of real numbers it needs only half of its modes. Transforms take the
axes in the order of the layout, ``(d, 1, .., d-1)``: the half axis is the last one if that is periodic, otherwise
the first periodic one. A box with walls on all axes has no half axis and real spectra.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Role = Literal["wall", "half", "full"]
BOUNDARIES = ("periodic", "wall")


def layout_order(ndim: int) -> tuple[int, ...]:
    """Return the space axes, counted from 0, in the order ``(d, 1, .., d-1)`` of the layout."""
    return (ndim - 1, *range(ndim - 1))


def axis_roles(boundaries: Sequence[str]) -> tuple[Role, ...]:
    """Return the role of every axis, in space order.

    Raises:
        ValueError: for a boundary that has no waves or cosines of its own.
    """
    unknown = sorted(set(boundaries) - set(BOUNDARIES))
    if unknown:
        raise ValueError(
            f"boundaries {tuple(boundaries)} of a truncated transform may be {' and '.join(BOUNDARIES)}; there is "
            f"none for {', '.join(map(repr, unknown))}. Pad such an axis and treat it as periodic."
        )
    periodic = [axis for axis in layout_order(len(boundaries)) if boundaries[axis] == "periodic"]
    half = periodic[0] if periodic else None
    return tuple(
        "wall" if boundary == "wall" else "half" if axis == half else "full"
        for axis, boundary in enumerate(boundaries)
    )


def periodic_box(ndim: int) -> tuple[str, ...]:
    """Return the boundaries of a box that is periodic along all axes."""
    return ("periodic",) * ndim


def has_real_spectra(boundaries: Sequence[str]) -> bool:
    """Whether all axes lie between walls."""
    return "periodic" not in boundaries
