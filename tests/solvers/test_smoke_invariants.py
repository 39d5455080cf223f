"""What smoke keeps (continuity, symmetry, bounds, dimension), and what it refuses."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.solvers import solve
from pdesurrogate.solvers.inflow import Inflow
from pdesurrogate.solvers.smoke import Smoke
from pdesurrogate.solvers.smoke_noise import SmokeNoise
from pdesurrogate.solvers.staggered import StaggeredBox

# Annotations are checked in the tests of the generator; in these solutions that would take much of the time.
pytestmark = pytest.mark.usefixtures("as_users_run")

SCHEMES = {
    "pdearena": {"order": "pdearena", "scheme": "semi_lagrangian"},
    "first": {"scheme": "semi_lagrangian"},
    "second": {"scheme": "second_order"},
}
EACH = pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
BOXES = [((24, 16), "wall"), ((24, 16), "open"), ((10, 12, 8), "wall"), ((10, 12, 8), "open")]


def random_smoke(num=2, grid=(24, 20), dtype=torch.float64):
    lengths = tuple(0.25 * n for n in grid)
    noise = SmokeNoise(max(lengths) / 2, 3.0, lengths)
    state = torch.zeros(num, 1 + len(grid), *grid, dtype=dtype)
    state[:, 0] = torch.stack([noise.sample(0, i, grid) for i in range(num)]).abs()
    return state, {"lengths": lengths, "dt": 0.25}


def puff(grid, dtype=torch.float64):
    """A round cloud low in the middle of a box with sides of a quarter of the cells."""
    state = torch.zeros(1, 1 + len(grid), *grid, dtype=dtype)
    square = torch.zeros(grid, dtype=dtype)
    for axis, n in enumerate(grid):
        place = 0.25 * (torch.arange(n, dtype=dtype) + 0.5 - (0.3 if axis == 0 else 0.5) * n)
        square = square + place.square().view(-1, *[1] * (len(grid) - 1 - axis))
    state[0, 0] = torch.exp(-square)
    return state, {"lengths": tuple(0.25 * n for n in grid), "dt": 0.25}


def plume(grid=(24, 16, 16), **changes):
    lengths = tuple(0.25 * n for n in grid)
    texture = torch.randn(16, *grid[1:], dtype=torch.float64)
    inflow = Inflow(radius=1.0, speed=1.0, noise=0.3, texture=texture, depth=4.0)
    options = {"lengths": lengths, "dt": 0.25, "top": "open", "inflow": inflow, **changes}
    return Smoke(**options).project(torch.zeros(1, 1 + len(grid), *grid, dtype=torch.float64)), options


@pytest.mark.parametrize(("grid", "top"), BOXES)
def test_a_projection_leaves_no_divergence_repeats_itself_and_is_orthogonal(grid, top):
    lengths = tuple(float(n) for n in range(2, 2 + len(grid)))
    box = StaggeredBox(grid, lengths, top)
    faces = box.faces_of(torch.randn(3, len(grid), *grid, dtype=torch.float64))
    for axis, component in enumerate(faces):
        box.set_walls(component, torch.zeros_like(component), axis)
    projected = box.project(faces)
    assert box.divergence(projected).abs().max() < 1e-11
    for once, twice in zip(projected, box.project(projected), strict=True):
        torch.testing.assert_close(twice, once, rtol=0, atol=1e-12)
    removed = [v - p for v, p in zip(faces, projected, strict=True)]
    weights = [torch.ones_like(v) for v in faces]
    if top == "open":
        weights[0][:, -1] = 0.5  # half a cell of fluid belongs to the last face
    product = sum(float((w * p * r).sum()) for w, p, r in zip(weights, projected, removed, strict=True))
    assert abs(product) < 1e-10
    assert all(float(r.abs().max()) > 0.1 for r in removed)


@EACH
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_flow_has_no_divergence_and_does_not_cross_walls(options, dtype, bound):
    state, box = random_smoke(dtype=dtype)
    for frame in Smoke(**box, **options).frames(state, [1.0, 5.0]):
        cells = StaggeredBox((24, 20), box["lengths"])
        assert cells.divergence(cells.faces_of(frame[:, 1:])).abs().max() < bound * frame[:, 1:].abs().max()
        assert not frame[:, 1, :, 0].any()
        assert not frame[:, 2, 0].any()
    assert frame[:, 1:].abs().max() > 0.3


@EACH
def test_a_puff_on_the_middle_line_rises_as_its_own_mirror_image(options):
    state, box = puff((24, 20))
    (end,) = Smoke(**box, **options).frames(state, [5.0])
    torch.testing.assert_close(end[:, 0], end[:, 0].flip(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(end[:, 2], end[:, 2].flip(-1), rtol=0, atol=1e-12)
    inner = end[:, 1, :, 1:]
    torch.testing.assert_close(inner, -inner.flip(-1), rtol=0, atol=1e-12)
    height = (end[0, 0].sum(1) * torch.arange(24)).sum() / end[0, 0].sum()
    assert height > 0.3 * 24 + 2
    assert inner.abs().max() > 0.1


def test_a_puff_in_a_cube_has_the_symmetries_of_the_square():
    """With linear interpolation; the limiter of cubics goes by one axis after the other and knows their order."""
    state, box = puff((10, 8, 8))
    (end,) = Smoke(**box, scheme="semi_lagrangian").frames(state, [2.0])
    density = end[0, 0]
    torch.testing.assert_close(density, density.flip(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(density, density.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(end[0, 1], end[0, 2].mT, rtol=0, atol=1e-12)
    assert end[0, 1].abs().max() > 0.02


@pytest.mark.parametrize(
    "options",
    [
        {**SCHEMES["pdearena"], "viscosity": 0.0},
        {**SCHEMES["first"], "walls": "free_slip"},
        {"walls": "free_slip"},
    ],
)
def test_three_dimensions_are_two_where_nothing_varies_along_the_third(options):
    """PDEArena's walls hold the fluid, so that without viscosity alone nothing varies along them."""
    flat, box = puff((16, 12))
    (plane,) = Smoke(**box, **options).frames(flat, [2.0])
    deep = torch.zeros(1, 4, 16, 6, 12, dtype=torch.float64)
    deep[:, 0] = flat[:, 0, :, None]
    options = {**options, "dt": 0.25, "lengths": (4.0, 1.5, 3.0)}
    (volume,) = Smoke(**options).frames(deep, [2.0])
    for channel, same in ((0, 0), (1, 1), (3, 2)):  # density, x, and z which is y in the plane
        expected = plane[:, same, :, None].expand_as(volume[:, channel])
        torch.testing.assert_close(volume[:, channel], expected, rtol=0, atol=1e-11)
    assert volume[:, 2].abs().max() < 1e-12


