"""Fields continued beyond the ends of their axes, so that every point has neighbours; layout ``(batch, N_d, .., C)``.

A periodic axis is continued by its other end. At a wall the field is mirrored, ``u(-x) = u(x)``, the wall lying half a
spacing beyond the outer points, which is a Neumann condition; for one point it repeats the edge. An open axis is
continued by its edge value, because nothing is known beyond it. ``"zero"`` is no boundary of a domain but what
gradients of continued fields are continued by.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def extend(
    u: Float[Tensor, "batch *layout channel"], widths: Sequence[int], boundaries: Sequence[str]
) -> Float[Tensor, "batch *padded channel"]:
    """Return the field with ``widths`` more points at both ends of each axis, by ordinary operations.

    Args:
        u: a field.
        widths: numbers of points, per axis in the order of the layout.
        boundaries: per axis in the order of the layout.
    """
    for dim, (width, boundary) in enumerate(zip(widths, boundaries, strict=True), start=1):
        if width:
            before, after = _beyond(u, dim, width, boundary, 0, u.shape[dim])
            u = torch.cat([before, u, after], dim)
    return u


def extend_into(
    padded: Float[Tensor, "batch *padded channel"], widths: Sequence[int], boundaries: Sequence[str]
) -> None:
    """Fill the ends of a field whose `interior` is there already; in place, and without gradients."""
    for dim, (width, boundary) in enumerate(zip(widths, boundaries, strict=True), start=1):
        if width:
            # The ends of axes that come later are still empty and need not be copied.
            u = padded
            for later in range(dim + 1, padded.ndim - 1):
                u = u.narrow(later, widths[later - 1], u.shape[later] - 2 * widths[later - 1])
            size = u.shape[dim] - 2 * width
            before, after = _beyond(u, dim, width, boundary, width, size)
            u.narrow(dim, 0, width).copy_(before)
            u.narrow(dim, width + size, width).copy_(after)


def interior(
    padded: Float[Tensor, "batch *padded channel"], widths: Sequence[int]
) -> Float[Tensor, "batch *layout channel"]:
    """Return the view of a continued field without what was added."""
    for dim, width in enumerate(widths, start=1):
        padded = padded.narrow(dim, width, padded.shape[dim] - 2 * width)
    return padded


def fold(
    gradient: Float[Tensor, "batch *padded channel"], widths: Sequence[int], boundaries: Sequence[str]
) -> Float[Tensor, "batch *layout channel"]:
    """Return the gradient of a field from that of its continuation; uses up what is given."""
    for dim, (width, boundary) in reversed(list(enumerate(zip(widths, boundaries, strict=True), start=1))):
        if not width:
            continue
        size = gradient.shape[dim] - 2 * width
        before, after = gradient.narrow(dim, 0, width), gradient.narrow(dim, width + size, width)
        gradient = gradient.narrow(dim, width, size)
        if boundary == "periodic":
            gradient.narrow(dim, size - width, width).add_(before)
            gradient.narrow(dim, 0, width).add_(after)
        elif boundary == "wall":
            gradient.narrow(dim, 0, width).add_(before.flip(dim))
            gradient.narrow(dim, size - width, width).add_(after.flip(dim))
        elif boundary == "open":
            gradient.narrow(dim, 0, 1).add_(before.sum(dim, keepdim=True))
            gradient.narrow(dim, size - 1, 1).add_(after.sum(dim, keepdim=True))
    return gradient


def _beyond(u: Tensor, dim: int, width: int, boundary: str, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Return what continues the points ``start .. start + size - 1`` of an axis on its two sides."""
    first, last = u.narrow(dim, start, width), u.narrow(dim, start + size - width, width)
    if boundary == "periodic":
        return last, first
    if boundary == "wall":
        return first.flip(dim), last.flip(dim)
    if boundary == "open":
        edges = u.narrow(dim, start, 1), u.narrow(dim, start + size - 1, 1)
        return edges[0].expand_as(first), edges[1].expand_as(last)
    return torch.zeros_like(first), torch.zeros_like(last)
