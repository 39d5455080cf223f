"""Ensembles of Darcy flows through ground of two kinds, patched at random."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from pdesurrogate.fields import DataSpec

from . import GENERATORS
from .darcy import DarcyFlow
from .generator import common_attributes
from .option_checks import check_counts, check_grids, check_numbers, solver_dtype
from .random_fields import WallRandomField


@GENERATORS.register("darcy")
class DarcyGenerator:
    """Pairs of coefficient and pressure of `DarcyFlow` on the unit square, as trajectories of two frames.

    Frame 0 is the pressure 0 and frame 1 the solution; the coefficient is a static field, the same in both. It is
    ``high`` where a Gaussian random field with the covariance ``(-Δ + τ²)^{-α}`` and no slope at the walls is not
    negative, and ``low`` elsewhere. The defaults are Li et al.'s. The spec's dt of 1 has no meaning: the
    pressure adjusts at once.

    Args:
        low, high: the coefficient's two values, ``0 < low <= high``.
        alpha, tau: smoothness and inverse length scale of the random field.
        source: f, the same everywhere.
        seed: of the ensemble; sample i depends on (seed, i).
        solve_grid: cells an axis of the solver.
        grid: cells an axis of the frames, an odd part of ``solve_grid``: the solver's cell in the middle of each is
            kept, so that coefficients stay those two values and every point is where the axis says.
        tolerance: of the solver, see `DarcyFlow`.
        dtype: precision of the solver, ``"float32"`` or ``"float64"``.

    Raises:
        ValueError: for values out of range, or a grid that is no odd part of the solver's.

    Source: Li et al. (2021), "Fourier neural operator for parametric PDEs", section 5.2 and appendix A.3.2.
    """

    def __init__(
        self,
        *,
        low: float = 3.0,
        high: float = 12.0,
        alpha: float = 2.0,
        tau: float = 3.0,
        source: float = 1.0,
        seed: int = 0,
        solve_grid: int = 425,
        grid: int = 85,
        tolerance: float = 1e-8,
        dtype: str = "float64",
    ) -> None:
        check_numbers(low=low, high=high, alpha=alpha, tau=tau, source=source, tolerance=tolerance)
        check_counts(seed=(seed, 0), solve_grid=(solve_grid, 2), grid=(grid, 2))
        check_grids(grid, solve_grid)
        if not 0 < low <= high:
            raise ValueError(f"low = {low:g} and high = {high:g}; needed is 0 < low <= high.")
        if solve_grid % grid or solve_grid // grid % 2 == 0:
            raise ValueError(
                f"grid = {grid} is no odd part of solve_grid = {solve_grid}; only then does one of the solver's cells "
                f"lie in the middle of each. Use solve_grid = {grid}, {3 * grid}, {5 * grid}, .."
            )
        self._values, self._seed, self._solve_grid = (float(low), float(high)), seed, solve_grid
        self._random = WallRandomField((1.0, 1.0), float(alpha), float(tau))
        self._solver = DarcyFlow((1.0, 1.0), float(source), float(tolerance))
        self._dtype = solver_dtype(dtype)
        self.grid = (grid, grid)
        self.times = np.array([0.0, 1.0])
        self.spec = DataSpec(
            fields=self._solver.fields,
            axes=self._solver.axes,
            dt=1.0,
            equation="-∇·(a ∇p) = f, p = 0 on the walls",
        )
        self.attributes = self._make_attributes()

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return no parameters: samples differ in their coefficient alone."""
        return np.zeros((len(indices), 0), dtype=np.float32)

    def coefficients(self, indices: Sequence[int]) -> Float64[Tensor, "batch y x"]:
        """Return the coefficients of some samples on the solver's grid."""
        grid = (self._solve_grid, self._solve_grid)
        low, high = self._values
        fields = torch.stack([self._random.sample(self._seed, i, grid) for i in indices])
        return torch.where(fields >= 0, high, low).double()

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some samples together; yield pressure and coefficient without flow, then with it."""
        names = [str(i) for i in indices] if names is None else names
        coefficient = self.coefficients(indices).to(device=device, dtype=self._dtype)
        state = torch.stack([torch.zeros_like(coefficient), coefficient], dim=1)
        factor = self._solve_grid // self.grid[0]
        middle = slice(factor // 2, None, factor)
        for frame in self._solver.frames(state, self.times.tolist(), names):
            yield frame[..., middle, middle].contiguous()

    def _make_attributes(self) -> dict[str, Any]:
        return {
            **common_attributes(self.spec, self._dtype, self._seed),
            "title": "Darcy flow through a random patchwork of two kinds of ground",
            "solver": "finite volumes, harmonic means at faces; conjugate gradients, preconditioned by sine transforms",
            "tolerance": self._solver.tolerance,
            "solve_grid": self._solve_grid,
            "coefficients": json.dumps(self._values),
            "random_field": f"covariance (-Δ + τ²)^-α without its mean, alpha={self._random.alpha}, "
            f"tau={self._random.tau}",
            "source_term": self._solver.source,
        }
