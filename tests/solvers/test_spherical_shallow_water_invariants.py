"""What spherical shallow water keeps (mass, energy, symmetry, independence of the batch), and what it refuses."""

import math

import numpy as np
import pytest
import torch

from pdesurrogate.fields.spherical.resampling import resample_sphere
from pdesurrogate.solvers import solve
from pdesurrogate.solvers.orography import build_orography, isolated_mountain
from pdesurrogate.solvers.shallow_water import PlanarShallowWater
from pdesurrogate.solvers.spherical_shallow_water import SphericalShallowWater
from pdesurrogate.solvers.spherical_states import RandomHarmonics

SIZES, TRUNCATION, HOUR = (16, 32), 10, 3600.0
EQUATION = SphericalShallowWater(dt=600.0, truncation=TRUNCATION)
MOUNTAIN = torch.from_numpy(isolated_mountain(EQUATION.grid_of(SIZES)))


def states(num=1, equation=EQUATION, sizes=SIZES):
    return torch.stack([RandomHarmonics().state(equation, sizes, 0, i) for i in range(num)])


def last(equation, state, time=HOUR):
    (frame,) = equation.frames(state, [time])
    return frame


def assert_same(found, expected, tolerance=1e-12):
    for channel, scale in enumerate((1e4, 1e-5, 1e-5)):
        difference = (found - expected)[:, channel].abs().max()
        assert difference <= tolerance * scale, (channel, difference)


@pytest.mark.parametrize("orography", [None, MOUNTAIN], ids=["flat", "mountain"])
@pytest.mark.parametrize("options", [{}, {"diffusion_time": HOUR}, {"courant": 1.0}], ids=str)
def test_mass_is_conserved_to_rounding(options, orography):
    equation = SphericalShallowWater(dt=600.0, truncation=TRUNCATION, orography=orography, **options)
    state = states(2)
    end = last(equation, state)
    weights = torch.tensor(equation.grid_of(SIZES).weights)[:, None]
    before, after = ((frame[:, 0] * weights).sum((1, 2)) for frame in (state, end))
    assert (end - state)[:, 0].abs().max() > 10
    torch.testing.assert_close(after, before, rtol=1e-15, atol=0)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("height", [0.0, 100.0])
def test_energy_and_potential_enstrophy_are_conserved_as_far_as_the_flow_is_resolved(height):
    grid = EQUATION.grid_of(SIZES)
    ground, _ = build_orography({"kind": "mountain", "height": height}, grid, TRUNCATION)
    equation = SphericalShallowWater(dt=300.0, truncation=TRUNCATION, orography=ground)
    phi, lam = torch.tensor(grid.latitudes)[:, None], torch.tensor(grid.longitudes)[None]
    weights = torch.tensor(grid.weights)[:, None] / 2 / SIZES[1]
    wind = torch.stack([20 * phi.cos() + 0 * lam, 5 * phi.cos() ** 2 * lam.cos()])
    depth = 5000 + 50 * phi.sin() * phi.cos() * lam.cos() - ground
    start = equation.state(depth[None], wind[None])

    def invariants(state):
        speed2 = equation.wind(state).square().sum(1)
        depth, absolute = state[:, 0], state[:, 1] + 2 * equation.rotation * phi.sin()
        rest = (depth * weights).sum() ** 2 / 2
        energy = depth * speed2 / 2 + equation.gravity * (depth * (depth / 2 + ground) - rest)
        return (energy * weights).sum(), (absolute.square() / depth * weights).sum()

    end = last(equation, start, 12 * HOUR)
    assert (end - start)[:, 0].abs().max() > 20
    energy, enstrophy = (b / a - 1 for a, b in zip(invariants(start), invariants(end), strict=True))
    # Of the energy of motion and of the surface; the whole has the constant g H²/2 in addition.
    assert abs(energy) < 1e-6
    assert abs(enstrophy) < 1e-7


def test_two_hours_in_one_call_are_one_hour_and_another():
    state = states()
    assert_same(last(EQUATION, last(EQUATION, state)), last(EQUATION, state, 2 * HOUR))
    frames = list(EQUATION.frames(state, [0.0, HOUR, 2 * HOUR]))
    assert_same(frames[0], state)
    assert_same(frames[1], last(EQUATION, state))
    assert_same(frames[2], last(EQUATION, state, 2 * HOUR))


@pytest.mark.parametrize("courant", [None, 0.5])
def test_no_trajectory_depends_on_its_neighbours(courant):
    equation = SphericalShallowWater(dt=600.0, truncation=TRUNCATION, courant=courant)
    state = states(3)
    state[1, 1:] *= 3
    together = last(equation, state)
    for i in (2, 1, 0):
        assert_same(together[i : i + 1], last(equation, state[i : i + 1]))
    assert_same(last(equation, state.flip(0)).flip(0), together)


