"""Ensembles of buoyant smoke: random clouds in closed boxes, and plumes that rise from an inflow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from pdesurrogate.fields import DataSpec, Parameter
from pdesurrogate.registry import did_you_mean

from ..fields.regridding import regrid_cells, regrid_faces
from . import GENERATORS
from .generator import common_attributes
from .inflow import Inflow
from .option_checks import check_counts, check_numbers, number_range, solver_dtype
from .random_fields import stream_uniform
from .smoke import Order, Scheme, Smoke, Walls
from .smoke_noise import SmokeNoise
from .staggered import StaggeredBox, Top
from .time_march import steps_between

TEXTURE_STREAM = 3
"""Of the inflow's random texture; 0 is the initial density and 1 the buoyancy."""


@GENERATORS.register("smoke")
class SmokeGenerator:
    """Trajectories of `Smoke`, one random initial density or inflow each; the defaults are PDEArena's NavierStokes-2D.

    Frames hold the density at cell centres and the velocity on lower faces. They are solved on ``solve_grid`` and
    returned on ``grid`` as means over cells and over faces, which keeps the velocity free of divergence.

    Args:
        buoyancy: acceleration of a unit of density, one number or ``[low, high]`` to draw it uniformly for each
            trajectory.
        viscosity, diffusivity: of the fluid and of the smoke, length²/time.
        lengths: sides of the box in array order, upwards first: ``[L_y, L_x]`` or ``[L_z, L_y, L_x]``.
        grid: cells of the frames along each axis, one number for all axes or one each.
        solve_grid: cells of the solver, multiples of ``grid``; None: the same.
        order, scheme, walls, top: see `Smoke`.
        initial_condition: ``{scale, smoothness}`` of the `SmokeNoise` whose absolute value is the density at t = 0,
            with air at rest; or ``"clear"``: no smoke, and the flow that the inflow drives at once.
        inflow: options of `Inflow` but texture and start: radius, speed, density, noise, depth, centre; and
            ``scale``, ``smoothness`` of the `SmokeNoise` that its texture is. None: no inflow.
        seed: of the ensemble; trajectory i depends on (seed, i).
        start: time of the first frame; larger than 0 leaves out a spin-up.
        num_frames: number of frames.
        dt_frame: time between frames.
        dt: time step of the solver; divides ``start`` and ``dt_frame``.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``; pressure is always solved in float64.

    Raises:
        ValueError: for values out of range, grids that do not divide, or a dt that does not divide the times.
    """

    has_whole_states = True

    def __init__(
        self,
        *,
        buoyancy: float | Sequence[float] = 0.5,
        viscosity: float = 0.01,
        diffusivity: float = 0.0,
        lengths: Sequence[float] = (32.0, 32.0),
        grid: int | Sequence[int] = 128,
        solve_grid: int | Sequence[int] | None = None,
        order: Order = "pdearena",
        scheme: Scheme = "semi_lagrangian",
        walls: Walls = "no_slip",
        top: Top = "wall",
        initial_condition: Mapping[str, Any] | str | None = None,
        inflow: Mapping[str, Any] | None = None,
        seed: int = 0,
        start: float = 13.5,
        num_frames: int = 14,
        dt_frame: float = 6.0,
        dt: float = 1.5,
        dtype: str = "float32",
    ) -> None:
        check_numbers(viscosity=viscosity, diffusivity=diffusivity, start=start, dt_frame=dt_frame, dt=dt)
        check_counts(seed=(seed, 0), num_frames=(num_frames, 1))
        for k, length in enumerate(lengths):
            check_numbers(**{f"lengths[{k}]": length})
        self._buoyancies = number_range("buoyancy", buoyancy)
        self._seed, self._dtype = seed, solver_dtype(dtype)
        self.grid = _cells("grid", grid, len(lengths))
        self.solve_grid = self.grid if solve_grid is None else _cells("solve_grid", solve_grid, len(lengths))
        _check_blocks(self.grid, self.solve_grid)
        plain_inflow, self._noise, self._texture = _inflow(inflow, lengths)
        self._solver = Smoke(
            buoyancy=self._buoyancies[0],
            viscosity=float(viscosity),
            dt=float(dt),
            lengths=tuple(float(length) for length in lengths),
            diffusivity=float(diffusivity),
            order=order,
            scheme=scheme,
            walls=walls,
            top=top,
            inflow=plain_inflow,
        )
        self._initial = _initial_noise(initial_condition, self._solver.lengths)
        self.times = start + np.arange(num_frames) * float(dt_frame)
        steps_between(self.times.tolist(), self._solver.dt)
        self.spec = self._make_spec(float(dt_frame))
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return the buoyancy of some trajectories."""
        return self._buoyancy_of(indices)[:, None].astype(np.float32)

    def initial_state(self, indices: Sequence[int]) -> Float[Tensor, "batch channel *space"]:
        """Return density and velocity of some trajectories at t = 0 on the solver's grid."""
        shape = (len(indices), self.spec.num_channels, *self.solve_grid)
        state = torch.zeros(shape, dtype=torch.float64)
        if self._initial is None:
            return self._solver.project(state).to(self._dtype)
        for k, i in enumerate(indices):
            state[k, 0] = self._initial.sample(self._seed, i, self.solve_grid).abs()
        return state.to(self._dtype)

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield density and velocity, one time after the other."""
        names = [str(i) for i in indices] if names is None else names
        state = self.initial_state(indices).to(device)
        solver = dataclasses.replace(
            self._solver,
            buoyancy=torch.from_numpy(self._buoyancy_of(indices)),
            inflow=self._inflow_of(indices),
        )
        for frame in solver.frames(state, self.times.tolist(), names):
            yield self._regridded(frame, self.grid)

    def continued(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        *,
        elapsed: float,
        grid: Sequence[int],
        dt: float | None = None,
    ) -> tuple[Smoke, Float[Tensor, "batch variable *grid"]]:
        """Return the equation of some trajectories and its state at a frame, as much smoke and free of divergence.

        Raises:
            ValueError: for an inflow, on fewer than 4 cells an axis.
        """
        inflow = self._inflow_of(indices)
        if inflow is not None:
            texture = None if inflow.texture is None else regrid_cells(inflow.texture, tuple(grid)[1:])
            inflow = dataclasses.replace(inflow, start=float(self.times[0]) + elapsed, texture=texture)
        solver = dataclasses.replace(
            self._solver,
            dt=self._solver.dt if dt is None else dt,
            buoyancy=torch.from_numpy(self._buoyancy_of(indices)),
            inflow=inflow,
        )
        state = self._regridded(frame, grid)
        return solver, state if state is frame or inflow is None else solver.project(state)

    def seen(
        self, state: Float[Tensor, "batch variable *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return the frame of a state on another grid: means over cells and faces, or interpolated."""
        return self._regridded(state, grid)

    def _buoyancy_of(self, indices: Sequence[int]) -> Float64[np.ndarray, " batch"]:
        low, high = self._buoyancies
        return np.array(
            [low + (high - low) * stream_uniform(self._seed, i, 1)[0] for i in indices], dtype=np.float64
        )

    def _inflow_of(self, indices: Sequence[int]) -> Inflow | None:
        """Return the inflow with the textures of some trajectories, sampled along the jet as finely as across it."""
        inflow = self._solver.inflow
        if inflow is None or self._texture is None:
            return inflow
        spacing = self._solver.lengths[-1] / self.solve_grid[-1]
        grid = (max(4, round(inflow.depth / spacing)), *self.solve_grid[1:])
        texture = torch.stack([self._texture.sample(self._seed, i, grid, TEXTURE_STREAM) for i in indices])
        return dataclasses.replace(inflow, noise=self._noise, texture=texture)

    def _regridded(
        self, frame: Float[Tensor, "batch channel *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return density and velocity on another grid, see `pdesurrogate.fields.regridding`."""
        grid = tuple(grid)
        if grid == tuple(frame.shape[2:]):
            return frame
        box = StaggeredBox(frame.shape[2:], self._solver.lengths, self._solver.top, device=frame.device)
        faces = box.faces_of(frame[:, 1:])
        components = [regrid_faces(values, grid, axis) for axis, values in enumerate(faces)]
        return torch.stack([regrid_cells(frame[:, 0], grid), *components[::-1]], dim=1)

    def _make_spec(self, dt_frame: float) -> DataSpec:
        return DataSpec(
            fields=self._solver.fields,
            axes=self._solver.axes,
            dt=dt_frame,
            parameters=(Parameter("buoyancy", long_name="acceleration of a unit of density"),),
            equation="∂ρ/∂t + u·∇ρ = κ Δρ, ∂u/∂t + u·∇u = -∇p + ν Δu + b ρ ê, div u = 0, ê upwards",
        )

    def _make_attributes(self) -> dict[str, Any]:
        solver, initial, inflow = self._solver, self._initial, self._solver.inflow
        optional: dict[str, Any] = {}
        if inflow is not None:
            facts = {name: getattr(inflow, name) for name in ("radius", "speed", "density", "depth")}
            optional["inflow"] = json.dumps({**facts, "centre": inflow.centre, "noise": self._noise})
            optional["inflow_texture"] = str(self._texture)
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": f"Buoyant smoke in a box in {len(self.grid)} dimensions",
            "solver": "marker-and-cell grid, semi-Lagrangian transport, pressure by cosine transforms",
            "order": solver.order,
            "scheme": solver.scheme,
            "walls": solver.walls,
            "top": solver.top,
            "solver_dt": solver.dt,
            "solve_grid": json.dumps(list(self.solve_grid)),
            "buoyancy_range": json.dumps(list(self._buoyancies)),
            "viscosity": solver.viscosity,
            "diffusivity": solver.diffusivity,
            "initial_condition": "clear" if initial is None else f"absolute value of {initial}",
            **optional,
        }


def _cells(name: str, given: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    cells = [given] * ndim if isinstance(given, int) else list(given)
    if len(cells) != ndim:
        raise ValueError(
            f"{name} is {given} and lengths has {ndim} axes; give one number, or one for each axis."
        )
    for n in cells:
        check_counts(**{name: (n, 4)})
    return tuple(cells)


def _check_blocks(grid: Sequence[int], solve_grid: Sequence[int]) -> None:
    if any(fine % coarse for coarse, fine in zip(grid, solve_grid, strict=True)):
        raise ValueError(
            f"grid = {tuple(grid)} does not divide solve_grid = {tuple(solve_grid)}; frames are means "
            "over blocks of cells."
        )


def _initial_noise(given: Mapping[str, Any] | str | None, lengths: tuple[float, ...]) -> SmokeNoise | None:
    """Return the noise of the initial density, PDEArena's by default, or None for clear air."""
    if isinstance(given, str):
        if given != "clear":
            raise ValueError(
                f"initial_condition is {given!r}; give 'clear', or the scale and smoothness of random smoke."
            )
        return None
    return _noise("initial_condition", given or {}, {"scale": 11.0, "smoothness": 6.0}, lengths)


def _inflow(
    given: Mapping[str, Any] | None, lengths: Sequence[float]
) -> tuple[Inflow | None, float, SmokeNoise | None]:
    """Return the inflow without a texture, and the amplitude and kind of noise that its textures are of."""
    if given is None:
        return None, 0.0, None
    texture = {key: value for key, value in given.items() if key in ("scale", "smoothness")}
    options = {key: value for key, value in given.items() if key not in (*texture, "noise")}
    amplitude = given.get("noise", 0.0)
    check_numbers(noise=amplitude)
    known = [field.name for field in dataclasses.fields(Inflow) if field.name not in ("texture", "start")]
    for key in options:
        if key not in known:
            allowed = [*known, "scale", "smoothness"]
            raise ValueError(
                f"inflow has no option {key!r}.{did_you_mean(key, allowed)} Its options: {', '.join(allowed)}."
            )
    if "centre" in options and options["centre"] is not None:
        options["centre"] = tuple(options["centre"])
    for key in ("radius", "speed"):
        if key not in options:
            raise ValueError(f"inflow needs the option {key!r}.")
    inflow = Inflow(**options)
    if not amplitude:
        return inflow, 0.0, None
    box = (inflow.depth, *(float(length) for length in lengths[1:]))
    noise = _noise("inflow", texture, {"scale": inflow.radius, "smoothness": 2.0}, box)
    return inflow, float(amplitude), noise


def _noise(
    owner: str, given: Mapping[str, Any], default: Mapping[str, float], lengths: Sequence[float]
) -> SmokeNoise:
    for key in given:
        if key not in default:
            raise ValueError(
                f"{owner} has no option {key!r}.{did_you_mean(key, default)} Its options: {', '.join(default)}."
            )
    return SmokeNoise(**{**default, **given}, lengths=tuple(lengths))
