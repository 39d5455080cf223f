"""Ensembles of activators and inhibitors that start from white noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pdesurrogate.fields import DataSpec

from . import GENERATORS
from .diffusion_reaction import DiffusionReaction
from .generator import common_attributes
from .option_checks import check_counts, check_grids, check_numbers, solver_dtype
from .random_fields import random_stream

DRAWS = ("stream", "pdebench")


@GENERATORS.register("diffusion_reaction")
class DiffusionReactionGenerator:
    """Trajectories of `DiffusionReaction` on a square box, from independent standard normal numbers on its cells.

    The defaults are the set 2D_diff-react of PDEBench (Takamoto et al. 2022). Frames are solved on ``solve_grid``
    and returned on ``grid`` as means over blocks of cells.

    Args:
        activator_diffusivity: D_u.
        inhibitor_diffusivity: D_v.
        threshold: k of the reaction.
        draw: where random numbers come from: ``"stream"`` (seed and trajectory) or ``"pdebench"``, whose
            trajectory i starts from ``numpy.random.RandomState(i)``, as the public file's group i.
        length: side of the box, which is centred on the origin.
        laplacian: ``"five_point"`` as in PDEBench, or ``"spectral"``; from white noise they are different flows.
        seed: of the ensemble; trajectory i depends on (seed, i).
        solve_grid: cells an axis of the solver; noise on more cells has less energy in each wave.
        grid: cells an axis of the frames; divides ``solve_grid``.
        start: time of the first frame.
        num_frames: number of frames.
        dt_frame: time between frames.
        dt: time step of the solver; divides ``start`` and ``dt_frame``. The longest one if ``courant`` is given.
        courant: step times the largest rate of the reactions, or None for steps of ``dt``.
        integrator: ``"etdrk4"``, ``"cn_ab2"`` or ``"cn_euler"``.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``.

    Raises:
        ValueError: for values out of range, a grid that does not divide the solver's, a dt that does not divide the
            times, or a seed beside draws after PDEBench.
    """

    def __init__(
        self,
        *,
        activator_diffusivity: float = 1e-3,
        inhibitor_diffusivity: float = 5e-3,
        threshold: float = 5e-3,
        draw: str = "stream",
        length: float = 2.0,
        laplacian: str = "five_point",
        seed: int = 0,
        solve_grid: int = 128,
        grid: int = 128,
        start: float = 0.0,
        num_frames: int = 101,
        dt_frame: float = 0.05,
        dt: float = 0.05,
        courant: float | None = 0.5,
        integrator: str = "etdrk4",
        dtype: str = "float32",
    ) -> None:
        check_numbers(
            activator_diffusivity=activator_diffusivity,
            inhibitor_diffusivity=inhibitor_diffusivity,
            threshold=threshold,
        )
        check_numbers(length=length, start=start, dt_frame=dt_frame, dt=dt, courant=courant or 0.0)
        check_counts(seed=(seed, 0), solve_grid=(solve_grid, 2), grid=(grid, 2), num_frames=(num_frames, 1))
        check_grids(grid, solve_grid)
        if solve_grid % grid:
            raise ValueError(
                f"grid = {grid} does not divide solve_grid = {solve_grid}; frames are means over blocks."
            )
        if draw not in DRAWS:
            raise ValueError(f"draw is {draw!r}; allowed: {', '.join(DRAWS)}.")
        if draw == "pdebench" and seed > 0:
            raise ValueError(
                f"draw = 'pdebench' takes the trajectory's number for a seed and seed = {seed} has no effect. Use "
                "seed = 0, or draw = 'stream' for other ensembles."
            )
        self._draw, self._seed, self._dtype = draw, seed, solver_dtype(dtype)
        self._solver = DiffusionReaction(
            activator_diffusivity=float(activator_diffusivity),
            inhibitor_diffusivity=float(inhibitor_diffusivity),
            threshold=float(threshold),
            dt=float(dt),
            courant=courant,
            laplacian=laplacian,
            lengths=(float(length),) * 2,
            origins=(-length / 2,) * 2,
            integrator=integrator,
        )
        self._solve_grid = solve_grid
        self.grid = (grid, grid)
        self.times = float(start) + np.arange(num_frames) * float(dt_frame)
        self._solver.check_times(self.times.tolist())
        self.spec = DataSpec(
            fields=self._solver.fields,
            axes=self._solver.axes,
            dt=float(dt_frame),
            equation="∂u/∂t = D_u Δu + u - u³ - k - v, ∂v/∂t = D_v Δv + u - v, no flux through the walls",
        )
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return no parameters: trajectories differ in their initial state alone."""
        return np.zeros((len(indices), 0), dtype=np.float32)

    def initial_state(self, indices: Sequence[int]) -> Float64[Tensor, "batch 2 y x"]:
        """Return activator and inhibitor of some trajectories at t = 0 on the solver's grid."""
        shape = (2, self._solve_grid, self._solve_grid)
        return torch.from_numpy(np.stack([self._numbers(i).standard_normal(shape) for i in indices]))

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield activator and inhibitor, one time after the other."""
        names = [str(i) for i in indices] if names is None else names
        state = self.initial_state(indices).to(device=device, dtype=self._dtype)
        block = self._solve_grid // self.grid[0]
        for frame in self._solver.frames(state, self.times.tolist(), names):
            yield avg_pool2d(frame, block)

    def _numbers(self, index: int) -> np.random.Generator | np.random.RandomState:
        if self._draw == "pdebench":
            return np.random.RandomState(index)
        return random_stream(self._seed, index)

    def _make_attributes(self) -> dict[str, Any]:
        solver = self._solver
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": "Diffusion and reaction of an activator and an inhibitor between walls",
            "solver": f"cosine transforms, {solver.laplacian} Laplace operator",
            "integrator": solver.integrator,
            "solver_dt": solver.dt,
            "courant": 0.0 if solver.courant is None else solver.courant,
            "solve_grid": self._solve_grid,
            "activator_diffusivity": solver.activator_diffusivity,
            "inhibitor_diffusivity": solver.inhibitor_diffusivity,
            "threshold": solver.threshold,
            "initial_condition": "standard normal numbers on the solver's cells",
            "draw": self._draw,
        }
