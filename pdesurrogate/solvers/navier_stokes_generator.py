"""Ensembles of two-dimensional flows from Gaussian random initial vorticity."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter, fourier
from pdesurrogate.registry import check_options
from pdesurrogate.version import __version__

from . import GENERATORS
from .forcing import build_forcing
from .generator_options import check_counts, check_grids, check_numbers, solver_dtype
from .navier_stokes import NavierStokes2D
from .random_fields import GaussianRandomField, stream_uniform


@GENERATORS.register("navier_stokes")
class NavierStokesGenerator:
    """Trajectories of `NavierStokes2D` on a square box, one random initial field each.

    The defaults are Li et al.'s equation at ν = 1e-3 with their forcing and initial field. Frames are solved on
    ``solve_grid`` and returned on ``grid`` by exact spectral resampling.

    Args:
        viscosity: ν, one number for all trajectories, or ``[low, high]`` to draw its logarithm uniformly for each.
        forcing: ``{kind: li | kolmogorov | symmetric | none, ...}``.
        drag: linear drag, 1/time.
        length: side of the box.
        initial_condition: options of `GaussianRandomField`: amplitude, alpha, tau.
        seed: of the ensemble; trajectory i depends on (seed, i).
        solve_grid: points an axis of the solver.
        grid: points an axis of the frames, at most ``solve_grid``.
        start: time of the first frame; larger than 0 leaves out a spin-up.
        num_frames: number of frames.
        dt_frame: time between frames.
        dt: time step of the solver; divides ``start`` and ``dt_frame``.
        integrator: ``"etdrk4"`` or ``"cn_euler"``.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``; frames of both are fit for float32.

    Raises:
        ValueError: for values out of range, a grid finer than the solver's, or a dt that does not divide the times.
    """

    def __init__(
        self,
        *,
        viscosity: float | Sequence[float] = 1e-3,
        forcing: Mapping[str, Any] | None = None,
        drag: float = 0.0,
        length: float = 1.0,
        initial_condition: Mapping[str, Any] | None = None,
        seed: int = 0,
        solve_grid: int = 128,
        grid: int = 128,
        start: float = 0.0,
        num_frames: int = 21,
        dt_frame: float = 1.0,
        dt: float = 0.025,
        integrator: str = "etdrk4",
        dtype: str = "float32",
    ) -> None:
        check_numbers(drag=drag, length=length, start=start, dt_frame=dt_frame, dt=dt)
        check_counts(seed=(seed, 0), solve_grid=(solve_grid, 4), grid=(grid, 4), num_frames=(num_frames, 1))
        check_grids(grid, solve_grid)
        self._viscosities = _viscosity_range(viscosity)
        self._seed = seed
        self._dtype = solver_dtype(dtype)
        self._solve_grid = (solve_grid, solve_grid)
        self.grid = (grid, grid)
        self.times = start + np.arange(num_frames) * dt_frame
        self._solver = NavierStokes2D(
            viscosity=self._viscosities[0],
            dt=float(dt),
            lengths=(float(length), float(length)),
            forcing=build_forcing(forcing or "li"),
            drag=float(drag),
            integrator=integrator,
        )
        options = dict(initial_condition or {})
        check_options("initial_condition", GaussianRandomField, options)
        self._initial = GaussianRandomField(lengths=self._solver.lengths, **options)
        self._solver.check_times(self.times.tolist())
        self.spec = self._make_spec(float(dt_frame))
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return the viscosity of some trajectories."""
        return self._viscosity_of(indices)[:, None].astype(np.float32)

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield their vorticity, one time after the other."""
        fields = [self._initial.sample(self._seed, i, self._solve_grid) for i in indices]
        vorticity = torch.stack(fields)[:, None].to(device=device, dtype=self._dtype)
        names = [str(i) for i in indices] if names is None else names
        solver = self._solver
        if self._viscosities[0] < self._viscosities[1]:
            solver = dataclasses.replace(solver, viscosity=torch.from_numpy(self._viscosity_of(indices)))
        for frame in solver.frames(vorticity, self.times.tolist(), names):
            yield fourier.resample(frame, self.grid)

    def _viscosity_of(self, indices: Sequence[int]) -> Float[np.ndarray, " batch"]:
        low, high = self._viscosities
        draws = np.array([stream_uniform(self._seed, i, 1)[0] for i in indices])
        return low * (high / low) ** draws if low < high else np.full(len(indices), low)

    def _make_spec(self, dt_frame: float) -> DataSpec:
        length = self._solver.lengths[0]
        return DataSpec(
            fields=(Field("vorticity", kind="pseudoscalar", long_name="vorticity"),),
            axes=(Axis("y", length), Axis("x", length)),
            dt=dt_frame,
            parameters=(Parameter("viscosity", long_name="kinematic viscosity"),),
            equation="∂ω/∂t + u·∇ω = ν Δω - μ ω + f, u = (∂ψ/∂y, -∂ψ/∂x), Δψ = -ω, periodic",
        )

    def _make_attributes(self) -> dict[str, Any]:
        solver, initial = self._solver, self._initial
        low, high = self._viscosities
        return {
            "title": "Two-dimensional incompressible Navier-Stokes flow on a periodic box",
            "equation": self.spec.equation,
            "solver": "pseudo-spectral vorticity form, de-aliased by the 2/3 rule",
            "integrator": solver.integrator,
            "solver_dt": solver.dt,
            "solve_grid": self._solve_grid[0],
            "dtype": str(self._dtype).removeprefix("torch."),
            "viscosity_range": json.dumps([low, high]),
            "drag": solver.drag,
            "forcing": str(solver.forcing),
            "initial_condition": "Gaussian random field: "
            f"amplitude={initial.amplitude}, alpha={initial.alpha}, tau={initial.tau}",
            "seed": self._seed,
            "pdesurrogate_version": __version__,
        }


def _viscosity_range(viscosity: float | Sequence[float]) -> tuple[float, float]:
    given = viscosity if isinstance(viscosity, list | tuple) else [viscosity, viscosity]
    values = [float(v) for v in given if isinstance(v, int | float) and math.isfinite(v)]
    is_pair = len(given) == len(values) == 2
    if not is_pair or not 0 <= values[0] <= values[1] or (values[0] == 0 and values[1] > 0):
        raise ValueError(
            f"viscosity is {viscosity}; give one number that is not negative, or [low, high] with 0 < low < high."
        )
    return values[0], values[1]
