"""What planar shallow water keeps (mass, rest, positive depths, symmetry), and what it refuses."""

import math

import numpy as np
import pytest
import torch

from pdesurrogate.solvers.shallow_water import PlanarShallowWater

BOUNDARIES = ("periodic", "wall", "open")


def uneven_ground(cells=24):
    """A random bed with cliffs, partly above the surface of a lake at height 1."""
    noise = np.random.default_rng(0).random((cells, cells))
    return torch.from_numpy(1.6 * noise)


def swirling(cells=24, num=1):
    """Smooth states with waves in both directions and a mean flow."""
    x = 2 * math.pi * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    shift = torch.arange(num, dtype=torch.float64).view(-1, 1, 1)
    h = 1 + 0.4 * torch.sin(x[:, None] + shift) * torch.cos(2 * x[None, :]) + 0.1 * shift
    u = 0.5 * torch.cos(x[:, None] - shift) + 0.2
    v = 0.7 * torch.sin(x[None, :] + 2 * shift)
    return torch.stack([h, h * u, h * v], 1)  # (num, 3, cells, cells)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.usefixtures("as_users_run")
def test_a_lake_stays_at_rest_around_islands_and_cliffs(boundary):
    bed = uneven_ground()
    depth = (1 - bed).clamp_min(0.0)
    assert (depth == 0).any()
    state = torch.stack([depth, torch.zeros_like(depth), torch.zeros_like(depth)])[None]
    (end,) = PlanarShallowWater(boundaries=(boundary,) * 2, bed=bed, gravity=9.81).frames(state, [0.5])
    assert (end - state).abs().max() < 1e-13


@pytest.mark.parametrize("bed", [None, uneven_ground()])
@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_mass_is_conserved_to_rounding_in_closed_boxes(boundary, bed):
    state = swirling()
    (end,) = PlanarShallowWater(boundaries=(boundary,) * 2, bed=bed).frames(state, [0.5])
    assert (end - state)[:, 0].abs().max() > 0.1
    assert float(end[:, 0].sum()) == pytest.approx(float(state[:, 0].sum()), rel=1e-14)


def test_momentum_is_conserved_to_rounding_on_a_torus():
    state = swirling()
    (end,) = PlanarShallowWater().frames(state, [0.2])
    torch.testing.assert_close(end.sum((2, 3)), state.sum((2, 3)), rtol=0, atol=1e-11)


@pytest.mark.usefixtures("as_users_run")
def test_waves_leave_an_open_box(radial_dam):
    (end,) = PlanarShallowWater((5.0, 5.0), ("open", "open")).frames(radial_dam(32), [12.0])
    assert (end[:, 0] - 1).abs().max() < 0.02