@EACH
def test_solutions_go_on_from_any_frame(options):
    state, box = random_smoke()
    equation = Smoke(**box, **options)
    middle, end = equation.frames(state, [1.0, 2.5])
    (later,) = equation.frames(middle, [1.5])
    torch.testing.assert_close(later, end, rtol=0, atol=1e-12)


def test_plumes_go_on_from_any_frame_with_the_last_face_found_by_continuity():
    state, options = plume((16, 10, 10))
    middle, end = Smoke(**options).frames(state, [2.0, 3.0])
    inflow = dataclasses.replace(options.pop("inflow"), start=2.0)
    (later,) = Smoke(**options, inflow=inflow).frames(middle, [1.0])
    torch.testing.assert_close(later, end, rtol=0, atol=1e-11)
    assert (end - middle).abs().max() > 0.1


@EACH
def test_a_trajectory_does_not_depend_on_its_neighbours_or_their_buoyancy(options):
    state, box = random_smoke(num=3)
    buoyancy = torch.tensor([0.2, 0.5, 0.35])
    (together,) = Smoke(**box, **options, buoyancy=buoyancy).frames(state, [2.0])
    for i in range(3):
        (alone,) = Smoke(**box, **options, buoyancy=float(buoyancy[i])).frames(state[i : i + 1], [2.0])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


