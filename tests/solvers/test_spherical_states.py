"""Initial states on the sphere: balance, distributions, reproducibility, and the ground below them."""

import math

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.resampling import resample_sphere
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.solvers import SPHERICAL_STATES
from pdesurrogate.solvers.orography import build_orography
from pdesurrogate.solvers.spherical_shallow_water import SphericalShallowWater
from pdesurrogate.solvers.spherical_states import (
    GalewskyJet,
    RandomHarmonics,
    RandomWinds,
    SphericalState,
    build_state,
)

EQUATION = SphericalShallowWater(dt=600.0, truncation=42)
SIZES = (64, 128)


def mean(field, grid):
    return (field * torch.tensor(grid.weights)[:, None]).sum((-2, -1)) / 2 / grid.num_lon


@pytest.mark.parametrize("kind", SPHERICAL_STATES.names())
def test_a_state_depends_on_seed_and_index_alone_and_is_a_wind_over_deep_water(kind):
    ensemble = build_state(kind)
    assert isinstance(ensemble, SphericalState)
    options = {"speed": [60.0, 80.0], "bump_longitude": [0.0, 360.0]} if kind == "galewsky" else {}
    ensemble = build_state({"kind": kind, **options})
    equation = SphericalShallowWater(dt=1.0, truncation=15)
    state = ensemble.state(equation, (24, 48), 0, 3)
    assert state.shape == (3, 24, 48)
    assert torch.equal(state, ensemble.state(equation, (24, 48), 0, 3))
    for seed, index in ((1, 3), (0, 4)):
        assert not torch.equal(state, ensemble.state(equation, (24, 48), seed, index))
    assert state[0].min() > 5000
    assert (mean(state[1:], equation.grid_of((24, 48))).abs() < 1e-12 * state[1].abs().max()).all()


def test_the_jet_without_its_bump_is_in_balance():
    state = GalewskyJet(bump_height=0.0).state(EQUATION, SIZES, 0, 0)[None]
    equation, grid = EQUATION, EQUATION.grid_of(SIZES)
    assert float(mean(state[0, 0], grid)) == pytest.approx(1e4, abs=1e-4)
    east, north = equation.wind(state)[0]
    assert float(east.max()) == pytest.approx(80.0, abs=2.5)
    assert north.abs().max() < 1e-9
    south = torch.tensor(grid.latitudes) < math.pi / 7 - 0.1
    assert east[south].abs().max() < 1.0  # what the truncation of the jet's kinks leaves
    (end,) = equation.frames(state, [2 * 3600.0])
    assert (end - state)[0, 0].abs().max() < 1.0
    unbalanced = state.clone()
    unbalanced[:, 0] = 1e4
    (end,) = equation.frames(unbalanced, [2 * 3600.0])
    assert (end - unbalanced)[0, 0].abs().max() > 50


def test_the_bump_stands_where_it_is_put_and_is_wider_in_torch_harmonics():
    fine = SphericalShallowWater(dt=1.0, truncation=85)
    sizes = (128, 256)
    grid = fine.grid_of(sizes)
    flat = GalewskyJet(bump_height=0.0).state(fine, sizes, 0, 0)[0]

    def bump(**options):
        return GalewskyJet(**options).state(fine, sizes, 0, 0)[0] - flat

    narrow, wide = bump(bump_longitude=90.0), bump(bump_longitude=90.0, bump="torch-harmonics")
    row, column = divmod(int(narrow.argmax()), sizes[1])
    assert math.degrees(grid.longitudes[column]) == pytest.approx(90.0, abs=1.5)
    assert math.degrees(grid.latitudes[row]) == pytest.approx(45.0, abs=1.5)
    assert float(narrow.max()) == pytest.approx(120 * math.cos(math.pi / 4), rel=0.05)
    # exp(-(x/β)²) and exp(-x²/β) have integrals in the ratio of sqrt(β), times a little for cos φ.
    ratio = float(mean(narrow, grid) / mean(wide, grid))
    assert ratio == pytest.approx(math.sqrt(1 / 15), rel=0.06)


