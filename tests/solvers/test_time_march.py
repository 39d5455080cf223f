"""Adaptive steps: as accurate as fixed ones, chosen by each trajectory for itself."""

import math

import pytest
import torch

from pdesurrogate.solvers import solve
from pdesurrogate.solvers.forcing import LiForcing
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.time_march import TimeMarch, check_times, steps_between

LI = {"viscosity": 1e-3, "forcing": LiForcing()}


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.fixture
def states(random_vorticity):
    """Three flows of very different speed."""
    return random_vorticity(32, num_fields=3)[:, None] * torch.tensor([0.5, 2.0, 8.0]).view(3, 1, 1, 1)


@pytest.mark.usefixtures("as_users_run")
def test_adaptive_steps_converge_to_the_solution_of_small_fixed_ones(states):
    reference = solve(NavierStokes2D(**LI, dt=1 / 400), states, [0.7, 1.0])
    errors = [
        relative(solve(NavierStokes2D(**LI, dt=0.5, courant=courant), states, [0.7, 1.0]), reference)
        for courant in (1.0, 0.5, 0.25)
    ]
    assert errors[0] < 1e-4
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 8


@pytest.mark.parametrize("integrator", ["etdrk4", "cn_euler"])
def test_a_trajectory_with_adaptive_steps_does_not_depend_on_its_batch(states, integrator, monkeypatch):
    """Also where a batch is marched together, as on a GPU."""
    solver = NavierStokes2D(**LI, dt=0.2, courant=0.5, integrator=integrator)
    alone = torch.cat([solve(solver, state[None], [1.0]) for state in states])
    monkeypatch.setattr(NavierStokes2D, "_trajectories_at_once", lambda self, like: len(like))
    together = solve(solver, states, [1.0])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def counted(integrator, frequency, times, **options):
    """March du/dt = 0 for trajectories of given frequencies and count the steps, as t -> u + step does."""
    march = TimeMarch(
        integrator,
        torch.zeros(1, 1, 1, dtype=torch.float64),
        options.pop("dt", 10.0),
        torch.float64,
        tendency=torch.ones_like,
        frequency=lambda u: frequency,
        names=["slow", "fast"],
        **options,
    )
    u, now = torch.zeros(2, 1, 1, dtype=torch.complex128), 0.0
    for time in times:
        u, now = march.advance(u, now, time), time
    return u.real[:, 0, 0]


def test_each_trajectory_arrives_at_every_time_exactly():
    arrived = counted("etdrk4", torch.tensor([0.3, 70.0]), [0.37, 1.0, 3.1], courant=1.0)
    torch.testing.assert_close(arrived, torch.full((2,), 3.1, dtype=torch.float64), rtol=1e-13, atol=0)


def test_steps_keep_below_the_longest_one(random_vorticity):
    state = 1e-6 * random_vorticity(32)[:, None]  # so slow that the Courant number would allow any step
    limited = solve(NavierStokes2D(**LI, dt=0.05, courant=1.0), state, [1.0])
    fixed = solve(NavierStokes2D(**LI, dt=0.05), state, [1.0])
    torch.testing.assert_close(limited, fixed, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("as_users_run")
def test_a_flow_that_speeds_up_between_frames_gets_shorter_steps(random_vorticity):
    """Under a strong force a flow from rest passes the stability bound of the step that its start allows."""
    start = 1e-3 * random_vorticity(32)[:, None]
    forcing = LiForcing(amplitude=30.0)
    adaptive = NavierStokes2D(viscosity=1e-2, dt=0.25, forcing=forcing, courant=0.5)
    fine = NavierStokes2D(viscosity=1e-2, dt=1 / 400, forcing=forcing)
    assert relative(solve(adaptive, start, [2.0]), solve(fine, start, [2.0])) < 1e-4


def test_a_flow_that_needs_steps_without_end_is_refused():
    with pytest.raises(
        ValueError, match=r"trajectory fast needs 2\.0e\+30 steps to t = 1 with courant = 0\.5"
    ):
        counted("etdrk4", torch.tensor([0.3, 1e30]), [1.0], courant=0.5)


@pytest.mark.parametrize(("courant", "size"), [(0.5, "courant = 0.5"), (None, "dt = 0.1")])
def test_a_state_that_becomes_infinite_is_named_with_its_time(courant, size):
    march = TimeMarch(
        "etdrk4",
        torch.zeros(1, 1, 1, dtype=torch.float64),
        0.1,
        torch.float64,
        tendency=lambda u: torch.where(u.real > 3, math.inf, torch.ones_like(u)),
        frequency=lambda u: u.abs()[:, 0, 0],
        names=["first", "second"],
        courant=courant,
    )
    state = torch.tensor([-9.0, 1.0], dtype=torch.complex128).view(2, 1, 1)
    with pytest.raises(
        ValueError, match=rf"trajectory second became NaN .* between t = \S+ and t = 4 with {size}"
    ):
        march.advance(state, 0.0, 4.0)


def test_adaptive_steps_take_times_that_no_step_divides(random_vorticity):
    state = random_vorticity(24)[:, None]
    found = solve(NavierStokes2D(**LI, dt=0.3, courant=1.0), state, [0.1, 1 / 3])
    fixed = solve(NavierStokes2D(**LI, dt=1 / 300), state, [0.1, 1 / 3])
    assert relative(found, fixed) < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"courant": 3.0}, r"courant is 3\.0; etdrk4 is stable from above 0 to 2\.83"),
        ({"courant": 0.0}, r"courant is 0\.0"),
        ({"courant": float("nan")}, "courant is nan"),
        ({"courant": 0.2, "integrator": "cn_ab2"}, "cn_ab2 needs steps of one length"),
    ],
)
def test_courant_numbers_that_are_not_stable_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NavierStokes2D(**LI, dt=0.1, **options)


def test_steps_are_counted_between_times():
    assert steps_between([0.0, 0.5, 0.5, 2.0], 0.25) == [0, 2, 0, 6]


@pytest.mark.parametrize("times", [[-1.0], [1.0, 0.5], [float("nan")], [float("inf")]])
def test_times_that_do_not_increase_from_zero_on_are_refused(times):
    with pytest.raises(ValueError, match="increase from 0 on"):
        check_times(times)