@EACH
def test_single_precision_follows_double(options):
    state, box = random_smoke()
    (double,) = Smoke(**box, **options).frames(state, [2.0])
    (single,) = Smoke(**box, **options).frames(state.float(), [2.0])
    assert single.dtype == torch.float32
    assert (single - double).abs().max() < 2e-4 * double.abs().max()


@EACH
def test_density_is_never_negative_and_linear_interpolation_adds_no_maximum(options):
    state, box = random_smoke()
    state[:, 0] = (state[:, 0] > 0.8).double()  # smoke with sharp edges
    for frame in Smoke(**box, **options).frames(state, [0.5 * k for k in range(1, 13)]):
        assert frame[:, 0].min() >= 0
        assert frame[:, 0].max() <= (1.0 if options["scheme"] == "semi_lagrangian" else 1.3)


def test_mass_is_conserved_in_the_limit_only():
    """Semi-Lagrangian transport has no fluxes: the mean density drifts, ever less with finer steps and cells."""
    drifts = []
    for cells in (16, 32, 64):
        state, box = puff((cells, cells))
        box = {"lengths": (4.0, 4.0), "dt": 4.0 / cells}
        noise = SmokeNoise(2.0, 3.0, (4.0, 4.0)).sample(0, 0, (cells, cells))
        state[:, 0] = 1 + 0.3 * noise / noise.abs().max()
        (end,) = Smoke(**box, viscosity=0.002).frames(state, [3.0])
        drifts.append(abs(float(end[:, 0].mean() / state[:, 0].mean()) - 1))
    assert 1e-6 < drifts[-1] < 2e-3, drifts
    assert drifts[-1] < drifts[0] / 3, drifts


def test_smoke_that_enters_is_what_rises_and_what_leaves_through_an_open_top():
    """Without walls in its way: mass grows at the jet's rate until the plume arrives at the top."""
    inflow = Inflow(radius=1.0, speed=1.0, density=0.5)
    state, options = plume(inflow=inflow, buoyancy=0.05, scheme="semi_lagrangian")
    frames = list(Smoke(**options).frames(state, [1.0, 2.0, 3.0, 20.0]))
    cell = 0.25**3
    mass = [float(frame[:, 0].sum()) * cell for frame in frames]
    flux = 0.5 * float(inflow.share((16, 16), (4.0, 4.0)).sum()) * 0.25**2
    assert flux == pytest.approx(0.5 * math.pi, rel=0.05)
    assert np.diff(mass[:3]) == pytest.approx([flux, flux], rel=0.2)
    assert mass[3] < 15 * flux
    assert frames[3][0, 0, -1].max() > 0.1
    box = StaggeredBox((24, 16, 16), options["lengths"], "open")
    faces = box.faces_of(frames[3][:, 1:])
    assert box.divergence(faces).abs().max() < 1e-11
    through = [float(faces[0][:, k].sum()) for k in (0, 12, -1)]
    assert through == pytest.approx([through[0]] * 3, rel=1e-11)


def test_the_texture_of_an_inflow_is_carried_through_the_disc_at_the_speed_of_the_jet():
    texture = torch.randn(8, 6, 6, dtype=torch.float64)
    inflow = Inflow(radius=1.0, speed=2.0, density=3.0, noise=0.1, texture=texture, depth=4.0)
    for time, layer in ((0.0, 0), (0.25, 7), (0.5, 6), (2.0, 0), (2.25, 7)):
        torch.testing.assert_close(inflow.density_at(time, 1, (6, 6))[0], 3 * (1 + 0.1 * texture[layer]))
    later = dataclasses.replace(inflow, start=0.5)
    torch.testing.assert_close(later.density_at(0.6, 1, (6, 6)), inflow.density_at(1.1, 1, (6, 6)))