def test_the_jet_of_torch_harmonics_is_ours_but_for_its_mean_depth(shared_data):
    file = np.load(shared_data / "reference_runs" / "torchharmonics0.9.3_galewsky_T42_64x128.npz")
    height, vorticity, _ = torch.from_numpy(file["fields"][0])
    found = GalewskyJet(bump="torch-harmonics", bump_longitude=180.0).state(EQUATION, SIZES, 0, 0)
    assert (found[1] - vorticity).norm() / vorticity.norm() < 1e-6
    grid = EQUATION.grid_of(SIZES)
    found, expected = (h - mean(h, grid) for h in (found[0], height / EQUATION.gravity))
    # Their balance is solved for within the truncation, ours is cut to it.
    assert (found - expected).norm() / expected.norm() < 1e-3


def test_random_harmonics_have_the_variance_of_the_formula_and_are_centred():
    equation, sizes, truncation = SphericalShallowWater(dt=1.0, truncation=20), (32, 64), 20
    ensemble = RandomHarmonics(amplitude=100.0, mach=0.3, max_degree=29, mean_depth=8000.0)
    grid = equation.grid_of(sizes)
    states = torch.stack([ensemble.state(equation, sizes, 0, i) for i in range(200)])
    states[:, 0] -= 8000.0
    share = ((truncation + 1) ** 2 - (truncation + 1) / 2) / (30 * 31)
    wave = 0.3 * math.sqrt(equation.gravity * 8000.0) / equation.radius
    variance = torch.tensor([100.0**2, wave**2, wave**2]) * share
    found = mean(states.square(), grid).mean(0)
    assert (found / variance).tolist() == pytest.approx([1, 1, 1], abs=0.02)
    correlation = torch.corrcoef(states.transpose(0, 1).flatten(1))
    assert (correlation - torch.eye(3)).abs().max() < 0.02
    assert states.mean((0, 2, 3)).abs().max() < 0.02 * 100


def test_random_harmonics_at_a_larger_truncation_are_the_same_and_more():
    coarse, fine = (SphericalShallowWater(dt=1.0, truncation=t) for t in (10, 21))
    low = RandomHarmonics().state(coarse, (32, 64), 5, 7)
    high = RandomHarmonics().state(fine, (32, 64), 5, 7)
    transform = SphericalTransform(fine.grid_of((32, 64)), 10, dtype=torch.float64)
    cut = transform.synthesise(transform.analyse(high))
    torch.testing.assert_close(cut, low, rtol=0, atol=1e-10)
    assert (high - low)[0].abs().max() > 10
    limited = RandomHarmonics(max_degree=10).state(fine, (32, 64), 5, 7)
    ratio = math.sqrt(120 * 121 / (11 * 12))
    torch.testing.assert_close(limited[0] - 1e4, ratio * (low[0] - 1e4), rtol=0, atol=1e-8)


def test_random_winds_are_those_of_their_formula():
    equation = SphericalShallowWater(dt=1.0, truncation=20)
    for north_first in (True, False):
        equation = SphericalShallowWater(dt=1.0, truncation=20, is_north_first=north_first)
        state = RandomWinds().state(equation, (32, 64), 0, 1)
        assert (state[0] - 1e4).abs().max() < 1e-8
        assert not state[2].any()
        south = state if north_first else state.flip(-2)
        if north_first:
            expected = south
    torch.testing.assert_close(south, expected, rtol=0, atol=1e-12)
    # The wave of zonal wavenumber 6 north of the equator is common to all members.
    grid = equation.grid_of((32, 64))
    members = torch.stack([RandomWinds("zonal").state(equation, (32, 64), 0, i)[1] for i in range(60)])
    sixth = (members.mean(0) * torch.cos(6 * torch.tensor(grid.longitudes))).mean(-1) * 2
    phi = torch.tensor(grid.latitudes)
    wave = 0.5e-4 * phi.cos() * torch.exp(-(((phi.rad2deg() - 45) / 10) ** 2))
    assert (sixth - wave)[phi.abs() < 1.2].abs().max() < 0.15 * wave.max()


def test_the_layout_as_run_varies_along_longitude_and_the_zonal_one_along_latitude():
    grid = SphericalGrid(32, 64)
    winds = {
        layout: np.mean(
            [RandomWinds(layout)._wind(np.random.default_rng(i), grid) for i in range(400)], axis=0
        )
        for layout in ("as_run", "zonal")
    }
    profile = winds["zonal"].mean(1)
    phi = grid.latitudes
    # Means over the draws: c0 = 100, c1 r = 2.5, c2 = c3 = 10.
    expected = 100 + 2.5 * np.cos(phi) - 10 * np.cos(phi) ** 2 + 10 * np.sin(phi) * np.cos(phi)
    np.testing.assert_allclose(profile, expected, atol=3.5)
    np.testing.assert_allclose(winds["as_run"].mean(0), np.tile(profile, 2), atol=0.5)
    assert np.ptp(winds["as_run"].mean(1)) < 0.5 < np.ptp(winds["zonal"].mean(1))


