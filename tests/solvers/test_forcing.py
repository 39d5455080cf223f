"""Sources of vorticity: the published formulas, term by term."""

import math

import pytest
import torch

from pdesurrogate.solvers import solve
from pdesurrogate.solvers.forcing import (
    GaussianForcing,
    KolmogorovForcing,
    LiForcing,
    SampledForcing,
    SymmetricForcing,
    TorusForcing,
)
from pdesurrogate.solvers.navier_stokes import NavierStokes2D


def points(grid):
    axis = torch.arange(grid, dtype=torch.float64) / grid
    return axis[:, None], axis[None, :]


def run(solver, start, times):
    return solve(solver, start[:, None], times)


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(
    ("forcing", "formula"),
    [
        (LiForcing(), lambda y, x: 0.1 * ((2 * math.pi * (x + y)).sin() + (2 * math.pi * (x + y)).cos())),
        (SymmetricForcing(), lambda y, x: 0.1 * ((4 * math.pi * x).cos() + (4 * math.pi * y).cos())),
        (KolmogorovForcing(0.5, 2), lambda y, x: -0.5 * 4 * math.pi * (4 * math.pi * y).cos() + 0 * x),
    ],
)
def test_a_short_time_after_rest_vorticity_is_time_times_the_published_forcing(forcing, formula):
    y, x = points(32)
    solver = NavierStokes2D(viscosity=0.0, dt=1e-6, forcing=forcing)
    found = run(solver, torch.zeros(1, 32, 32, dtype=torch.float64), [1e-6])[0, 0, 0]
    assert relative(found, 1e-6 * formula(y, x)) < 1e-10


def test_the_random_torus_forcing_has_the_published_terms():
    """Tran et al. (2023): 0.1 Σ_p (six waves of x, y and x + y), coefficients in the order of the parameters."""
    y, x = points(16)
    for n, coefficient in enumerate(torch.eye(12, dtype=torch.float64)):
        p, direction, wave = n // 6 + 1, (n % 6) // 2, (torch.sin, torch.cos)[n % 2]
        angle = (x + 0 * y, y + 0 * x, x + y)[direction]
        expected = 0.1 * wave(2 * math.pi * p * angle)
        found = TorusForcing(coefficient[None])(y, x, (1.0, 1.0))[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_forcings_as_many_as_trajectories_are_needed(random_vorticity):
    forcing = TorusForcing(torch.rand(3, 12, dtype=torch.float64))
    with pytest.raises(ValueError, match="3 forcings were given for 2 trajectories"):
        run(NavierStokes2D(viscosity=1e-3, dt=0.05, forcing=forcing), random_vorticity(16, 2), [1.0])


def test_gaussian_forcings_have_the_covariance_of_their_formula():
    """27 (|k|² + 9)^-4 on a box of side 2π: the variance at a point is the sum over all modes but the mean."""
    side = 2 * math.pi
    fields = torch.stack([GaussianForcing().draw_field(0, i, (24, 24), (side, side)) for i in range(400)])
    k = torch.arange(-11, 12, dtype=torch.float64)
    variance = 27 * (k[:, None] ** 2 + k**2 + 9) ** -4.0
    expected = (variance.sum() - 27 * 9**-4.0).item()
    assert fields.square().mean().item() == pytest.approx(expected, rel=0.05)


def test_a_sampled_forcing_is_the_same_function_on_every_grid():
    y, x = points(24)
    values = LiForcing(wavenumber=2)(y, x, (1.0, 1.0))
    y, x = points(40)
    found = SampledForcing(values[None])(y, x, (1.0, 1.0))[0]
    torch.testing.assert_close(found, LiForcing(wavenumber=2)(y, x, (1.0, 1.0)), rtol=0, atol=1e-14)
