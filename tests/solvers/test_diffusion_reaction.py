"""Activator and inhibitor: exact modes, an accurate ODE, orders of convergence, and PDEBench's scheme written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from pdesurrogate.solvers import solve
from pdesurrogate.solvers.diffusion_reaction import DiffusionReaction
from pdesurrogate.solvers.equation import Equation


def centres(size):
    return (torch.arange(size, dtype=torch.float64) + 0.5) * (2.0 / size) - 1.0


def noise(size, num=1, seed=0):
    return torch.randn(num, 2, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(size):
    """Two bumps of a few cosines, the same functions on every grid."""
    y, x = torch.meshgrid(*[math.pi * (centres(size) + 1) / 2] * 2, indexing="ij")
    return torch.stack([y.cos() + (2 * x).cos() * (3 * y).cos(), x.cos() - 0.5 * (2 * y).cos()])[None]


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def slopes(errors):
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def test_it_is_an_equation():
    assert isinstance(DiffusionReaction(), Equation)


@pytest.mark.parametrize(
    ("laplacian", "k"), [("spectral", 3), ("spectral", 31), ("five_point", 3), ("five_point", 31)]
)
def test_without_reactions_every_cosine_decays_at_the_exact_rate_of_its_operator(laplacian, k):
    kappa, dx = math.pi * k / 2, 2 / 32
    eigenvalue = kappa**2 if laplacian == "spectral" else (2 - 2 * math.cos(kappa * dx)) / dx**2
    wave = (kappa * (centres(32) + 1)).cos()
    state = torch.stack([wave[:, None].expand(32, 32), wave[None].expand(32, 32)])
    equation = DiffusionReaction(0.02, 0.05, rate=0.0, laplacian=laplacian)
    (found,) = solve(equation, state, [0.5])
    decay = torch.tensor([0.02, 0.05], dtype=torch.float64).mul(-0.5 * eigenvalue).exp()
    torch.testing.assert_close(found, decay.view(2, 1, 1) * state, rtol=0, atol=1e-13)


@pytest.mark.parametrize("laplacian", ["spectral", "five_point"])
def test_without_reactions_mass_is_conserved(laplacian):
    state = noise(24)
    last = solve(DiffusionReaction(rate=0.0, laplacian=laplacian), state, [5.0])[:, -1]
    torch.testing.assert_close(last.mean((2, 3)), state.mean((2, 3)), rtol=0, atol=1e-15)
    assert last.std() < state.std()


@pytest.mark.parametrize("laplacian", ["spectral", "five_point"])
def test_a_homogeneous_state_follows_the_ordinary_differential_equation(laplacian):
    start = np.array([0.7, -0.4])
    exact = solve_ivp(
        lambda _, w: [w[0] - w[0] ** 3 - 5e-3 - w[1], w[0] - w[1]],
        (0, 2),
        start,
        method="DOP853",
        rtol=1e-13,
        atol=1e-13,
        t_eval=[1.0, 2.0],
    ).y.T
    state = torch.from_numpy(start)[None, :, None, None].expand(1, 2, 6, 9).contiguous()
    equation = DiffusionReaction(laplacian=laplacian, courant=None, dt=1 / 64)
    found = solve(equation, state, [1.0, 2.0])[0]
    expected = torch.from_numpy(exact)[:, :, None, None].expand(2, 2, 6, 9)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-9)


@pytest.mark.usefixtures("as_users_run")
def test_on_the_same_cells_it_is_the_scheme_of_pdebench():
    """Their stencil written out, with mirrored neighbours at the walls, and a Runge-Kutta method of high order."""
    state, dx = noise(12)[0].numpy(), 2 / 12

    def tendency(_, w):
        u, v = w.reshape(2, 12, 12)
        around = [np.pad(f, 1, mode="edge") for f in (u, v)]
        lap_u, lap_v = (
            (f[2:, 1:-1] + f[:-2, 1:-1] + f[1:-1, 2:] + f[1:-1, :-2] - 4 * f[1:-1, 1:-1]) / dx**2
            for f in around
        )
        return np.concatenate([(1e-3 * lap_u + u - u**3 - 5e-3 - v).ravel(), (5e-3 * lap_v + u - v).ravel()])

    exact = solve_ivp(tendency, (0, 2), state.ravel(), method="DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    equation = DiffusionReaction(laplacian="five_point", courant=0.05)
    found = solve(equation, torch.from_numpy(state), [2.0])[0]
    assert relative(found, torch.from_numpy(exact.reshape(2, 12, 12))) < 1e-8


@pytest.mark.usefixtures("as_users_run")
def test_steps_converge_with_the_order_of_the_integrator():
    state = smooth(12)
    fine = solve(DiffusionReaction(courant=None, dt=1 / 512), state, [0.5])
    for integrator, order in (("etdrk4", 4), ("cn_ab2", 2), ("cn_euler", 1)):
        errors = [
            relative(
                solve(DiffusionReaction(courant=None, dt=1 / n, integrator=integrator), state, [0.5]), fine
            )
            for n in (32, 64, 128)
        ]
        assert all(order - 0.3 < slope < order + 0.5 for slope in slopes(errors)), (
            integrator,
            slopes(errors),
        )


@pytest.mark.parametrize(("laplacian", "least"), [("five_point", 1.8), ("spectral", 5.0)])
def test_the_error_of_the_grid_falls_with_second_order_or_faster_than_any_power(laplacian, least):
    def run(size, laplacian=laplacian):
        equation = DiffusionReaction(0.02, 0.05, courant=None, dt=1 / 32, laplacian=laplacian)
        return solve(equation, smooth(size), [0.5])[0, 0]

    reference = run(108, "spectral")
    errors = [relative(run(size), reference[..., k // 2 :: k, k // 2 :: k]) for size, k in ((12, 9), (36, 3))]
    assert math.log(errors[0] / errors[1]) / math.log(3) > least, errors


def test_the_flow_has_the_symmetries_of_the_square():
    state, equation = noise(16), DiffusionReaction(laplacian="five_point")
    last = solve(equation, state, [1.0])
    for change in (lambda u: u.mT, lambda u: u.flip(-2), lambda u: torch.rot90(u, 1, (-2, -1))):
        torch.testing.assert_close(solve(equation, change(state), [1.0]), change(last), rtol=0, atol=1e-12)


@pytest.mark.parametrize("courant", [None, 0.5])
@pytest.mark.usefixtures("as_users_run")
def test_no_trajectory_depends_on_its_neighbours(courant):
    state, equation = noise(12, num=3), DiffusionReaction(courant=courant, dt=0.0125)
    state[1] *= 0.1
    together = solve(equation, state, [0.5])
    alone = torch.cat([solve(equation, state[i : i + 1], [0.5]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)


def test_a_frame_at_time_0_is_the_initial_state_and_dimensions_are_one_to_three():
    state = noise(8)
    assert torch.equal(next(DiffusionReaction().frames(state, [0.0])), state)
    line = solve("diffusion_reaction", state[0, :, 0], [0.5], lengths=(2.0,), origins=(0.0,))
    cube = state[0, :, :1, None].expand(2, 3, 4, 8).contiguous()
    found = solve("diffusion_reaction", cube, [0.5], lengths=(1.0, 1.0, 2.0), origins=(0.0,) * 3)
    torch.testing.assert_close(found[0], line[0][:, None, None].expand(2, 3, 4, 8), rtol=0, atol=1e-13)


def test_a_step_above_the_stability_bound_is_refused_with_the_bound_and_the_trajectory():
    state = noise(8, num=2)
    state[0] *= 0.1
    equation = DiffusionReaction(courant=None, dt=0.5)
    with pytest.raises(
        ValueError, match=r"trajectory b at t = 0: dt = 0\.5 exceeds .* for its fastest reaction"
    ):
        list(equation.frames(state, [1.0], ["a", "b"]))
    state[0, 0, 3, 3] = math.nan
    with pytest.raises(ValueError, match="trajectory a: the initial state has values that are not finite"):
        list(DiffusionReaction().frames(state, [1.0], ["a", "b"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activator_diffusivity": -1.0}, "activator_diffusivity is -1.0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"dt": 0.0}, "dt is 0.0"),
        ({"threshold": math.inf}, "threshold is inf"),
        ({"laplacian": "nine_point"}, "allowed: 'spectral', 'five_point'"),
        ({"lengths": (1.0,)}, "give one of both for each axis"),
        ({"lengths": (1.0, 0.0)}, "L_x is 0.0"),
        ({"courant": 5.0}, "courant is 5.0; etdrk4 is stable"),
        ({"integrator": "cn_ab2"}, "needs steps of one length"),
    ],
)
def test_wrong_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionReaction(**options)


@pytest.mark.parametrize(
    ("state", "times", "message"),
    [
        (torch.zeros(1, 3, 4, 4), [1.0], r"needed is \(batch, 2, y, x\)"),
        (torch.zeros(1, 2, 4, 4).half(), [1.0], "allowed: float32 and float64"),
        (
            torch.full((1, 2, 4, 4), math.inf),
            [0.0],
            "trajectory 0: the initial state has values that are not finite",
        ),
        (torch.zeros(1, 2, 4, 4), [1.0, 0.5], r"0\.5 comes after 1"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_states_and_times_that_do_not_fit_are_refused(state, times, message):
    with pytest.raises(ValueError, match=message):
        next(DiffusionReaction().frames(state, times))
    with pytest.raises(ValueError, match="does not divide"):
        next(DiffusionReaction(courant=None).frames(torch.zeros(1, 2, 4, 4), [0.07]))