@pytest.mark.parametrize(
    "change",
    [
        {"buoyancy": 0.4},
        {"viscosity": 0.02},
        {"diffusivity": 0.02},
        {"dt": 0.5},
        {"walls": "free_slip"},
        {"top": "open"},
        {"scheme": "semi_lagrangian"},
        {"lengths": (6.5, 5.0)},
    ],
)
def test_every_option_changes_the_flow(change):
    state, box = random_smoke(1)
    (plain,) = Smoke(**box).frames(state, [2.0])
    (changed,) = Smoke(**{**box, **change}).frames(state, [2.0])
    assert (changed - plain).abs().max() > 1e-3


def test_labelled_smoke_is_solved_by_name():
    state, box = random_smoke(2)
    options = {**box, "buoyancy": 0.3, "viscosity": 0.005}
    y, x = (0.25 * (np.arange(n) + 0.5) for n in (24, 20))
    names = ("density", "velocity_x", "velocity_y")
    variables = {name: (("trajectory", "y", "x"), state[:, k].numpy()) for k, name in enumerate(names)}
    found = solve("smoke", xarray.Dataset(variables, {"y": y, "x": x}), [0.5, 1.0], **options)
    expected = solve("smoke", state, [0.5, 1.0], **options)
    for k, name in enumerate(names):
        np.testing.assert_array_equal(found[name], expected[:, :, k])
    assert "lower faces" in found["velocity_x"].attrs["long_name"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": (1.0,)}, r"for each axis: \(y, x\) or \(z, y, x\)\."),
        ({"lengths": (1.0, -1.0)}, "L_x is -1.0"),
        ({"dt": 0.0}, "dt is 0.0"),
        ({"viscosity": -1.0}, "viscosity is -1.0"),
        ({"diffusivity": math.inf}, "diffusivity is inf"),
        ({"buoyancy": math.nan}, "buoyancy is nan"),
        ({"order": "pdarena"}, "Did you mean 'pdearena'"),
        ({"order": "pdearena"}, "first-order scheme"),
        (
            {"order": "pdearena", "scheme": "semi_lagrangian", "walls": "free_slip"},
            "PDEArena's hold the fluid",
        ),
        ({"scheme": "third_order"}, "Allowed: second_order, semi_lagrangian"),
        ({"top": "periodic"}, "top is 'periodic'. Allowed: wall, open"),
        ({"walls": "sticky"}, "walls is 'sticky'"),
        ({"inflow": Inflow(radius=1.0, speed=1.0)}, "what enters must leave"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Smoke(**options)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda q: q.index_fill(1, torch.tensor([0]), -0.5),
            "trajectory a: .* negative density -0.5",
        ),
        (
            lambda q: q.index_put((torch.tensor(1),) * 3, torch.tensor(math.nan)),
            "trajectory b: .*not finite",
        ),
        (
            lambda q: q.index_fill(1, torch.tensor([1]), 1.0),
            "velocity_x is 1 off at index 0 of x, which is a wall",
        ),
        (
            lambda q: q.index_fill(1, torch.tensor([2]), 1.0),
            "velocity_y is 1 off at index 0 of y, which is a wall",
        ),
        (lambda q: q[:, :2], "needs \\(batch, 3, y, x\\)"),
        (lambda q: q[..., None], "A box in 2 dimensions"),
        (lambda q: q[..., :3], "at least 4 cells"),
        (lambda q: q.half(), "allowed: float32 and float64"),
    ],
)
def test_states_that_are_no_smoke_are_refused_by_trajectory_and_time(spoil, message):
    state, box = random_smoke(2, dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        list(Smoke(**box).frames(spoil(state), [1.0], ["a", "b"]))


def test_steps_buoyancies_and_inflows_that_do_not_fit_are_refused():
    state, box = random_smoke(2)
    for options, times, message in (
        ({}, [0.3], "dt = 0.25 does not divide the time"),
        ({"viscosity": 0.1}, [1.0], "stability bound 0.156 of the viscosity"),
        ({"diffusivity": 0.1}, [1.0], "stability bound 0.156 of the diffusivity"),
        ({"buoyancy": torch.ones(3)}, [1.0], "3 buoyancies were given for 2"),
        ({"top": "open", "inflow": Inflow(9.0, 1.0)}, [1.0], "reaches beyond the walls"),
        (
            {"top": "open", "inflow": Inflow(1.0, 1.0, texture=torch.ones(3, 7))},
            [1.0],
            "must be \\(layer, 20\\)",
        ),
        ({"top": "open", "inflow": Inflow(1.0, 1.0)}, [1.0], "an inflow of another speed"),
        ({"top": "open", "inflow": Inflow(1.0, 1.0, centre=(0.5, 0.5))}, [1.0], "the bottom has 1 axes"),
    ):
        state[:, 1, :, 5] = 1e-3
        with pytest.raises(ValueError, match=message):
            list(Smoke(**{**box, **options}).frames(state, times))
    for options, message in (
        ({"radius": 0.0}, "radius of the inflow is 0.0"),
        ({"noise": 0.5}, "no texture for it"),
        ({"centre": (1.5,)}, "fractions of the sides"),
    ):
        with pytest.raises(ValueError, match=message):
            Inflow(**{"radius": 1.0, "speed": 1.0, **options})


def test_a_state_that_overflows_is_told_by_trajectory_and_time():
    state, box = random_smoke(2, dtype=torch.float32)
    state[1, 0] *= 1e37
    with pytest.raises(ValueError, match="trajectory b became NaN or infinite between t = 0 and t = 50"):
        list(Smoke(**box, buoyancy=50.0).frames(state, [50.0], ["a", "b"]))


def test_noise_is_the_same_function_on_every_grid_and_of_unit_variance():
    noise = SmokeNoise(3.0, 2.0, (4.0, 8.0))
    fine, coarse = noise.sample(0, 3, (32, 64)), noise.sample(0, 3, (16, 32))
    assert rms_difference(fine[::2, ::2], coarse) < 0.02  # modes that the coarse grid lacks
    for field in (fine, coarse, SmokeNoise(3.0, 2.0, (4.0,) * 3).sample(0, 3, (8, 9, 10))):
        assert float(field.square().mean()) == pytest.approx(1.0, abs=1e-12)
        assert abs(float(field.mean())) < 1e-12
    samples = [noise.sample(*key, (16, 32)) for key in ((0, 0), (0, 1), (1, 0))]
    assert all((a - b).abs().max() > 0.5 for a, b in itertools.combinations(samples, 2))
    assert (noise.sample(0, 3, (16, 32), stream=3) - coarse).abs().max() > 0.5


def test_amplitudes_of_noise_fall_with_its_exponent():
    smooth = torch.stack([SmokeNoise(8.0, 1.0, (8.0, 8.0)).sample(0, i, (32, 32)) for i in range(400)])
    power = torch.fft.fft2(smooth).abs().square().mean(0)
    for found in (power[0, 4], power[4, 0]):  # E|ĝ_k|² ~ (k²)^{-2s} in every direction
        assert float(power[0, 2] / found) == pytest.approx(16.0, rel=0.25)
    assert float(power[0, 2] / power[2, 2]) == pytest.approx(4.0, rel=0.25)


def rms_difference(a, b):
    return float((a - b).square().mean().sqrt())


def test_noise_without_a_wave_is_refused():
    with pytest.raises(ValueError, match="has no wave on the grid"):
        SmokeNoise(0.1, 2.0, (8.0, 8.0)).sample(0, 0, (8, 8))
    with pytest.raises(ValueError, match="scale of the noise is 0"):
        SmokeNoise(0.0, 2.0, (8.0, 8.0))
