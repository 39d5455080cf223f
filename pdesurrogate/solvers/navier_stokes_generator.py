"""Ensembles of two-dimensional flows from Gaussian random initial vorticity, or under random forces."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from pdesurrogate.fields import DataSpec, Field, Parameter, fourier
from pdesurrogate.registry import check_options

from . import GENERATORS
from .forcing import Forcing, RandomFieldForcing, RandomForcing, SampledForcing, build_forcing
from .generator import common_attributes
from .navier_stokes import NavierStokes2D
from .option_checks import (
    check_counts,
    check_grids,
    check_numbers,
    check_positive,
    number_range,
    solver_dtype,
)
from .random_fields import GaussianRandomField, stream_uniform


@GENERATORS.register("navier_stokes")
class NavierStokesGenerator:
    """Trajectories of `NavierStokes2D` on a square box, one random initial field or forcing each.

    The defaults are Li et al.'s equation at ν = 1e-3 with their forcing and initial field. Frames are solved on
    ``solve_grid`` and returned on ``grid``.

    Args:
        viscosity: ν, one number for all trajectories, or ``[low, high]`` to draw one for each; 1e-3 by default.
        reynolds: Re = 1 / ν instead, in the units of the box and of its forcing, as Kolmogorov flows are labelled.
        viscosity_draw: how: ``"log"`` draws its logarithm uniformly, ``"uniform"`` the number itself.
        forcing: ``{kind: li | kolmogorov | symmetric | none, ...}``. Two kinds are drawn for each trajectory:
            ``torus``, whose coefficients are parameters beside the viscosity, and ``gaussian``, which is a static
            second field of every frame: given to models, and not forecast.
        drag: linear drag, 1/time.
        length: side of the box.
        initial_condition: options of `GaussianRandomField`: amplitude, alpha, tau; or ``"rest"``.
        seed: of the ensemble; trajectory i depends on (seed, i).
        solve_grid: points an axis of the solver.
        grid: points an axis of the frames, at most ``solve_grid``.
        regrid: how frames come to ``grid``: ``"spectral"`` keeps every mode that it carries and drops the others,
            ``"stride"`` takes every n-th point and aliases, as the public files do.
        start: time of the first frame; larger than 0 leaves out a spin-up.
        num_frames: number of frames.
        dt_frame: time between frames.
        dt: time step of the solver; divides ``start`` and ``dt_frame``. The longest one if ``courant`` is given.
        courant: Courant number of adaptive steps, or None for steps of ``dt``.
        integrator: ``"etdrk4"``, ``"cn_ab2"`` or ``"cn_euler"``.
        min_resolution: see `NavierStokes2D`.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``; frames of both are fit for float32.

    Raises:
        ValueError: for values out of range, a grid finer than the solver's, or a dt that does not divide the times.
    """

    has_whole_states = True

    def __init__(
        self,
        *,
        viscosity: float | Sequence[float] | None = None,
        reynolds: float | None = None,
        viscosity_draw: str = "log",
        forcing: Mapping[str, Any] | None = None,
        drag: float = 0.0,
        length: float = 1.0,
        initial_condition: Mapping[str, Any] | str | None = None,
        seed: int = 0,
        solve_grid: int = 128,
        grid: int = 128,
        regrid: str = "spectral",
        start: float = 0.0,
        num_frames: int = 21,
        dt_frame: float = 1.0,
        dt: float = 0.025,
        courant: float | None = None,
        integrator: str = "etdrk4",
        min_resolution: float = 1.0,
        dtype: str = "float32",
    ) -> None:
        check_numbers(
            drag=drag, length=length, start=start, dt_frame=dt_frame, dt=dt, min_resolution=min_resolution
        )
        check_counts(seed=(seed, 0), solve_grid=(solve_grid, 4), grid=(grid, 4), num_frames=(num_frames, 1))
        check_grids(grid, solve_grid)
        _check_choices(viscosity_draw, regrid, grid, solve_grid, courant)
        self._viscosities = _viscosity_range(_viscosity_of_reynolds(viscosity, reynolds))
        self._viscosity_draw, self._regrid = viscosity_draw, regrid
        self._seed = seed
        self._dtype = solver_dtype(dtype)
        self.solve_grid = (solve_grid, solve_grid)
        self.grid = (grid, grid)
        self.times = start + np.arange(num_frames) * dt_frame
        self._forcing = build_forcing(forcing or "li")
        self._solver = NavierStokes2D(
            viscosity=self._viscosities[0],
            dt=float(dt),
            lengths=(float(length), float(length)),
            forcing=self._forcing if isinstance(self._forcing, Forcing) else None,
            drag=float(drag),
            integrator=integrator,
            courant=courant,
            min_resolution=float(min_resolution),
        )
        self._initial = _initial_field(initial_condition, self._solver.lengths)
        self._solver.check_times(self.times.tolist())
        self.spec = self._make_spec(float(dt_frame))
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return the viscosity of some trajectories, and the coefficients of a random forcing after it."""
        return np.concatenate([self._viscosity_of(indices)[:, None], self._draws(indices)], axis=1).astype(
            np.float32
        )

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield their vorticity, one time after the other."""
        vorticity = self._initial_states(indices).to(device=device, dtype=self._dtype)
        names = [str(i) for i in indices] if names is None else names
        solver = self._solver_of(indices)
        source = solver.forcing.values.to(vorticity) if isinstance(solver.forcing, SampledForcing) else None
        for frame in solver.frames(vorticity, self.times.tolist(), names):
            yield self._regridded(frame if source is None else torch.cat([frame, source[:, None]], dim=1))

    def equation(self, indices: Sequence[int], dt: float | None = None) -> NavierStokes2D:
        """Return the equation with the viscosity and the forcing of some trajectories.

        Raises:
            ValueError: if the forcing is a second field of the frames.
        """
        if isinstance(self._forcing, RandomFieldForcing):
            raise ValueError(
                "the frames of this ensemble hold the forcing beside the vorticity; no state is solved on from them."
            )
        solver = self._solver_of(indices)
        return dataclasses.replace(solver, dt=solver.dt if dt is None else dt, min_resolution=0.0)

    def continued(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        *,
        elapsed: float,
        grid: Sequence[int],
        dt: float | None = None,
    ) -> tuple[NavierStokes2D, Float[Tensor, "batch variable *grid"]]:
        """Return the equation of some trajectories and its state at a frame, by the waves that the grid carries.

        Raises:
            ValueError: if the forcing is a second field of the frames.
        """
        return self.equation(indices, dt), fourier.resample(frame, tuple(grid))

    def seen(
        self, state: Float[Tensor, "batch variable *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return the frame of a state on another grid, by the waves that both carry."""
        return fourier.resample(state, tuple(grid))

    def _initial_states(self, indices: Sequence[int]) -> Float64[Tensor, "batch 1 y x"]:
        if self._initial is None:
            return torch.zeros(len(indices), 1, *self.solve_grid, dtype=torch.float64)
        return torch.stack([self._initial.sample(self._seed, i, self.solve_grid) for i in indices])[:, None]

    def _regridded(
        self, frame: Float[Tensor, "batch channel *fine"]
    ) -> Float[Tensor, "batch channel *space"]:
        if self._regrid == "spectral":
            return fourier.resample(frame, self.grid)
        stride = self.solve_grid[0] // self.grid[0]
        return frame[..., ::stride, ::stride].contiguous()

    def _solver_of(self, indices: Sequence[int]) -> NavierStokes2D:
        """Return the equation with what was drawn for some trajectories."""
        solver, forcing = self._solver, self._forcing
        if self._viscosities[0] < self._viscosities[1]:
            solver = dataclasses.replace(solver, viscosity=torch.from_numpy(self._viscosity_of(indices)))
        if isinstance(forcing, RandomForcing):
            solver = dataclasses.replace(solver, forcing=forcing.draw(torch.from_numpy(self._draws(indices))))
        if isinstance(forcing, RandomFieldForcing):
            box = self.solve_grid, solver.lengths
            fields = torch.stack([forcing.draw_field(self._seed, i, *box) for i in indices])
            solver = dataclasses.replace(solver, forcing=SampledForcing(fields))
        return solver

    def _viscosity_of(self, indices: Sequence[int]) -> Float64[np.ndarray, " batch"]:
        low, high = self._viscosities
        draws = np.array([stream_uniform(self._seed, i, 1)[0] for i in indices])
        if low == high:
            return np.full(len(indices), low)
        return low * (high / low) ** draws if self._viscosity_draw == "log" else low + (high - low) * draws

    def _draws(self, indices: Sequence[int]) -> Float64[np.ndarray, "batch random"]:
        """Return the numbers that a random forcing is made of; those of a stream that follow the viscosity's."""
        num = self._forcing.num_random if isinstance(self._forcing, RandomForcing) else 0
        return np.array([stream_uniform(self._seed, i, 1 + num)[1:] for i in indices]).reshape(
            len(indices), num
        )

    def _make_spec(self, dt_frame: float) -> DataSpec:
        parameters = [Parameter("viscosity", long_name="kinematic viscosity")]
        if isinstance(self._forcing, RandomForcing):
            names = range(1, self._forcing.num_random + 1)
            parameters += [
                Parameter(f"forcing_{i}", long_name=f"coefficient {i} of the forcing") for i in names
            ]
        fields = self._solver.fields
        if isinstance(self._forcing, RandomFieldForcing):
            fields += (
                Field("forcing", kind="pseudoscalar", long_name="source of vorticity", is_static=True),
            )
        return DataSpec(
            fields=fields,
            axes=self._solver.axes,
            dt=dt_frame,
            parameters=tuple(parameters),
            equation="∂ω/∂t + u·∇ω = ν Δω - μ ω + f, u = (∂ψ/∂y, -∂ψ/∂x), Δψ = -ω, periodic",
        )

    def _make_attributes(self) -> dict[str, Any]:
        solver, initial = self._solver, self._initial
        low, high = self._viscosities
        optional: dict[str, Any] = {} if low == high else {"viscosity_draw": self._viscosity_draw}
        if solver.courant is not None:
            optional["courant"] = solver.courant
        if self._regrid != "spectral":
            optional["regrid"] = self._regrid
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": "Two-dimensional incompressible Navier-Stokes flow on a periodic box",
            "solver": "pseudo-spectral vorticity form, de-aliased by the 2/3 rule",
            "integrator": solver.integrator,
            "solver_dt": solver.dt,
            "solve_grid": self.solve_grid[0],
            "viscosity_range": json.dumps([low, high]),
            "drag": solver.drag,
            "forcing": str(self._forcing),
            "initial_condition": "rest"
            if initial is None
            else "Gaussian random field: "
            f"amplitude={initial.amplitude}, alpha={initial.alpha}, tau={initial.tau}",
            **optional,
        }


