"""Ensembles of solutions of Burgers' equation from Gaussian random initial velocities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from pdesurrogate.fields import DataSpec, Parameter, fourier
from pdesurrogate.registry import check_options

from . import GENERATORS
from .burgers import Burgers1D
from .generator import common_attributes
from .option_checks import check_counts, check_grids, check_not_negative, check_numbers, solver_dtype
from .random_fields import GaussianRandomField
from .time_march import steps_between


@GENERATORS.register("burgers")
class BurgersGenerator:
    """Trajectories of `Burgers1D`, one random initial velocity each.

    The defaults are Li et al.'s map ``u(0) -> u(1)``: two frames. Frames are solved on ``solve_grid`` and returned
    on ``grid`` without the modes that it cannot carry.

    Args:
        viscosity: ν > 0.
        length: of the periodic line.
        initial_condition: options of `GaussianRandomField`: amplitude, alpha, tau. The default is ``N(0, 625 (-Δ +
            25)^-2)``.
        seed: of the ensemble; trajectory i depends on (seed, i).
        solve_grid: points of the solver.
        grid: points of the frames, at most ``solve_grid``.
        start: time of the first frame.
        num_frames: number of frames.
        dt_frame: time between frames.
        dt: time step of the solver; divides ``start`` and ``dt_frame``.
        integrator: ``"etdrk4"``, ``"cn_ab2"`` or ``"cn_euler"``.
        min_resolution: see `Burgers1D`.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``.

    Raises:
        ValueError: for values out of range, a grid finer than the solver's, or a dt that does not divide the times.

    Source: Li et al. (2021), "Fourier neural operator for parametric PDEs", section 5.1 and appendix A.3.1.
    """

    def __init__(
        self,
        *,
        viscosity: float = 0.1,
        length: float = 1.0,
        initial_condition: Mapping[str, Any] | None = None,
        seed: int = 0,
        solve_grid: int = 8192,
        grid: int = 8192,
        start: float = 0.0,
        num_frames: int = 2,
        dt_frame: float = 1.0,
        dt: float = 0.01,
        integrator: str = "etdrk4",
        min_resolution: float = 1.0,
        dtype: str = "float64",
    ) -> None:
        check_numbers(viscosity=viscosity, length=length, start=start, dt_frame=dt_frame, dt=dt)
        check_not_negative(min_resolution=min_resolution)
        check_counts(seed=(seed, 0), solve_grid=(solve_grid, 4), grid=(grid, 4), num_frames=(num_frames, 1))
        check_grids(grid, solve_grid)
        self._solver = Burgers1D(
            float(viscosity), float(dt), float(length), integrator, float(min_resolution)
        )
        options = {"amplitude": 625.0, "alpha": 2.0, "tau": 5.0, **(initial_condition or {})}
        check_options("initial_condition", GaussianRandomField, options, num_positional=1)
        self._initial = GaussianRandomField((float(length),), **options)
        self._seed, self._dtype = seed, solver_dtype(dtype)
        self.solve_grid = (solve_grid,)
        self.grid = (grid,)
        self.times = float(start) + np.arange(num_frames) * float(dt_frame)
        steps_between(self.times.tolist(), self._solver.dt)
        self.spec = DataSpec(
            fields=self._solver.fields,
            axes=self._solver.axes,
            dt=float(dt_frame),
            parameters=(Parameter("viscosity", long_name="kinematic viscosity"),),
            equation="∂u/∂t + ∂(u²/2)/∂x = ν ∂²u/∂x², periodic",
        )
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return the viscosity of some trajectories."""
        return np.full((len(indices), 1), self._solver.viscosity, dtype=np.float32)

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield their velocity, one time after the other."""
        names = [str(i) for i in indices] if names is None else names
        state = torch.stack([self._initial.sample(self._seed, i, self.solve_grid) for i in indices])[:, None]
        for frame in self._solver.frames(
            state.to(device=device, dtype=self._dtype), self.times.tolist(), names
        ):
            yield fourier.resample(frame, self.grid)

    def equation(self, indices: Sequence[int], dt: float | None = None) -> Burgers1D:
        """Return the equation, which is the same for all trajectories."""
        dt = self._solver.dt if dt is None else dt
        return dataclasses.replace(self._solver, dt=dt, min_resolution=0.0)

    def continued(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        *,
        elapsed: float,
        grid: Sequence[int],
        dt: float | None = None,
    ) -> tuple[Burgers1D, Float[Tensor, "batch variable *grid"]]:
        """Return the equation and its state at a frame, by the waves that the grid carries."""
        return self.equation(indices, dt), fourier.resample(frame, tuple(grid))

    def seen(
        self, state: Float[Tensor, "batch variable *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return the frame of a state on another grid, by the waves that both carry."""
        return fourier.resample(state, tuple(grid))

    def _make_attributes(self) -> dict[str, Any]:
        solver, initial = self._solver, self._initial
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": "Solutions of Burgers' equation on a periodic line",
            "solver": "pseudo-spectral, de-aliased by the 2/3 rule",
            "integrator": solver.integrator,
            "solver_dt": solver.dt,
            "solve_grid": self.solve_grid[0],
            "kinematic_viscosity": solver.viscosity,
            "initial_condition": "Gaussian random field: "
            f"amplitude={initial.amplitude}, alpha={initial.alpha}, tau={initial.tau}",
        }