@pytest.mark.usefixtures("as_users_run")
def test_energy_never_grows(radial_dam):
    """``h |u|²/2 + g h²/2``: shocks and limited slopes dissipate it, walls do no work."""
    state = torch.cat([radial_dam(40), 1.5 * swirling(40)])
    times = [0.05 * k for k in range(1, 41)]
    energies = [
        (0.5 * q[:, 1:].square().sum(1) / q[:, 0] + 0.5 * q[:, 0].square()).sum((1, 2))
        for q in [state, *PlanarShallowWater((5.0, 5.0), ("wall", "wall")).frames(state, times)]
    ]
    changes = torch.stack(energies).diff(dim=0) / energies[0]
    assert changes.max() <= 0
    assert changes.sum(0).max() < -0.01


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("has_bed", [False, True])
def test_rotations_by_90_degrees_commute_with_the_flow_to_the_last_bit(boundary, has_bed):
    state, bed = swirling(), uneven_ground()
    turned = torch.rot90(state, 1, (2, 3))  # row 0 becomes the last column: (x, y) -> (y, -x) in array order
    turned = torch.stack([turned[:, 0], turned[:, 2], -turned[:, 1]], 1)
    (end,) = PlanarShallowWater(boundaries=(boundary,) * 2, bed=bed if has_bed else None).frames(state, [0.3])
    bed = torch.rot90(bed, 1, (0, 1))
    (turned_end,) = PlanarShallowWater(boundaries=(boundary,) * 2, bed=bed if has_bed else None).frames(
        turned, [0.3]
    )
    expected = torch.rot90(end, 1, (2, 3))
    expected = torch.stack([expected[:, 0], expected[:, 2], -expected[:, 1]], 1)
    assert (expected - turned).abs().max() > 0.1
    assert torch.equal(turned_end, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_radial_dam_break_keeps_every_symmetry_of_the_square(radial_dam, dtype):
    (end,) = PlanarShallowWater((5.0, 5.0), ("open", "open")).frames(radial_dam(48, dtype=dtype), [1.0])
    h, hu, hv = end[0]
    assert torch.equal(h, h.flip(0))
    assert torch.equal(h, h.flip(1))
    assert torch.equal(h, h.mT)
    assert torch.equal(hu, -hu.flip(1))
    assert torch.equal(hu, hv.mT)


@pytest.mark.usefixtures("as_users_run")
def test_no_trajectory_depends_on_its_neighbours():
    state, times = swirling(num=3), [0.1, 0.2]
    state[1, 0] *= 4  # faster waves, other steps
    for equation in (PlanarShallowWater(), PlanarShallowWater(dt=0.0025)):
        together = torch.stack(list(equation.frames(state, times)), 1)
        for i in range(3):
            alone = torch.stack(list(equation.frames(state[i : i + 1], times)), 1)
            assert torch.equal(together[i : i + 1], alone)


@pytest.mark.usefixtures("as_users_run")
def test_an_obstacle_that_falls_dry_and_is_flooded_keeps_depths_positive():
    cells = 24
    x = torch.linspace(-1, 1, cells, dtype=torch.float64)
    hill = 1.2 * torch.exp(-8 * (x[:, None].square() + x[None, :].square()))
    depth = torch.where(x[None, :] < -0.6, 1.5, 0.05 + 0 * x) * (hill < 0.6)
    state = torch.stack([depth, torch.zeros_like(depth), torch.zeros_like(depth)])[None]
    equation = PlanarShallowWater((2.0, 2.0), ("wall", "wall"), gravity=9.81, bed=hill)
    for dtype, rounding in ((torch.float64, 1e-14), (torch.float32, 1e-5)):
        frames = list(equation.frames(state.to(dtype), [0.1, 0.3, 1.0]))
        assert all(frame[:, 0].min() >= 0 for frame in frames)
        assert float(frames[-1][:, 0].double().sum()) == pytest.approx(float(depth.sum()), rel=rounding)
        assert frames[1][0, 0][hill >= 0.6].max() > 0.01  # the hill was flooded


def test_one_bed_a_trajectory_is_the_same_as_each_alone():
    state, beds = swirling(num=2), torch.stack([uneven_ground(), 0.5 * uneven_ground()])
    (together,) = PlanarShallowWater(bed=beds).frames(state, [0.2])
    for i in range(2):
        (alone,) = PlanarShallowWater(bed=beds[i]).frames(state[i : i + 1], [0.2])
        assert torch.equal(together[i : i + 1], alone)


def test_a_frame_at_time_0_is_the_initial_state():
    state = swirling()
    start, again, _ = PlanarShallowWater().frames(state, [0.0, 0.0, 0.1])
    assert torch.equal(start, state)
    assert torch.equal(again, state)


def test_a_fixed_step_above_the_bound_is_refused_with_the_bound():
    state = torch.zeros(2, 3, 10, 10, dtype=torch.float64)
    state[0, 0], state[1, 0] = 1.0, 4.0  # waves of speed 2: Δt <= 0.5 / (2 · 2 / 0.1)
    equation = PlanarShallowWater(dt=0.0126)
    with pytest.raises(
        ValueError, match=r"trajectory deep at t = 0: dt = 0.0126 exceeds the stability bound 0.0125"
    ):
        list(equation.frames(state, [0.0252], ["flat", "deep"]))
    assert len(list(PlanarShallowWater(dt=0.0125).frames(state, [0.025]))) == 1


def test_a_state_that_is_no_longer_finite_is_reported_with_trajectory_and_time():
    state = swirling(num=2).float()
    state[1, 1] = 1e25  # its flux of momentum overflows
    frames = PlanarShallowWater(courant=0.4).frames(state, [0.0, 0.1], ["calm", "wild"])
    next(frames)
    with pytest.raises(
        ValueError, match=r"trajectory wild became NaN or infinite before t = .*between the frames at t = 0"
    ):
        next(frames)


def spoilt(channel, value):
    state = swirling(num=2)
    state[1, channel, 3, 4] = value
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (spoilt(0, -0.25), "trajectory b: the initial state has the negative depth -0.25"),
        (spoilt(0, math.nan), "trajectory b: the initial state has values that are not finite"),
        (spoilt(0, 0.0), "trajectory b: the initial state has a discharge where there is no water"),
        (swirling(num=2)[:, :2], "channels depth, discharge_x and discharge_y"),
        (swirling(num=2).half(), "allowed: float32 and float64"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_a_wrong_initial_state_is_refused_and_named(state, message):
    with pytest.raises(ValueError, match=message):
        next(PlanarShallowWater().frames(state, [0.1], ["a", "b"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": (1.0, 0.0)}, "L_x is 0.0"),
        ({"gravity": -9.81}, "gravity is -9.81; it must be finite and positive"),
        ({"dt": 0.0}, "dt is 0.0"),
        ({"dry_depth": 0.0}, "dry_depth is 0.0"),
        ({"courant": 0.6}, "courant is 0.6; it must be positive and at most 0.5"),
        (
            {"boundaries": ("wall", "sponge")},
            "boundary of axis 'x' is 'sponge'; allowed: periodic, wall, open",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PlanarShallowWater(**options)


@pytest.mark.parametrize(
    ("options", "times", "message"),
    [
        ({}, [0.2, 0.1], "0.1 comes after 0.2"),
        ({}, [math.nan], "times must be finite"),
        ({"dt": 0.03}, [0.1], "dt = 0.03 does not divide the time from 0.0 to 0.1"),
        ({"bed": torch.zeros(5, 6)}, [0.1], r"the bed has the shape \(5, 6\)"),
    ],
)
def test_times_and_beds_that_do_not_fit_are_refused(options, times, message):
    with pytest.raises(ValueError, match=message):
        next(PlanarShallowWater(**options).frames(swirling(), times))
