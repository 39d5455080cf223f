"""A box cut into regions, and the windows through which a model sees each region and what lies around it.

Geometry only: cutting and stitching of fields in one to three dimensions, on any grid that the regions divide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import resample


@dataclass(frozen=True)
class RegionGrid:
    """Equal regions of a grid, each with a halo of its neighbours' points, and coarser windows around it.

    Along an axis of ``N`` points, ``R`` regions have ``s = N / R`` points each. The window of region ``i`` on
    level ``l`` has ``s + 2p`` points with ``c`` fine points from one to the next, at the fine points

        i s - ⌊(c - 1) s / 2⌋ - c p + c j,      j = 0 .. s + 2p - 1,      c = 2^l, at most the last power of 2 up to R.

    It covers ``c`` regions and ``c`` halos and is centred on its region: exactly in the box, whose cell ``n``
    is ``[n, n + 1) Δx``, where ``(c - 1) s`` is even, and within half a fine point otherwise. The positions in
    space then do not depend on the grid. An axis that is not cut is seen whole on every level.

    Kossaifi, Kovachki, Azizzadenesheli, Anandkumar, "Multi-Grid Tensorized Fourier Neural Operator for
    High-Resolution PDEs", TMLR 2024, arXiv:2310.00120; there ``R = 2^levels``.

    Attributes:
        grid: points ``N`` of the box along each axis.
        counts: regions ``R`` along each axis.
        halos: points ``p`` of the halo at both ends of each axis.
        boundaries: what lies beyond the ends of each axis of the box: ``"periodic"`` its other end, ``"wall"``
            its mirror image (values as they are, components of vectors too), ``"open"`` its edge value.

    Raises:
        ValueError: if the regions do not divide the grid.
    """

    grid: tuple[int, ...]
    counts: tuple[int, ...]
    halos: tuple[int, ...]
    boundaries: tuple[str, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.grid), len(self.counts), len(self.halos), len(self.boundaries)}
        if len(sizes) != 1 or any(n % r for n, r in zip(self.grid, self.counts, strict=True)):
            raise ValueError(
                f"{self.counts} regions with halos of {self.halos} points and boundaries {self.boundaries} do not "
                f"divide the grid {self.grid}: give one number per axis, and counts that divide the sizes."
            )

    @property
    def num_regions(self) -> int:
        """Number of regions over all axes."""
        return math.prod(self.counts)

    @property
    def region(self) -> tuple[int, ...]:
        """Points of a region along each axis."""
        return tuple(n // r for n, r in zip(self.grid, self.counts, strict=True))

    @property
    def window(self) -> tuple[int, ...]:
        """Points of a window along each axis: of its region and of the halo at both ends."""
        return tuple(s + 2 * p for s, p in zip(self.region, self.halos, strict=True))

    def strides(self, level: int) -> tuple[int, ...]:
        """Return the fine points from one point of a level to the next, along each axis."""
        return tuple(min(2**level, 2 ** (r.bit_length() - 1)) for r in self.counts)

    def starts(self, region: int, level: int) -> tuple[int, ...]:
        """Return the fine point at which a window begins, along each axis; it may lie outside of the box."""
        places = list(itertools.product(*(range(r) for r in self.counts)))[region]
        return tuple(
            i * s - (c - 1) * s // 2 - c * p
            for i, s, p, c in zip(places, self.region, self.halos, self.strides(level), strict=True)
        )

    def cut(
        self, u: Float[Tensor, "*lead_and_space"], region: int, level: int
    ) -> Float[Tensor, "*lead_and_window"]:
        """Return the window of a region on a level, by plain subsampling."""
        starts, strides = self.starts(region, level), self.strides(level)
        for k, (start, stride, points) in enumerate(zip(starts, strides, self.window, strict=True)):
            place = start + stride * torch.arange(points, device=u.device)
            dim = k - len(self.grid)
            u = u.index_select(dim, _inside(place, self.grid[k], self.boundaries[k]))
        return u

    def crop(self, u: Float[Tensor, "*lead_and_window"]) -> Float[Tensor, "*lead_and_region"]:
        """Return a window of the finest level without its halo: the region."""
        for k, (s, p) in enumerate(zip(self.region, self.halos, strict=True)):
            u = u.narrow(k - len(self.grid), p, s)
        return u

    def stitch(self, u: Float[Tensor, "region *lead_and_space"]) -> Float[Tensor, "*lead_and_box"]:
        """Return the field on the box from its regions in order."""
        ndim = len(self.grid)
        lead = u.ndim - 1 - ndim
        u = u.unflatten(0, self.counts)
        pairs = [dim for k in range(ndim) for dim in (k, ndim + lead + k)]
        u = u.permute(*range(ndim, ndim + lead), *pairs)
        return u.reshape(*u.shape[:lead], *self.grid)

    def low_pass(
        self, u: Float[Tensor, "*lead_and_space"], level: int
    ) -> Float[Tensor, "*lead_and_same_space"]:
        """Return the field without the waves that a level's points cannot carry, on the grid that it has.

        Exact by Fourier series on periodic axes, by cosine series (those of the mirror image) on others.
        """
        for k, stride in enumerate(self.strides(level)):
            if stride > 1:
                u = _low_pass_axis(u, k - len(self.grid), stride, self.boundaries[k] == "periodic")
        return u


def split_regions(
    u: Float[Tensor, "batch *lead_and_space"], counts: Sequence[int]
) -> Float[Tensor, "batch_and_region *lead_and_part"]:
    """Return the regions of every sample as samples of their own, without halo.

    Raises:
        ValueError: if the regions do not divide the grid.
    """
    ndim = len(counts)
    boxes = RegionGrid(tuple(u.shape[-ndim:]), tuple(counts), (0,) * ndim, ("periodic",) * ndim)
    return torch.stack([boxes.cut(u, i, 0) for i in range(boxes.num_regions)], dim=1).flatten(0, 1)


def _inside(place: Tensor, size: int, boundary: str) -> Tensor:
    """Return the points of the box that stand for points anywhere on the axis."""
    points = torch.full_like(place, size)  # exported programs know the size as a tensor alone
    if boundary == "periodic":
        return place.remainder(points)
    if boundary == "wall":
        image = place.remainder(2 * points)
        return torch.minimum(image, 2 * points - 1 - image)
    return torch.minimum(place.clamp_min(0), points - 1)


def _low_pass_axis(u: Tensor, dim: int, stride: int, periodic: bool) -> Tensor:
    size = u.shape[dim]
    u = u.movedim(dim, -1)
    extended = u if periodic else torch.cat([u, u.flip(-1)], dim=-1)
    coarse = resample(extended, [max(1, extended.shape[-1] // stride)])
    return resample(coarse, [extended.shape[-1]])[..., :size].movedim(-1, dim)
