"""Burgers' equation against the Cole-Hopf solution, its orders of convergence, its budgets, and another solver."""

import itertools
import math
import re

import pytest
import torch

from pdesurrogate.fields.fourier import resample
from pdesurrogate.solvers import solve
from pdesurrogate.solvers.burgers import Burgers1D
from pdesurrogate.solvers.equation import Equation
from pdesurrogate.solvers.random_fields import GaussianRandomField

NU = 0.05


def points(size):
    return torch.arange(size, dtype=torch.float64) / size


def cole_hopf(x, time, viscosity=NU, offset=2.0):
    """u = -2ν ∂(log θ)/∂x with θ = offset + exp(-ν κ² t) cos κx, a solution of the heat equation."""
    kappa = 2 * math.pi
    amplitude = math.exp(-viscosity * kappa**2 * time)
    return (
        2 * viscosity * kappa * amplitude * torch.sin(kappa * x) / (offset + amplitude * torch.cos(kappa * x))
    )


def waves(size, num=3, seed=0, num_modes=3):
    generator = torch.Generator().manual_seed(seed)
    x = points(size)
    phases, amplitudes = torch.rand(2, num, num_modes, generator=generator, dtype=torch.float64)
    k = torch.arange(1, num_modes + 1)
    return (amplitudes[..., None] * torch.cos(2 * math.pi * (k[:, None] * x + phases[..., None]))).sum(1)[
        :, None
    ]


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_it_is_an_equation():
    assert isinstance(Burgers1D(viscosity=NU, dt=0.1), Equation)


def test_it_is_the_solution_of_cole_and_hopf():
    x = points(128)
    found = solve(Burgers1D(viscosity=NU, dt=1 / 256), cole_hopf(x, 0.0)[None], [0.0, 0.5, 1.0])
    for k, time in enumerate([0.0, 0.5, 1.0]):
        assert relative(found[k, 0], cole_hopf(x, time)) < 1e-9


@pytest.mark.usefixtures("as_users_run")
def test_steps_converge_with_the_order_of_the_integrator():
    state = waves(48)
    fine = solve(Burgers1D(viscosity=NU, dt=1 / 4096), state, [0.25])
    for integrator, order in (("etdrk4", 4), ("cn_ab2", 2), ("cn_euler", 1)):
        errors = [
            relative(solve(Burgers1D(viscosity=NU, dt=1 / n, integrator=integrator), state, [0.25]), fine)
            for n in (256, 512, 1024)
        ]
        found = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert all(order - 0.25 < slope < order + 0.5 for slope in found), (integrator, found)


def test_the_error_of_the_grid_falls_faster_than_any_power():
    errors = []
    for size in (24, 48, 96):
        found = solve(Burgers1D(viscosity=NU, dt=1 / 256), cole_hopf(points(size), 0.0)[None], [0.25])
        errors.append(relative(found[0, 0], cole_hopf(points(size), 0.25)))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[0] > 6
    assert errors[-1] < 1e-9


def test_the_mean_is_kept_and_energy_decays_by_viscosity_alone():
    state = waves(96) + 0.3
    times = torch.linspace(0, 0.25, 65, dtype=torch.float64).tolist()
    u = solve(Burgers1D(viscosity=NU, dt=1 / 1024), state, times)[:, :, 0]
    torch.testing.assert_close(u.mean(-1), u[:, :1].mean(-1).expand(-1, 65), rtol=0, atol=1e-14)
    k = 2 * math.pi * torch.arange(49)
    spectrum = (u[..., None] * torch.exp(-1j * k * points(96)[:, None])).mean(-2)
    dissipation = 2 * NU * (k**2 * spectrum.abs() ** 2).sum(-1)  # both signs of k, zero twice being zero
    energy = u.square().mean(-1) / 2
    lost = torch.trapezoid(dissipation / 1, torch.tensor(times), dim=-1)
    torch.testing.assert_close(energy[:, 0] - energy[:, -1], lost, rtol=2e-3, atol=0)


