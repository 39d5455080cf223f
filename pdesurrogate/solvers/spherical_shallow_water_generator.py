"""Ensembles of shallow flows on a rotating sphere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float, Float32, Float64
from torch import Tensor

from pdesurrogate.fields import DataSpec, Field
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_axes
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.registry import did_you_mean

from . import GENERATORS
from .generator import common_attributes
from .option_checks import check_counts, check_numbers, solver_dtype
from .orography import build_orography
from .spherical_flow import DEPTH
from .spherical_shallow_water import SphericalShallowWater
from .spherical_states import build_state


@GENERATORS.register("spherical_shallow_water")
class SphericalShallowWaterGenerator:
    """Trajectories of `SphericalShallowWater` from random initial states, or one balanced jet with a bump each.

    Solved in spherical harmonics up to ``truncation`` on Gauss-Legendre latitudes; frames are those harmonics on
    ``grid``, north first, whatever its latitudes.

    Args:
        initial_condition: ``{kind: galewsky | random_harmonics | random_winds, ...}`` with the options of
            `GalewskyJet`, `RandomHarmonics` or `RandomWinds`.
        fields: channels of the frames in order: ``depth`` (m), ``geopotential`` (g times depth), ``displacement``
            (height of the surface above the mean depth at rest, m), ``vorticity``, ``divergence`` (1/s), ``wind``
            (eastward and northward, m/s).
        orography: null for flat ground, or see `build_orography`; the surface starts as over flat ground.
        truncation: T.
        solve_grid: latitudes and longitudes of the solver; the smallest that are free of aliasing if None.
        grid: latitudes and longitudes of the frames.
        nodes: rule of the frames' latitudes: ``"gauss-legendre"``, ``"equiangular"`` or ``"cell-centred"``.
        seed: of the ensemble; trajectory i depends on (seed, i).
        start: time of the first frame, s.
        num_frames: number of frames.
        dt_frame: time between frames, s.
        dt: time step of the solver, s; divides ``start`` and ``dt_frame``. The longest one if ``courant`` is given.
        courant: of adaptive steps, see `SphericalShallowWater`, or None for steps of ``dt``.
        integrator: ``"etdrk4"``, ``"cn_ab2"`` or ``"cn_euler"``.
        diffusion_time: in which the smallest scale of vorticity and divergence decays by e, s; None for none.
        diffusion_order: order of that hyperdiffusion, even.
        radius, rotation, gravity: of the planet.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``.

    Raises:
        ValueError: for values out of range, unknown kinds and fields, grids too small for the truncation (the needed
            one is named), or a dt that does not divide the times.
    """

    def __init__(
        self,
        *,
        initial_condition: Mapping[str, Any] | str = "galewsky",
        fields: Sequence[str] = ("geopotential", "vorticity", "divergence"),
        orography: Mapping[str, Any] | str | None = None,
        truncation: int = 42,
        solve_grid: Sequence[int] | None = None,
        grid: Sequence[int] = (64, 128),
        nodes: str = "gauss-legendre",
        seed: int = 0,
        start: float = 0.0,
        num_frames: int = 25,
        dt_frame: float = 3600.0,
        dt: float = 300.0,
        courant: float | None = None,
        integrator: str = "etdrk4",
        diffusion_time: float | None = None,
        diffusion_order: int = 8,
        radius: float = 6.37122e6,
        rotation: float = 7.292e-5,
        gravity: float = 9.80616,
        dtype: str = "float32",
    ) -> None:
        check_numbers(start=start, dt_frame=dt_frame, dt=dt)
        check_counts(seed=(seed, 0), num_frames=(num_frames, 1), truncation=(truncation, 1))
        self._dtype, self._seed = solver_dtype(dtype), seed
        self._initial = build_state(initial_condition)
        self._solve_grid = SphericalGrid(*_sizes("solve_grid", solve_grid or _smallest_grid(truncation)))
        self._solve_grid.require(truncation, product=2)
        self.solve_grid = self._solve_grid.shape
        self._frame_grid = SphericalGrid(*_sizes("grid", grid), nodes)
        self._frame_grid.require(truncation)
        self._ground = build_orography(orography, self._solve_grid, truncation)
        self._solver = SphericalShallowWater(
            dt=float(dt),
            truncation=truncation,
            radius=float(radius),
            rotation=float(rotation),
            gravity=float(gravity),
            orography=None if self._ground is None else self._ground[0],
            diffusion_time=diffusion_time,
            diffusion_order=diffusion_order,
            integrator=integrator,
            courant=courant,
        )
        self._fields = _fields_of(fields, self._solver)
        self.grid = self._frame_grid.shape
        self.times = start + np.arange(num_frames) * float(dt_frame)
        self._solver.check_times(self.times.tolist())
        self.spec = DataSpec(
            fields=tuple(self._fields.values()),
            axes=spherical_axes(nodes),
            dt=float(dt_frame),
            time_units="s",
            geometry="sphere",
            equation="∂h/∂t = -div(h u), ∂ζ/∂t = -div((ζ + f) u), "
            "∂δ/∂t = curl((ζ + f) u) - Δ(|u|²/2 + g (h + b)), f = 2Ω sin(lat), on a sphere",
        )
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return no parameters: trajectories differ in their initial state alone."""
        return np.zeros((len(indices), 0), dtype=np.float32)

    def initial_state(self, indices: Sequence[int]) -> Float64[Tensor, "batch 3 lat lon"]:
        """Return depth, vorticity and divergence of some trajectories at t = 0 on the solver's grid.

        Raises:
            ValueError: if the ground rises above the surface.
        """
        states = [self._initial.state(self._solver, self._solve_grid.shape, self._seed, i) for i in indices]
        state = torch.stack(states)
        if self._ground is not None:
            state[:, DEPTH] -= self._ground[0]
        return state

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield the chosen fields, one time after the other."""
        names = [str(i) for i in indices] if names is None else names
        state = self.initial_state(indices).to(device=device, dtype=self._dtype)
        truncation = self._solver.truncation
        source, target = (
            SphericalTransform(grid, truncation, self._solver.radius, self._dtype, device)
            for grid in (self._solve_grid, self._frame_grid)
        )
        for frame in self._solver.frames(state, self.times.tolist(), names):
            yield self._channels(frame, source, target)

    @property
    def has_whole_states(self) -> bool:
        """Whether frames hold a depth, and a wind or its vorticity and divergence."""
        names = set(self._fields)
        return bool(names & _DEPTHS) and ("wind" in names or {"vorticity", "divergence"} <= names)

    def continued(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        *,
        elapsed: float,
        grid: Sequence[int],
        dt: float | None = None,
    ) -> tuple[SphericalShallowWater, Float[Tensor, "batch variable *grid"]]:
        """Return the equation with the harmonics that a Gauss-Legendre grid can solve for, and its state at a frame.

        Raises:
            ValueError: if frames lack the depth or the wind.
        """
        if not self.has_whole_states:
            raise ValueError(
                f"the frames hold {', '.join(self._fields)}, which is not a state of the equation: that takes a depth, "
                "and the wind or its vorticity and divergence."
            )
        num_lat, num_lon = grid
        target = SphericalGrid(num_lat, num_lon)
        truncation = min(self._solver.truncation or 0, target.largest_truncation(product=2))
        ground = None if self._ground is None else self._ground_on(target, truncation)
        solver = dataclasses.replace(
            self._solver,
            dt=self._solver.dt if dt is None else dt,
            truncation=truncation,
            orography=ground,
        )
        source = self._frame_grid_of(frame.shape[-2:])
        kept = min(truncation, source.largest_truncation())
        to_state = SphericalTransform(target, kept, solver.radius, frame.dtype, frame.device)
        state = to_state.synthesise(self._spectra(frame, source, kept))
        state[:, DEPTH] += self._initial.mean_depth
        if ground is not None and not {"depth", "geopotential"} & set(self._fields):
            state[:, DEPTH] -= ground.to(state)  # of the surface only the displacement is known
        return solver, state

    def seen(
        self, state: Float[Tensor, "batch variable *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return the frame of a state on another grid, by the harmonics that both analyse exactly."""
        num_lat, num_lon = state.shape[-2:]
        source, target = SphericalGrid(num_lat, num_lon), self._frame_grid_of(grid)
        truncation = min(source.largest_truncation(), target.largest_truncation())
        transforms = (
            SphericalTransform(g, truncation, self._solver.radius, state.dtype, state.device)
            for g in (source, target)
        )
        return self._channels(state, *transforms)

    def _spectra(
        self, frame: Float[Tensor, "batch channel lat lon"], grid: SphericalGrid, truncation: int
    ) -> Complex[Tensor, "batch 3 degree order"]:
        """Return the harmonics of thickness (depth, or surface, less the mean depth), vorticity and divergence."""
        sizes = [len(field.channel_names) for field in self._fields.values()]
        parts = dict(zip(self._fields, frame.split(sizes, dim=1), strict=True))
        transform = SphericalTransform(grid, truncation, self._solver.radius, frame.dtype, frame.device)
        rest = self._initial.mean_depth
        if "depth" in parts:
            thickness = parts["depth"] - rest
        elif "geopotential" in parts:
            thickness = parts["geopotential"] / self._solver.gravity - rest
        else:
            thickness = parts["displacement"]
        if "wind" in parts:
            flow = transform.vorticity_divergence(parts["wind"])
        else:
            flow = transform.analyse(torch.cat([parts["vorticity"], parts["divergence"]], dim=1))
        flow[..., 0, 0] = 0.0  # rounding; no wind has a mean vorticity or divergence
        return torch.cat([transform.analyse(thickness), flow], dim=1)

    def _frame_grid_of(self, sizes: Sequence[int]) -> SphericalGrid:
        num_lat, num_lon = sizes
        return SphericalGrid(num_lat, num_lon, self._frame_grid.nodes)

    def _ground_on(self, grid: SphericalGrid, truncation: int) -> Float64[Tensor, "lat lon"]:
        """Return the height of the ground on another grid of the solver."""
        if self._ground is None:
            return torch.zeros(grid.shape, dtype=torch.float64)
        if grid == self._solve_grid:
            return self._ground[0]
        kept = min(truncation, self._solve_grid.largest_truncation(), grid.largest_truncation())
        source, target = (SphericalTransform(g, kept, dtype=torch.float64) for g in (self._solve_grid, grid))
        return target.synthesise(source.analyse(self._ground[0]))

    def _channels(
        self,
        state: Float[Tensor, "batch 3 lat lon"],
        source: SphericalTransform,
        target: SphericalTransform,
    ) -> Float[Tensor, "batch channel new_lat new_lon"]:
        ground = self._ground_on(source.grid, source.truncation).to(state)
        # The mean depth is left out of the transform, whose rounding is relative to it.
        rest = self._initial.mean_depth
        thickness = state[:, DEPTH] - rest
        surface = thickness + ground
        spectra = source.analyse(torch.stack([thickness, surface, *state[:, DEPTH + 1 :].unbind(1)], dim=1))
        thickness, surface, vorticity, divergence = target.synthesise(spectra).split(1, dim=1)
        gravity = self._solver.gravity
        parts = {
            "depth": thickness + rest,
            "geopotential": gravity * (thickness + rest),
            "displacement": surface,
            "vorticity": vorticity,
            "divergence": divergence,
        }
        if "wind" in self._fields:
            parts["wind"] = target.velocity(spectra[:, 2:])
        return torch.cat([parts[name] for name in self._fields], dim=1)

    def _make_attributes(self) -> dict[str, Any]:
        solver = self._solver
        optional: dict[str, Any] = {} if solver.courant is None else {"courant": solver.courant}
        if solver.diffusion_time is not None:
            optional |= {"diffusion_time": solver.diffusion_time, "diffusion_order": solver.diffusion_order}
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": "Shallow water on a rotating sphere",
            "solver": "pseudo-spectral vorticity-divergence form in spherical harmonics, free of aliasing",
            "integrator": solver.integrator,
            "solver_dt": solver.dt,
            "truncation": solver.truncation,
            "solve_grid": "{} x {}".format(*self._solve_grid.shape),
            "radius": solver.radius,
            "rotation": solver.rotation,
            "gravity": solver.gravity,
            "mean_depth": self._initial.mean_depth,
            "orography": "none" if self._ground is None else self._ground[1],
            "initial_condition": str(self._initial),
            **optional,
        }