def test_each_trajectory_has_its_own_orography():
    grounds = torch.stack([MOUNTAIN, 0 * MOUNTAIN])
    state = states(1).repeat(2, 1, 1, 1)
    both = last(SphericalShallowWater(dt=600.0, truncation=TRUNCATION, orography=grounds), state)
    alone = last(SphericalShallowWater(dt=600.0, truncation=TRUNCATION, orography=MOUNTAIN), state[:1])
    assert_same(both[:1], alone)
    assert_same(both[1:], last(EQUATION, state[:1]))
    assert (both[0] - both[1])[0].abs().max() > 10


def test_a_flow_shifted_along_longitude_evolves_into_the_shifted_flow():
    state = states()
    assert_same(last(EQUATION, state.roll(5, -1)), last(EQUATION, state).roll(5, -1))


def test_a_flow_mirrored_at_the_equator_evolves_into_the_mirror_image():
    def mirrored(state):
        return state.flip(-2) * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)[:, None, None]

    state = states()
    assert_same(last(EQUATION, mirrored(state)), mirrored(last(EQUATION, state)))
    # Vorticity is a pseudoscalar: without the change of sign the mirror image is another flow.
    assert (last(EQUATION, state.flip(-2)) - last(EQUATION, state).flip(-2))[:, 0].abs().max() > 10


def test_the_flow_is_the_same_function_on_every_grid_that_carries_it():
    expected, state, old = last(EQUATION, states()), states(), EQUATION.grid_of(SIZES)
    for sizes, options in (
        ((16, 32), {"is_north_first": False}),
        ((32, 36), {"nodes": "equiangular"}),
        ((25, 40), {}),
    ):
        equation = SphericalShallowWater(dt=600.0, truncation=TRUNCATION, **options)
        grid = equation.grid_of(sizes)
        found = last(equation, resample_sphere(state, EQUATION.fields, old, grid))
        assert_same(resample_sphere(found, EQUATION.fields, grid, old), expected, 1e-11)


def test_winds_come_back_from_their_state():
    state = states()
    wind = EQUATION.wind(state)
    assert_same(EQUATION.state(state[:, 0], wind), state)
    assert 1 < wind.abs().max() < 100


@pytest.mark.usefixtures("as_users_run")
def test_adaptive_steps_are_as_good_as_their_courant_number():
    exact = last(SphericalShallowWater(dt=100.0, truncation=TRUNCATION), states())
    coarse, fine = (
        last(SphericalShallowWater(dt=HOUR, truncation=TRUNCATION, courant=courant), states())
        for courant in (1.0, 0.5)
    )
    errors = [float((found - exact)[:, 1].norm() / exact[:, 1].norm()) for found in (coarse, fine)]
    assert errors[0] < 5e-3
    assert errors[1] < errors[0] / 10


def test_single_precision_follows_double():
    found, expected = last(EQUATION, states().float()), last(EQUATION, states())
    assert found.dtype == torch.float32
    assert (found - expected)[:, 0].norm() / (expected - 1e4)[:, 0].norm() < 1e-4
    for channel in (1, 2):
        assert (found - expected)[:, channel].norm() / expected[:, channel].norm() < 2e-4


@pytest.mark.gpu
@pytest.mark.parametrize("courant", [None, 1.0])
def test_a_gpu_solves_the_same(courant):
    equation = SphericalShallowWater(
        dt=600.0, truncation=TRUNCATION, courant=courant, orography=0.1 * MOUNTAIN, diffusion_time=HOUR
    )
    state = states(3)
    found = last(equation, state.cuda())
    assert found.is_cuda
    assert_same(found.cpu(), last(equation, state), 1e-10)


def test_solve_takes_names_tensors_and_datasets():
    import xarray

    (state,) = states()
    options = {"dt": 600.0, "truncation": TRUNCATION}
    solution = solve("spherical_shallow_water", state, [0.0, HOUR], **options)
    assert solution.shape == (2, 3, *SIZES)
    names = ("depth", "vorticity", "divergence")
    coordinates = {axis.name: axis.coordinates(n) for axis, n in zip(EQUATION.axes, SIZES, strict=True)}
    assert coordinates["lat"][0] > 80
    labelled = xarray.Dataset(
        {name: (("lat", "lon"), values) for name, values in zip(names, state.numpy(), strict=True)},
        coordinates,
    )
    found = solve(EQUATION, labelled, [0.0, HOUR])
    for k, name in enumerate(names):
        np.testing.assert_array_equal(found[name], solution[:, k])
    assert found["lat"].attrs["units"] == "degrees_north"
    over_mountain = SphericalShallowWater(**options, orography=MOUNTAIN)
    found = solve(over_mountain, labelled.assign(orography=(("lat", "lon"), MOUNTAIN.numpy())), [HOUR])
    assert "orography=tensor of shape (16, 32)" in found.attrs["equation"]
    upside_down = labelled.isel(lat=slice(None, None, -1))
    with pytest.raises(ValueError, match="coordinates of 'lat' run from -8"):
        solve(EQUATION, upside_down, [HOUR])
    uniform = labelled.assign_coords(lat=np.linspace(84.0, -84.0, SIZES[0]))
    with pytest.raises(ValueError, match="coordinates of 'lat'"):
        solve(EQUATION, uniform, [HOUR])