def test_a_shift_of_the_initial_state_shifts_the_solution():
    state, equation = waves(64), Burgers1D(viscosity=NU, dt=1 / 256)
    moved = solve(equation, state.roll(5, -1), [0.25])
    torch.testing.assert_close(moved, solve(equation, state, [0.25]).roll(5, -1), rtol=0, atol=1e-13)


def test_no_trajectory_depends_on_its_neighbours():
    state, equation = waves(64, num=4), Burgers1D(viscosity=NU, dt=1 / 256)
    together = solve(equation, state, [0.25])
    assert all(torch.equal(solve(equation, state[i : i + 1], [0.25])[0], together[i]) for i in range(4))


@pytest.mark.usefixtures("as_users_run")
def test_waves_that_viscosity_damps_first_do_not_limit_the_step():
    """On 1024 points ``max|u| k_max`` alone would ask for 1500 steps; the front of this flow is resolved by 64."""
    rough = GaussianRandomField((1.0,), 2.0, 5.0, 625.0).sample(0, 0, (1024,))[None, None]
    few, many = (solve("burgers", rough, [0.5], viscosity=0.1, dt=0.5 / n) for n in (64, 512))
    assert relative(few, many) < 1e-5
    with pytest.raises(ValueError, match="exceeds the stability bound"):
        solve("burgers", rough, [0.5], viscosity=0.1, dt=0.5 / 64, integrator="cn_ab2")
    with pytest.raises(ValueError, match="exceeds the stability bound"):
        solve("burgers", rough, [0.5], viscosity=1e-3, dt=0.5 / 64)


@pytest.mark.usefixtures("as_users_run")
def test_points_too_few_for_the_viscosity_are_refused_with_those_that_are_needed():
    def run(size, **options):
        return solve(Burgers1D(viscosity=2e-3, dt=1 / 512, **options), waves(size), [0.0, 0.25])

    with pytest.raises(
        ValueError, match=r"trajectory \d at t = 0\.25: 64 points are too few for the viscosity 0\.002"
    ) as error:
        run(64)
    needed = int(re.search(r"at least (\d+) points", str(error.value))[1])
    enough, more = run(needed), run(2 * needed)
    assert relative(enough[:, 1], more[:, 1, :, ::2]) < 2e-3
    nevertheless = run(64, min_resolution=0.0)[:, 1]
    assert relative(nevertheless, resample(more[:, 1], [64])) > 0.01


@pytest.mark.parametrize("name", ["viscosity", "dt", "length"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; it must be finite and positive"):
        Burgers1D(**{"viscosity": NU, "dt": 0.1, name: value})


def test_bad_states_and_steps_are_refused_by_name():
    equation = Burgers1D(viscosity=1e-3, dt=0.125)
    with pytest.raises(ValueError, match=r"needed is \(batch, 1, x\) with 4 points"):
        next(equation.frames(torch.zeros(2, 1, 3), [0.0]))
    with pytest.raises(ValueError, match="allowed: float32 and float64"):
        next(equation.frames(torch.zeros(2, 1, 16, dtype=torch.float16), [0.0]))
    state = waves(128, num=2)
    state[1] *= 100
    with pytest.raises(ValueError, match=r"trajectory b at t = 0: dt = 0\.125 exceeds .* frames\.$"):
        list(equation.frames(state, [0.25], ["a", "b"]))
    state[1, 0, 3] = math.nan
    with pytest.raises(ValueError, match="trajectory b: the initial state has values that are not finite"):
        list(equation.frames(state, [0.25], ["a", "b"]))


@pytest.mark.usefixtures("as_users_run")
def test_it_agrees_with_the_solutions_that_come_with_neuraloperator(shared_data):
    """400 states on every n-th point of a finer grid, ν = 0.01: what is left is what 16 points do not tell."""
    found = torch.load(shared_data / "neuralop" / "burgers_test_16.pt", weights_only=True)
    equation = Burgers1D(viscosity=float(found["visc"]), dt=1 / 256)
    start = resample(found["x"][:, None], [128])
    ours = solve(equation, start, [k / 16 for k in range(17)])[:, :, 0, ::8]
    errors = [relative(ours[:, k], found["y"][:, k]) for k in (1, 4, 8, 16)]
    assert errors[0] < 0.005
    assert max(errors) < 0.03