def _check_choices(
    viscosity_draw: str, regrid: str, grid: int, solve_grid: int, courant: float | None
) -> None:
    for name, value, allowed in (
        ("viscosity_draw", viscosity_draw, ("log", "uniform")),
        ("regrid", regrid, ("spectral", "stride")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}.")
    if regrid == "stride" and solve_grid % grid:
        raise ValueError(
            f"grid = {grid} does not divide solve_grid = {solve_grid}, and regrid = stride takes every n-th point. Use "
            "regrid = spectral or a grid that divides."
        )
    if courant is not None:
        check_numbers(courant=courant)


def _initial_field(
    given: Mapping[str, Any] | str | None, lengths: tuple[float, float]
) -> GaussianRandomField | None:
    """Return the random initial field, or None for fluid at rest."""
    if isinstance(given, str):
        if given != "rest":
            raise ValueError(
                f"initial_condition is {given!r}; give 'rest', or the amplitude, alpha and tau of a random field."
            )
        return None
    options = dict(given or {})
    check_options("initial_condition", GaussianRandomField, options, num_positional=1)
    return GaussianRandomField(lengths=lengths, **options)


def _viscosity_of_reynolds(
    viscosity: float | Sequence[float] | None, reynolds: float | None
) -> float | Sequence[float]:
    if reynolds is None:
        return 1e-3 if viscosity is None else viscosity
    check_positive(reynolds=reynolds)
    if viscosity is not None:
        raise ValueError(
            f"viscosity = {viscosity} and reynolds = {reynolds} are both given; one follows from the other, give one."
        )
    return 1 / reynolds


def _viscosity_range(viscosity: float | Sequence[float]) -> tuple[float, float]:
    low, high = number_range("viscosity", viscosity, 0.0)
    if low == 0 < high:
        raise ValueError(f"viscosity is {viscosity}; a range [low, high] must begin above 0.")
    return low, high
