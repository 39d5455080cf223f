"""Functions of a basis sampled on a grid: the filters of a discrete-continuous convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from ..fields.fourier import layout_order
from .filter_bank import FilterBank
from .filter_basis import FilterBasis

FAINTEST = 1e-2
"""A function that nowhere on the grid reaches this share of its size, about 1, is not seen by the grid."""


def integral_filters(basis: FilterBasis, radius: float, spacings: tuple[float, ...]) -> FilterBank:
    """Return ``q ψ_l(x_j)`` on a grid of the given spacings, each with ``Σ_j q |ψ_l(x_j)| = 1``.

    On a uniform grid all quadrature weights ``q`` are the volume of a cell, which the norm divides out again. No
    filter reaches beyond the radius. Boxes of filters are odd, so that no field changes its size.

    Args:
        basis: functions of as many dimensions as there are spacings.
        radius: cutoff in the units of the spacings.
        spacings: in space order.

    Raises:
        ValueError: if the radius reaches no neighbour along an axis, a function of the basis vanishes on the grid, or a
            program is traced for grids of any size: how many taps there are depends on the grid.
    """
    if not torch.compiler.is_compiling():
        return _cached_filters(basis, radius, spacings)
    if not all(isinstance(h, float) for h in spacings):
        raise ValueError(
            "an integral kernel has more taps on a finer grid, which no program exported for grids of any size can "
            "hold. Export it for one grid: leave the sizes of space out of dynamic_shapes."
        )
    return _sample(basis, radius, spacings)


@lru_cache(maxsize=64)
def _cached_filters(basis: FilterBasis, radius: float, spacings: tuple[float, ...]) -> FilterBank:
    with torch.inference_mode(False):  # gradients flow through them later
        return _sample(basis, radius, spacings)


def _sample(basis: FilterBasis, radius: float, spacings: tuple[float, ...]) -> FilterBank:
    if radius <= max(spacings) * (1 + 1e-9):
        raise ValueError(
            f"an integral kernel of radius {radius:g} does not reach the next point of a grid of spacings "
            f"{_listed(spacings)}: it would be a pointwise layer. Give a radius above {max(spacings):g}, two to four "
            "spacings of the coarsest grid, or a finer grid."
        )
    # In a traced program the filters are part of it, and runtimes of such programs lack functions in float64.
    dtype = torch.float32 if torch.compiler.is_compiling() else torch.float64
    axes = [torch.arange(-reach, reach + 1, dtype=dtype) * h for reach, h in _reaches(radius, spacings)]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij")) / radius
    samples = basis.values(offsets)
    # A program that is being traced has no numbers to look at.
    unseen = 0 if torch.compiler.is_compiling() else int((samples.flatten(1).abs().amax(1) < FAINTEST).sum())
    if unseen:
        raise ValueError(
            f"{unseen} of the {basis.size} functions of the basis vanish at every point of a grid of spacings "
            f"{_listed(spacings)} within the radius {radius:g}: their weights would be dead. Give a larger radius, "
            "fewer functions (basis_shape), or a finer grid."
        )
    weights = math.prod(spacings)
    totals = (weights * samples.flatten(1).abs()).sum(1)
    filters = weights * samples / totals.view(-1, *[1] * len(spacings))
    return FilterBank(filters.permute(0, *(1 + axis for axis in layout_order(len(spacings)))).contiguous())


def _reaches(radius: float, spacings: Sequence[float]) -> list[tuple[int, float]]:
    """Return how many points lie within the radius along each axis; on it all functions vanish, up to rounding."""
    return [(math.ceil(radius / h * (1 - 1e-9)) - 1, h) for h in spacings]


def _listed(spacings: Sequence[float]) -> str:
    return ", ".join(f"{h:g}" for h in spacings)
