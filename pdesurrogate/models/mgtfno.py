"""Multi-grid domain decomposition: a model that sees the box region by region, each with coarser views around it.

Kossaifi, Kovachki, Azizzadenesheli, Anandkumar, "Multi-Grid Tensorized Fourier Neural Operator for
High-Resolution PDEs", TMLR 2024, arXiv:2310.00120. The box is cut into regions; the same operator maps

    (region with halo, the same number of points 2, 4, .. times as far apart around its centre)  ↦  region,

and the regions are stitched together. Memory is that of one region rather than of the box. In the paper the
operator is a tensorized Fourier neural operator; here it is any model that is registered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import Axis, DataSpec
from ..layers import (
    AllRegions,
    RegionGrid,
    RegionShare,
    append_coordinates,
    check_coordinates,
    num_coordinate_channels,
    recomputed,
)
from ..registry import did_you_mean
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry

PROCESSES = ("sequential", "batch")
WINDOW_BOUNDARIES = ("periodic", "open")


@MODELS.register("mgtfno")
class MultiGrid(nn.Module):
    """Any model, on the regions of a box instead of on the box.

    The levels reach the model as further frames of its history, coarsest first and the finest last, so that a
    model that looks at the last frame sees the region as it is now. Point ``j`` of two levels is not the same
    place: only their centres are, as in the paper.

    Lengths of the windows are those of the box times the regions' and the halos' share. The function is the
    same on every grid that the regions divide and on which ``halo`` is a whole number of points, as far as the
    model's own is.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        base: name of the model that works on the windows.
        base_options: its options.
        regions: regions along each axis, one number or one per axis; 1 leaves an axis whole.
        levels: coarser views of each region, of which number ``l`` covers ``2^l`` regions; at most as many as
            cover the box. The paper has ``regions = 2^levels``.
        halo: what a window sees beyond its region at both ends, as a fraction of the axis: one number for the
            axes that are cut, or one per axis. Where the model needs a multiple of n points, the halo is
            widened to it.
        low_pass: whether a level is freed of the waves that its points cannot carry, which the paper's plain
            subsampling folds onto longer ones.
        window_boundary: what the model is told about the ends of an axis that is cut, ``"periodic"`` (the
            paper's, a Fourier operator joins the ends) or ``"open"``.
        coordinates: positions in the box as further frames, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`; needed where forcing or coefficients are fixed in space.
        process: ``"sequential"``, one region at a time, whose insides are computed again in the backward pass
            (memory of one region), or ``"batch"``, all at once. It changes memory and speed only.

    Attributes:
        share: which of the regions this process computes; all of them unless somebody sets it, see
            `pdesurrogate.training.region_parallel`.

    Raises:
        ValueError: if an option is out of range, regions and levels do not fit, the base does not exist or
            refuses its options, or it is asked for positions, which would be those in the window.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        base: str = "tfno",
        base_options: Mapping[str, Any] = MappingProxyType({}),
        regions: int | Sequence[int] = 2,
        levels: int = 1,
        halo: int | float | Sequence[int | float] = 0.078125,
        low_pass: bool = False,
        window_boundary: str = "periodic",
        coordinates: str = "none",
        process: str = "sequential",
    ) -> None:
        super().__init__()
        require_geometry("mgtfno", spec, self.geometries)
        require_at_least("mgtfno", 1, history=history, horizon=horizon)
        _require_member("process", process, PROCESSES)
        _require_member("window_boundary", window_boundary, WINDOW_BOUNDARIES)
        check_coordinates(coordinates)
        self.axes = spec.axes
        self.counts = _regions_per_axis(regions, spec.axis_names)
        self.halos = _halo_per_axis(halo, self.counts, spec.axis_names)
        self.levels = _checked_levels(levels, self.counts)
        self.low_pass = low_pass
        self.coordinates = coordinates
        self.process = process
        self.share: RegionShare = AllRegions()
        self.is_cut = tuple(r > 1 or p > 0 for r, p in zip(self.counts, self.halos, strict=True))
        if any(self.is_cut) and base_options.get("coordinates", "none") != "none":
            raise ValueError(
                f"mgtfno: base_options.coordinates is {base_options['coordinates']!r}, which would be positions in a "
                "window. Give coordinates to mgtfno itself: it adds the positions in the box."
            )
        channels = num_coordinate_channels(spec.axes, coordinates)
        frames = history * (levels + 1) + math.ceil(channels / spec.num_channels)
        window_spec = spec.replace(axes=tuple(self._window_axes(window_boundary)))
        self.base = MODELS.build(base, window_spec, frames, horizon, **base_options)
        self.points = _multiple(self.base) if any(self.is_cut) else 1
        self.grids: str = self.base.grids
        self.symmetries: frozenset[str] = self.base.symmetries
        self.convergence: float | None = getattr(self.base, "convergence", None)
        if coordinates != "none" or any(self.is_cut):
            self.symmetries = frozenset()
        if any(self.is_cut) and self.grids != "fixed":
            multiple = self.points * math.lcm(*self.counts)
            self.grids = f"multiple of {multiple}" if multiple > 1 else "any"

    @property
    def num_regions(self) -> int:
        """Number of regions over all axes."""
        return math.prod(self.counts)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that the regions do not divide, or whose windows the base cannot take.

        Raises:
            ValueError: naming the axis and the nearest sizes that work, or what the base says.
        """
        require_dimension("mgtfno", [axis.name for axis in self.axes], grid)
        for axis, n, count, is_cut in zip(self.axes, grid, self.counts, self.is_cut, strict=True):
            multiple = count * self.points if is_cut else 1
            if n % multiple or n == 0:
                below = n // multiple * multiple
                nearest = " or ".join(str(m) for m in (below, below + multiple) if m)
                raise ValueError(
                    f"mgtfno cuts axis {axis.name!r} into {count} regions"
                    + (f" of a multiple of {self.points} points" if self.points > 1 else "")
                    + f" and the grid has {n} points there, not a multiple of {multiple}. Use {nearest} points, or "
                    "another number of regions."
                )
        cut = self.region_grid(grid)
        for axis, s, p in zip(self.axes, cut.region, cut.halos, strict=True):
            if p > s:
                raise ValueError(
                    f"mgtfno: on axis {axis.name!r} a region has {s} points and its halo {p}, a multiple of what "
                    "the base needs. Use a finer grid, fewer regions or no halo."
                )
        try:
            self.base.check_grid(cut.window)
        except ValueError as error:
            if not any(self.is_cut):
                raise
            size = " x ".join(map(str, cut.window))
            raise ValueError(f"mgtfno: windows have {size} points, region and halo. {error}") from error

    def region_grid(self, grid: Sequence[int]) -> RegionGrid:
        """Return the regions of a grid with the halo in points.

        Raises:
            ValueError: if the regions do not divide the grid.
        """
        step = self.points // 2 if self.points % 2 == 0 else self.points
        halos = tuple(_whole_steps(h, n, step) for h, n in zip(self.halos, grid, strict=True))
        return RegionGrid(tuple(grid), self.counts, halos, tuple(axis.boundary for axis in self.axes))

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            ValueError: if the regions do not divide the grid or the base cannot take their windows.
        """
        self.check_grid(history.shape[3:])
        if not any(self.is_cut):
            future: Tensor = self.base(self._with_positions(history), parameters)
            return future
        cut = self.region_grid(history.shape[3:])
        parameters = self.share.enter(parameters)
        views = self._views(self.share.enter(history), cut)
        own = self.share.own(cut.num_regions)
        if self.process == "batch":
            futures = self._futures(cut, own, parameters, *views)
        else:
            futures = torch.cat([self._alone(cut, region, parameters, *views) for region in own])
        return cut.stitch(self.share.leave(futures))

    def _views(self, history: Tensor, cut: RegionGrid) -> list[Tensor]:
        """Return what the windows of each level are cut from, coarsest first, the finest with the positions."""
        coarse = [cut.low_pass(history, level) if self.low_pass else history for level in self._coarse_levels]
        return [*coarse, self._with_positions(history)]

    @property
    def _coarse_levels(self) -> range:
        return range(self.levels, 0, -1)

    def _alone(self, cut: RegionGrid, region: int, parameters: Tensor, *views: Tensor) -> Tensor:
        """Return one region's future; the backward pass keeps nothing of it but what it is cut from."""
        return recomputed(self._futures, cut, range(region, region + 1), parameters, *views)

    def _futures(self, cut: RegionGrid, own: range, parameters: Tensor, *views: Tensor) -> Tensor:
        """Return the future of some regions, ``(region, batch, horizon, channel, *region)``."""
        levels = [*self._coarse_levels, 0]
        windows = torch.cat(
            [
                torch.cat([cut.cut(u, i, level) for level, u in zip(levels, views, strict=True)], dim=1)
                for i in own
            ]
        )
        futures = self.base(windows, parameters.repeat(len(own), 1))
        return cut.crop(futures).unflatten(0, (len(own), -1))

    def _with_positions(self, history: Tensor) -> Tensor:
        """Return the history after frames that hold the positions in the box, filled up with zeros."""
        batch, channels, space = history.shape[0], history.shape[2], history.shape[3:]
        if self.coordinates == "none":
            return history
        positions = append_coordinates(history.new_empty(1, 0, *space), self.axes, self.coordinates)
        missing = -positions.shape[1] % channels
        positions = torch.cat([positions, positions.new_zeros(1, missing, *space)], dim=1)
        frames = positions.unflatten(1, (-1, channels)).expand(batch, -1, -1, *space)
        return torch.cat([frames, history], dim=1)

    def _window_axes(self, boundary: Any) -> list[Axis]:
        return [
            Axis(axis.name, (1 / r + 2 * h) * axis.length, boundary, axis.units, axis.origin, axis.offset)
            if is_cut
            else axis
            for axis, r, h, is_cut in zip(self.axes, self.counts, self.halos, self.is_cut, strict=True)
        ]


def _require_member(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(
            f"mgtfno: {option} is {value!r}.{did_you_mean(str(value), allowed)} "
            f"Allowed: {', '.join(map(repr, allowed))}."
        )


def _regions_per_axis(regions: int | Sequence[int], axis_names: Sequence[str]) -> tuple[int, ...]:
    counts = (regions,) * len(axis_names) if isinstance(regions, int) else tuple(regions)
    if len(counts) != len(axis_names) or min(counts) < 1:
        raise ValueError(
            f"mgtfno: regions is {regions}; give one positive number, or {len(axis_names)} of them for the axes "
            f"{', '.join(axis_names)}."
        )
    return counts


def _halo_per_axis(
    halo: int | float | Sequence[int | float], counts: Sequence[int], axis_names: Sequence[str]
) -> tuple[float, ...]:
    halos = [halo if r > 1 else 0.0 for r in counts] if isinstance(halo, int | float) else list(halo)
    if len(halos) != len(counts) or min(halos) < 0:
        raise ValueError(
            f"mgtfno: halo is {halo}; give one fraction of the axis, 0 or more, or {len(counts)} of them for the "
            f"axes {', '.join(axis_names)}."
        )
    for name, fraction, count in zip(axis_names, halos, counts, strict=True):
        if fraction * count > 1:
            raise ValueError(
                f"mgtfno: the halo on axis {name!r} is {fraction} of the axis, larger than a region, which is "
                f"{1 / count:.3g} of it. Use at most that, or fewer regions."
            )
    return tuple(float(h) for h in halos)


def _checked_levels(levels: int, counts: Sequence[int]) -> int:
    most = max(counts).bit_length() - 1
    if not 0 <= levels <= most:
        raise ValueError(
            f"mgtfno: levels is {levels}; level l covers 2^l regions of an axis and the axes have "
            f"{', '.join(map(str, counts))}. Use 0 to {most} levels here, or more regions."
        )
    return levels


def _whole_steps(halo: float, points: int, step: int) -> int:
    """Return the multiple of ``step`` next to a fraction of an axis, one step at least, in whole numbers throughout.

    A grid whose size is not known yet, in an export, has no other arithmetic.
    """
    if halo == 0:
        return 0
    share = Fraction(halo).limit_denominator(10_000)
    steps = (2 * share.numerator * points + share.denominator * step) // (2 * share.denominator * step)
    return (steps + 1 // (1 + steps)) * step  # none becomes one, without a branch that a trace would settle


def _multiple(base: nn.Module) -> int:
    """Return the number of points of which the base needs a multiple."""
    grids = str(base.grids)
    return int(grids.removeprefix("multiple of ")) if grids.startswith("multiple of ") else 1
