"""Ensembles of radial dam breaks: discs of deep water collapse into shallow water at rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pdesurrogate.fields import DataSpec
from pdesurrogate.fields.spec import Boundary

from ..fields.regridding import regrid_cells
from . import GENERATORS
from .generator import common_attributes
from .option_checks import check_counts, check_grids, check_numbers, number_range, solver_dtype
from .random_fields import stream_uniform
from .shallow_water import PlanarShallowWater

DRAWS = ("stream", "pdebench")


@GENERATORS.register("dam_break")
class DamBreakGenerator:
    """Trajectories of `PlanarShallowWater` over flat ground from a cylinder of water, on a square box.

    At t = 0 the water is at rest, ``inner_depth`` deep within ``radius`` of a centre and ``outer_depth`` elsewhere; a
    cell belongs to the disc if its centre does. The defaults are the set 2D_rdb of PDEBench (Takamoto et al. 2022).
    Frames are solved on ``solve_grid`` and returned on ``grid`` as means over blocks of cells.

    Args:
        radius: of the disc, one number or ``[low, high]`` to draw it uniformly for each trajectory.
        inner_depth: depth within the disc, one number or ``[low, high]``.
        outer_depth: depth elsewhere.
        max_offset: the disc's centre lies up to this far from the box's, along each axis, uniformly.
        draw: where random numbers come from: ``"stream"`` (seed and trajectory) or ``"pdebench"``, whose
            trajectory i has the radius ``numpy.random.default_rng(i).uniform(low, high)`` of the public file's group i.
        gravity: g, length/time².
        length: side of the box, which is centred on the origin.
        boundary: of both axes: ``"open"``, ``"periodic"`` or ``"wall"``.
        has_discharge: whether frames hold the discharge ``(hu, hv)`` after the depth.
        seed: of the ensemble; trajectory i depends on (seed, i).
        solve_grid: cells an axis of the solver.
        grid: cells an axis of the frames; divides ``solve_grid``.
        num_frames: number of frames, the first at t = 0.
        dt_frame: time between frames.
        courant: Courant number of the solver's steps, at most 0.5.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``.

    Raises:
        ValueError: for values out of range, discs that leave the box, a grid that does not divide the solver's, or
            draws after PDEBench of more than the radius.
    """

    def __init__(
        self,
        *,
        radius: float | Sequence[float] = (0.3, 0.7),
        inner_depth: float | Sequence[float] = 2.0,
        outer_depth: float = 1.0,
        max_offset: float = 0.0,
        draw: str = "stream",
        gravity: float = 1.0,
        length: float = 5.0,
        boundary: Boundary = "open",
        has_discharge: bool = False,
        seed: int = 0,
        solve_grid: int = 128,
        grid: int = 128,
        num_frames: int = 101,
        dt_frame: float = 0.01,
        courant: float = 0.45,
        dtype: str = "float32",
    ) -> None:
        numbers = {
            "outer_depth": outer_depth,
            "max_offset": max_offset,
            "length": length,
            "dt_frame": dt_frame,
        }
        check_numbers(**numbers, gravity=gravity, courant=courant)
        check_counts(seed=(seed, 0), solve_grid=(solve_grid, 4), grid=(grid, 2), num_frames=(num_frames, 1))
        check_grids(grid, solve_grid)
        if solve_grid % grid:
            raise ValueError(
                f"grid = {grid} does not divide solve_grid = {solve_grid}; frames are means over blocks."
            )
        self._radius, self._inner = _range("radius", radius), _range("inner_depth", inner_depth)
        self._outer, self._offset = float(outer_depth), float(max_offset)
        self._draw, self._seed, self._dtype = draw, seed, solver_dtype(dtype)
        self._solver = PlanarShallowWater(
            lengths=(float(length),) * 2,
            boundaries=(boundary, boundary),
            gravity=float(gravity),
            courant=float(courant),
            origins=(-length / 2,) * 2,
        )
        self._check_discs()
        self.solve_grid = (solve_grid, solve_grid)
        self.grid = (grid, grid)
        self.times = np.arange(num_frames) * float(dt_frame)
        self._num_channels = 3 if has_discharge else 1
        self.spec = self._make_spec(float(dt_frame))
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return no parameters: trajectories differ in their initial state alone."""
        return np.zeros((len(indices), 0), dtype=np.float32)

    def discs(self, indices: Sequence[int]) -> Float64[np.ndarray, "batch 4"]:
        """Return radius, inner depth, and the y and x of the centre of some trajectories."""
        draws = np.stack([self._uniform(i) for i in indices])
        low = np.array([self._radius[0], self._inner[0], -self._offset, -self._offset])
        high = np.array([self._radius[1], self._inner[1], self._offset, self._offset])
        return low + (high - low) * draws

    def initial_state(self, indices: Sequence[int]) -> Float[Tensor, "batch 3 y x"]:
        """Return ``(h, hu, hv)`` of some trajectories at t = 0 on the solver's grid."""
        axis = self._solver.axes[0]
        x = torch.from_numpy(axis.coordinates(self.solve_grid[0]))
        radius, inner, y0, x0 = torch.from_numpy(self.discs(indices)).T[..., None, None]
        is_inside = torch.hypot(x[:, None] - y0, x[None, :] - x0) <= radius
        state = torch.zeros(len(indices), 3, *is_inside.shape[1:], dtype=torch.float64)
        state[:, 0] = torch.where(is_inside, inner, torch.full_like(inner, self._outer))
        return state.to(self._dtype)

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield their depth (and discharge), one time after the other."""
        names = [str(i) for i in indices] if names is None else names
        state, block = self.initial_state(indices).to(device), self.solve_grid[0] // self.grid[0]
        for frame in self._solver.frames(state, self.times.tolist(), names):
            yield avg_pool2d(frame[:, : self._num_channels], block)

    @property
    def has_whole_states(self) -> bool:
        """Whether frames hold the discharge."""
        return self._num_channels == 3

    def continued(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        *,
        elapsed: float,
        grid: Sequence[int],
        dt: float | None = None,
    ) -> tuple[PlanarShallowWater, Float[Tensor, "batch variable *grid"]]:
        """Return the equation and its state at a frame, as means over the cells of a grid.

        Where frames hold the depth alone, depth and discharge are solved for from the beginning, on the ensemble's own
        grid. Steps are adaptive whatever ``dt``.
        """
        state = frame
        if not self.has_whole_states:
            start = self.initial_state(indices).to(frame.device)
            *_, state = self._solver.frames(start, sorted({0.0, elapsed}))
        return self._solver, regrid_cells(state, tuple(grid), self._periodic)

    def seen(
        self, state: Float[Tensor, "batch variable *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return the frame of a state on another grid: means over cells, or values between their centres."""
        return regrid_cells(state[:, : self._num_channels], tuple(grid), self._periodic)

    @property
    def _periodic(self) -> list[bool]:
        return [boundary == "periodic" for boundary in self._solver.boundaries]

    def _uniform(self, index: int) -> Float64[np.ndarray, " 4"]:
        if self._draw == "pdebench":
            return np.array([np.random.default_rng(index).random(), 0.0, 0.5, 0.5])
        return stream_uniform(self._seed, index, 4).astype(np.float64)

    def _check_discs(self) -> None:
        if self._draw not in DRAWS:
            raise ValueError(f"draw is {self._draw!r}; allowed: {', '.join(DRAWS)}.")
        if self._draw == "pdebench" and (
            self._inner[0] < self._inner[1] or self._offset > 0 or self._seed > 0
        ):
            raise ValueError(
                "draw = 'pdebench' draws the radius from the trajectory's number alone: inner_depth must be one "
                "number, max_offset 0 and seed 0. Use draw = 'stream' for other ensembles."
            )
        if self._outer < 0 or self._offset < 0:
            raise ValueError(
                f"outer_depth = {self._outer:g} and max_offset = {self._offset:g}; neither may be negative."
            )
        reach, half = self._radius[1] + self._offset, self._solver.lengths[0] / 2
        if reach > half:
            raise ValueError(
                f"discs reach up to {reach:g} (radius plus max_offset) from the centre of a box that ends at {half:g}. "
                "Use a smaller radius or max_offset, or a larger length."
            )

    def _make_spec(self, dt_frame: float) -> DataSpec:
        return DataSpec(
            fields=self._solver.fields[: 2 if self._num_channels == 3 else 1],
            axes=self._solver.axes,
            dt=dt_frame,
            equation="∂h/∂t + div(h u) = 0, ∂(h u)/∂t + div(h u ⊗ u) + ∇(g h²/2) = 0",
        )

    def _make_attributes(self) -> dict[str, Any]:
        solver = self._solver
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": "Radial dam breaks of the two-dimensional shallow water equations",
            "solver": "finite volumes, monotonised-central limiter, HLLC fluxes",
            "integrator": "Heun (SSP), steps adapted for each trajectory",
            "courant": solver.courant,
            "solve_grid": self.solve_grid[0],
            "gravity": solver.gravity,
            "boundary": solver.boundaries[0],
            "radius_range": json.dumps(self._radius),
            "inner_depth_range": json.dumps(self._inner),
            "outer_depth": self._outer,
            "max_offset": self._offset,
            "draw": self._draw,
        }


def _range(name: str, given: float | Sequence[float]) -> tuple[float, float]:
    low, high = number_range(name, given)
    if low <= 0:
        raise ValueError(f"{name} is {given}; give one positive number, or [low, high] with 0 < low <= high.")
    return low, high
