"""Grids that cut off the smallest eddies are refused, and those that the message asks for are not."""

import math
import re

import numpy as np
import pytest
import torch

from pdesurrogate.fields import fourier
from pdesurrogate.solvers import solve
from pdesurrogate.solvers.forcing import LiForcing
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.vorticity import SpectralVorticity


def test_palinstrophy_is_the_mean_square_of_the_gradient(random_vorticity):
    w = random_vorticity(48, num_fields=2)
    space = SpectralVorticity((48, 48), (1.0, 1.0), torch.float64, "cpu")
    expected = fourier.gradient(w, (1.0, 1.0)).square().sum(1).mean((1, 2))
    torch.testing.assert_close(space.palinstrophy(space.to_modes(w)), expected, rtol=1e-12, atol=0)


def test_a_grid_too_coarse_for_the_viscosity_is_refused_with_the_one_that_is_needed(random_vorticity):
    def run(grid):
        solver = NavierStokes2D(viscosity=1e-5, dt=0.01, forcing=LiForcing())
        return solve(solver, 4 * random_vorticity(grid, num_fields=2, bound=10)[:, None], [0.05])

    with pytest.raises(
        ValueError, match=r"at t = 0: the grid \(32, 32\) is too coarse for the viscosity 1e-05"
    ) as error:
        run(32)
    needed = int(re.search(r"at least (\d+) x", str(error.value))[1])
    assert 32 < needed < 128
    assert torch.isfinite(run(needed)).all()


def test_min_resolution_zero_solves_it_nevertheless(random_vorticity):
    solver = NavierStokes2D(viscosity=1e-5, dt=0.01, min_resolution=0.0)
    assert torch.isfinite(solve(solver, 4 * random_vorticity(32, bound=10)[:, None], [0.05])).all()


def test_the_trajectory_with_the_smallest_viscosity_is_named(random_vorticity):
    nu = torch.tensor([1e-2, 1e-5, 1e-3])
    solver = NavierStokes2D(viscosity=nu, dt=0.01)
    state = 4 * random_vorticity(32, num_fields=3, bound=10)[:, None]
    with pytest.raises(ValueError, match="trajectory thin at t = 0"):
        list(solver.frames(state, [1.0], ["thick", "thin", "middling"]))


@pytest.mark.parametrize("viscosity", [0.0, 1e-7])
def test_laminar_flow_and_flow_without_viscosity_pass(viscosity):
    y = torch.arange(16, dtype=torch.float64)[:, None] / 16
    state = 10 * (2 * math.pi * y).sin().expand(1, 1, 16, 16)
    solver = NavierStokes2D(viscosity=viscosity, dt=0.005)
    assert torch.isfinite(solve(solver, state.contiguous(), [0.05])).all()


def test_a_flow_that_becomes_too_fine_later_is_refused_at_that_time(random_vorticity):
    solver = NavierStokes2D(viscosity=1e-5, dt=0.02)
    with pytest.raises(ValueError, match=r"trajectory 0 at t = [1-9]\d*: the grid"):
        solve(solver, 2 * random_vorticity(32, bound=2)[:, None], np.arange(0.0, 21.0))