def test_a_mountain_is_a_cone_cut_to_the_truncation():
    grid = SphericalGrid(96, 192)
    ground, text = build_orography("mountain", grid, 63)
    assert text == "mountain"
    row, column = divmod(int(ground.argmax()), 192)
    assert math.degrees(grid.latitudes[row]) == pytest.approx(30, abs=1.5)
    assert math.degrees(grid.longitudes[column]) == pytest.approx(270, abs=1.5)
    assert float(ground.max()) == pytest.approx(2000, rel=0.1)
    assert ground[-40:].abs().max() < 20
    assert build_orography(None, grid, 63) is None


def test_heights_of_a_file_are_interpolated_onto_the_grid(tmp_path):
    grid, source = SphericalGrid(24, 48), SphericalGrid(90, 180, "cell-centred")
    transform = SphericalTransform(source, 3, dtype=torch.float64)
    modes = torch.zeros(4, 4, dtype=torch.complex128)
    modes[0, 0], modes[2, 1], modes[3, 3] = 3000.0, 500.0, 300.0j
    heights = transform.synthesise(modes)
    file = xarray.Dataset(
        {"orography": (("lat", "lon"), heights.numpy())},
        {"lat": np.rad2deg(source.latitudes), "lon": np.rad2deg(source.longitudes) - 180.0},
    )
    file.to_netcdf(tmp_path / "ground.nc", engine="h5netcdf")
    found, text = build_orography({"path": str(tmp_path / "ground.nc")}, grid, 15)
    expected = resample_sphere(heights.roll(90, -1)[None], EQUATION.fields[:1], source, grid)[0]
    assert (found - expected).abs().max() < 3.0
    assert text.startswith("ground.nc (")
    file["orography"] = 2 * file["orography"]
    file.to_netcdf(tmp_path / "ground.nc", engine="h5netcdf")
    assert build_orography({"path": str(tmp_path / "ground.nc")}, grid, 15)[1] != text
    file.rename(orography="height").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=r"other.nc holds .*height.*; needed is the variable orography"):
        build_orography({"path": str(tmp_path / "other.nc")}, grid, 15)
    closed = file.assign_coords(lon=np.linspace(0, 360, 180))
    closed.to_netcdf(tmp_path / "closed.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="without the end of the circle; they run from 0 to 360"):
        build_orography({"path": str(tmp_path / "closed.nc")}, grid, 15)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_state("galewski"), "Did you mean 'galewsky'"),
        (lambda: build_state({"mach": 0.2}), "initial_condition needs a kind; given: mach"),
        (lambda: build_state({"kind": "random_harmonics", "match": 0.2}), "Did you mean 'mach'"),
        (lambda: GalewskyJet(bump="square"), "bump is 'square'; allowed: original, torch-harmonics"),
        (lambda: GalewskyJet(speed=[90.0, 80.0]), "speed is .*; give one number, or .low, high."),
        (lambda: GalewskyJet(bump_latitude=[0.0, 100.0]), "one number from -90 to 90"),
        (lambda: RandomHarmonics(mean_depth=0.0), "mean_depth is 0.0; it must be finite and positive"),
        (lambda: RandomHarmonics(max_degree=0), "max_degree is 0; it must be an integer from 1"),
        (lambda: RandomWinds("rows"), "layout is 'rows'; allowed: as_run, zonal"),
        (lambda: RandomWinds(mean_depth=-1.0), "mean_depth is -1.0"),
        (
            lambda: RandomWinds().state(SphericalShallowWater(dt=1.0, truncation=10), (16, 32), 0, 0),
            "noise of degree 14; the truncation is T = 10",
        ),
        (lambda: build_orography("alps", SphericalGrid(8, 16), 5), "orography is 'alps'; give null"),
        (lambda: build_orography({"path": "none.nc"}, SphericalGrid(8, 16), 5), "no orography none.nc"),
        (
            lambda: build_orography({"kind": "mountain", "hight": 1.0}, SphericalGrid(8, 16), 5),
            "Did you mean 'height'",
        ),
        (
            lambda: build_orography({"kind": "mountain", "radius": 0.0}, SphericalGrid(8, 16), 5),
            "radius of the mountain is 0.0 degrees",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(build, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        build()