def test_planar_and_spherical_states_are_not_taken_for_each_other(as_users_run):
    import xarray

    plane = xarray.Dataset(
        {n: (("y", "x"), np.ones((8, 8))) for n in ("depth", "discharge_x", "discharge_y")}
    )
    sphere = xarray.Dataset(
        {n: (("lat", "lon"), np.ones((8, 16))) for n in ("depth", "vorticity", "divergence")}
    )
    with pytest.raises(ValueError, match=r"dimensions \('y', 'x'\); needed are \('lat', 'lon'\)"):
        solve(EQUATION, plane, [HOUR])
    with pytest.raises(ValueError, match=r"dimensions \('lat', 'lon'\); needed are \('y', 'x'\)"):
        solve(PlanarShallowWater(), sphere, [1.0])
    flowing = torch.ones(1, 3, *SIZES, dtype=torch.float64)
    with pytest.raises(ValueError, match="has a mean over the sphere, and no wind has"):
        solve(EQUATION, flowing, [HOUR])
    with pytest.raises(ValueError, match="3 channel"):
        solve(EQUATION, flowing[:, :2], [HOUR])


def changed(channel, value, num=1):
    state = states(num)
    state[-1, channel, 3, 4] = value
    return state


@pytest.mark.parametrize(
    ("options", "state", "message"),
    [
        (
            {"dt": 9000.0},
            states(),
            r"trajectory 0 at t = 0: dt = 9000 exceeds the stability bound 5\.\d+e\+03 .* gravity wave",
        ),
        ({"dt": 700.0}, states(), "dt = 700.0 does not divide the time from 0.0 to 9000"),
        ({"truncation": 11}, states(), "T = 11 was asked for on 16 .* or at least 17 x 34 points"),
        ({}, changed(0, -5.0, 2), "trajectory 1: the depth falls to -5 at t = 0; it must be positive"),
        ({}, changed(0, 0.0), "depth falls to 0"),
        ({}, changed(2, math.nan), "trajectory 0: the initial state has values that are not finite"),
        ({}, states().half(), "is torch.float16; allowed: float32 and float64"),
        ({"orography": torch.zeros(8, 16)}, states(), r"orography has the shape \(8, 16\)"),
        ({"orography": torch.full(SIZES, math.nan)}, states(), "must be finite"),
    ],
)
def test_what_cannot_be_solved_is_refused(options, state, message, as_users_run):
    equation = SphericalShallowWater(**{"dt": 600.0, "truncation": TRUNCATION, **options})
    with pytest.raises(ValueError, match=message):
        last(equation, state, 9000.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0.0}, "dt is 0.0; it must be finite and positive"),
        ({"radius": -1.0}, "radius is -1.0"),
        ({"gravity": math.inf}, "gravity is inf"),
        ({"rotation": math.nan}, "rotation is nan"),
        ({"diffusion_time": 0.0}, "diffusion_time is 0.0"),
        ({"diffusion_order": 3}, "diffusion_order is 3; it is the order of a derivative"),
        ({"truncation": 0}, "truncation is 0"),
        ({"nodes": "chebyshev"}, "nodes of axis 'lat' is 'chebyshev'; allowed: 'gauss-legendre'"),
        ({"integrator": "leapfrog"}, "leapfrog"),
        ({"courant": 3.0}, "courant is 3.0; etdrk4 is stable from above 0 to 2.83"),
        ({"courant": 0.1, "integrator": "cn_ab2"}, "cn_ab2 needs steps of one length"),
        ({"rotaton": 1.0}, "Did you mean 'rotation'"),
    ],
)
def test_options_out_of_range_are_refused_in_a_sentence(options, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        solve("spherical_shallow_water", states(), [HOUR], **{"dt": 600.0, **options})


def test_a_flow_that_breaks_down_is_named_with_its_time(as_users_run):
    state = states(2)
    state[1, 1:] *= 150
    equation = SphericalShallowWater(dt=60.0, truncation=TRUNCATION)
    frames = equation.frames(state, [k * HOUR for k in range(25)], ["calm", "storm"])
    with pytest.raises(
        ValueError, match=r"trajectory storm: the depth falls to -.* at t = \d+; it must be positive"
    ):
        list(frames)
