"""What flows as a whole must obey: budgets, symmetry, and the statistics that are known of the published sets."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import simpson

from pdesurrogate.solvers import GENERATORS, solve
from pdesurrogate.solvers.forcing import KolmogorovForcing, LiForcing, SymmetricForcing
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.random_fields import GaussianRandomField
from pdesurrogate.solvers.vorticity import SpectralVorticity


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def spectra(w):
    """Return the modes of vorticity and stream function, and the squares of their wavenumbers, by numpy."""
    size = w.shape[-1]
    k = 2 * np.pi * np.fft.fftfreq(size, 1 / size)
    square = k[:, None] ** 2 + k**2
    w_hat = np.fft.fft2(w, norm="forward")
    psi_hat = np.divide(w_hat, square, out=np.zeros_like(w_hat), where=square > 0)
    return w_hat, psi_hat, square


@pytest.mark.parametrize("integrator", ["etdrk4", "cn_ab2"])
@pytest.mark.usefixtures("as_users_run")
def test_energy_and_enstrophy_change_by_what_forcing_viscosity_and_drag_do(random_vorticity, integrator):
    """With means over the box, E = <ωψ>/2 and Z = <ω²>/2.

    dE/dt = <ψf> - ν <ω²> - 2μE and dZ/dt = <ωf> - ν <|∇ω|²> - 2μZ: advection moves both, and makes neither.
    """
    nu, drag, grid = 2e-3, 0.1, 32
    forcing = LiForcing(amplitude=2.0)
    dt = 1 / 80 if integrator == "etdrk4" else 1 / 1280
    times = np.arange(41) / 80
    solver = NavierStokes2D(nu, dt, forcing=forcing, drag=drag, integrator=integrator)
    frames = solve(solver, random_vorticity(grid, bound=4)[:, None], times)[0, :, 0].numpy()
    axis = torch.arange(grid, dtype=torch.float64) / grid
    f_hat = np.fft.fft2(forcing(axis[:, None], axis[None], (1.0, 1.0)).numpy(), norm="forward")
    energy, enstrophy, energy_rate, enstrophy_rate = [], [], [], []
    for w in frames:
        w_hat, psi_hat, square = spectra(w)
        energy.append((w_hat * psi_hat.conj()).real.sum() / 2)
        enstrophy.append((np.abs(w_hat) ** 2).sum() / 2)
        losses = nu * 2 * enstrophy[-1], nu * (square * np.abs(w_hat) ** 2).sum()
        energy_rate.append((psi_hat * f_hat.conj()).real.sum() - losses[0] - 2 * drag * energy[-1])
        enstrophy_rate.append((w_hat * f_hat.conj()).real.sum() - losses[1] - 2 * drag * enstrophy[-1])
    for name, value, rate in (("E", energy, energy_rate), ("Z", enstrophy, enstrophy_rate)):
        change, done = value[-1] - value[0], simpson(rate, x=times)
        assert abs(change) > 0.05 * value[0], name
        assert done == pytest.approx(change, rel=1e-5), name


def test_a_symmetric_state_stays_symmetric_under_a_symmetric_forcing(random_vorticity):
    def rotate(w):
        return w.transpose(-1, -2).flip(-1).roll(1, -1)

    w = random_vorticity(48)[:, None]
    state = (w + rotate(w) + rotate(rotate(w)) + rotate(rotate(rotate(w)))) / 2
    solver = NavierStokes2D(viscosity=1e-3, dt=0.025, forcing=SymmetricForcing())
    end = solve(solver, state, [3.0])[:, 0]
    assert relative(rotate(end), end) < 1e-11
    assert relative(end, state) > 0.3


def test_a_steady_laminar_kolmogorov_flow_is_kept():
    """ω = f / (νκ² + μ) balances forcing against viscosity and drag; alone it is stable at this viscosity."""
    side, nu, drag = 2 * math.pi, 0.05, 0.1
    forcing = KolmogorovForcing(wavenumber=2)
    y = torch.arange(32, dtype=torch.float64)[:, None] * (side / 32)
    steady = forcing(y, y.T, (side, side))[None, None] / (nu * 4 + drag)
    box = {"lengths": (side, side), "forcing": forcing, "drag": drag}
    for integrator, bound in (("etdrk4", 1e-12), ("cn_ab2", 1e-12), ("cn_euler", 1e-12)):
        solver = NavierStokes2D(nu, 0.01, integrator=integrator, **box)
        assert relative(solve(solver, steady, [2.0])[:, 0], steady) < bound


@pytest.mark.usefixtures("as_users_run")
def test_crank_nicolson_adams_bashforth_converges_with_second_order_in_time(random_vorticity):
    start = random_vorticity(32)[:, None]
    settings = {"viscosity": 1e-3, "forcing": LiForcing()}
    reference = solve(NavierStokes2D(**settings, dt=1 / 160), start, [1.0])
    steps = [80, 160, 320]
    errors = []
    for n in steps:
        solver = NavierStokes2D(**settings, dt=1 / n, integrator="cn_ab2")
        errors.append(relative(solve(solver, start, [1.0]), reference))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.1)


@pytest.mark.usefixtures("as_users_run")
def test_li_flows_have_the_spread_and_speed_at_t_20_that_are_known_of_them():
    """Measured on solutions with 256² points: std of ω 0.9, 1.5 and 1.7, largest speeds 0.4 to 0.5 of the thin ones."""
    nu = torch.tensor([1e-3, 1e-4, 1e-5], dtype=torch.float64).repeat_interleave(3)
    start = torch.stack([GaussianRandomField().sample(0, i, (48, 48)) for i in range(3)] * 3)[:, None]
    solver = NavierStokes2D(nu, 1 / 40, forcing=LiForcing(), min_resolution=0.0)
    w = solve(solver, start.float(), [20.0])[:, 0, 0].double()
    space = SpectralVorticity((48, 48), (1.0, 1.0), torch.float64, "cpu")
    speed = space.velocity(space.to_modes(w)).square().sum(1).sqrt().amax((1, 2)).view(3, 3).mean(1)
    spread = w.view(3, -1).std(1)
    np.testing.assert_allclose(spread, [0.9, 1.5, 1.7], rtol=0.15)
    assert ((speed[1:] > 0.35) & (speed[1:] < 0.6)).all()


@pytest.mark.usefixtures("as_users_run")
def test_factformers_flow_has_the_spread_and_speed_that_are_known_of_it():
    """Measured with 256² points: the std of ω grows from 2 to 5.9, the largest speed is 2.6."""
    options = {
        "reynolds": 1000.0, "drag": 0.1, "length": 2 * math.pi, "start": 10.0, "num_frames": 1,
        "forcing": {"kind": "kolmogorov", "wavenumber": 8}, "initial_condition": {"amplitude": "pino"},
    }  # fmt: skip
    grid = {"solve_grid": 64, "grid": 64, "dt": 1 / 40, "min_resolution": 0.0}
    w = next(GENERATORS.build("navier_stokes", **options, **grid).frames(range(4)))[:, 0].double()
    space = SpectralVorticity((64, 64), (2 * math.pi,) * 2, torch.float64, "cpu")
    speed = space.velocity(space.to_modes(w)).square().sum(1).sqrt().amax()
    assert w.std().item() == pytest.approx(5.9, rel=0.1)
    assert speed.item() == pytest.approx(2.6, rel=0.25)