_DEPTHS = {"depth", "geopotential", "displacement"}


def _smallest_grid(truncation: int) -> tuple[int, int]:
    """Return the smallest even numbers of Gauss-Legendre latitudes and twice as many longitudes free of aliasing."""
    num_lat = 2 * math.ceil((3 * truncation + 1) / 4)
    return num_lat, 2 * num_lat


def _sizes(name: str, given: Sequence[int]) -> tuple[int, int]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        raise ValueError(
            f"{name} is {given!r}; give the numbers of latitudes and longitudes, such as [64, 128]."
        )
    check_counts(**{f"{name}[{i}]": (size, 2) for i, size in enumerate(given)})
    return given[0], given[1]


def _fields_of(names: Sequence[str], solver: SphericalShallowWater) -> dict[str, Field]:
    depth, vorticity, divergence = solver.fields
    known = {
        "depth": depth,
        "geopotential": Field("geopotential", "m2 s-2", long_name="gravity times depth of the fluid"),
        "displacement": Field("displacement", "m", long_name="height of the surface above its rest"),
        "vorticity": vorticity,
        "divergence": divergence,
        "wind": solver.wind_field,
    }
    for name in names:
        if name not in known:
            raise ValueError(
                f"fields names {name!r}.{did_you_mean(str(name), known)} Allowed: {', '.join(known)}."
            )
    if not names or len(set(names)) != len(names):
        raise ValueError(f"fields is {list(names)}; give at least one, each once: {', '.join(known)}.")
    return {name: known[name] for name in names}
