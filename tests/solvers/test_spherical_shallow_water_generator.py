"""Ensembles on the sphere: fields, grids, reproducibility, and their way through the store."""

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.generation import generate_splits
from pdesurrogate.data.store import store
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_grid
from pdesurrogate.fields.spherical.resampling import resample_sphere
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.generator import TrajectoryGenerator
from pdesurrogate.solvers.spherical_shallow_water import SphericalShallowWater

SMALL = {
    "initial_condition": "random_harmonics",
    "truncation": 10,
    "grid": (16, 32),
    "num_frames": 3,
    "dt": 900.0,
    "dtype": "float64",
}
ALL = ("depth", "geopotential", "displacement", "vorticity", "divergence", "wind")


def build(**options):
    return GENERATORS.build("spherical_shallow_water", **{**SMALL, **options})


def solve(indices, **options):
    return torch.stack(list(build(**options).frames(indices)), 1)


def test_it_is_a_generator_of_fields_on_a_sphere():
    generator = build(fields=ALL, grid=(24, 48))
    assert isinstance(generator, TrajectoryGenerator)
    assert generator.spec.geometry == "sphere"
    assert generator.spec.channel_names == (*ALL[:-1], "wind_lon", "wind_lat")
    assert [f.kind for f in generator.spec.fields] == ["scalar"] * 3 + ["pseudoscalar", "scalar", "vector"]
    assert spherical_grid(generator.spec, generator.grid) == SphericalGrid(24, 48)
    assert generator.parameters([0, 1]).shape == (2, 0)
    assert generator.attributes["solve_grid"] == "16 x 32"


def test_stored_fields_belong_together():
    generator = build(fields=ALL, orography="mountain", initial_condition={"kind": "random_harmonics"})
    depth, geopotential, displacement, vorticity, divergence, *wind = list(generator.frames([2]))[-1][0]
    torch.testing.assert_close(geopotential, generator.attributes["gravity"] * depth)
    ground = depth - displacement  # H - b
    assert 8300 < ground.min() < 9000  # a summit of 2 km, smooth at T = 10
    assert float(ground.max()) == pytest.approx(1e4, abs=150)
    equation = SphericalShallowWater(dt=1.0, truncation=10)
    state = torch.stack([depth, vorticity, divergence])[None]
    torch.testing.assert_close(equation.wind(state)[0], torch.stack(wind), rtol=0, atol=1e-9)


def test_a_trajectory_depends_on_seed_and_index_alone():
    several = solve([3, 8, 2**31])
    torch.testing.assert_close(several[1:2], solve([8]), rtol=1e-12, atol=1e-17)
    assert not torch.equal(several[0], several[1])
    assert not torch.equal(several[1:2], solve([8], seed=1))
    assert torch.equal(solve([8]), solve([8]))


def test_frames_are_the_same_functions_on_every_grid():
    expected, spec = solve([0], fields=ALL)[0], build(fields=ALL).spec
    for grid, nodes in (((31, 48), "gauss-legendre"), ((32, 64), "equiangular"), ((33, 40), "cell-centred")):
        found = solve([0], fields=ALL, grid=grid, nodes=nodes)[0]
        back = resample_sphere(found, spec.fields, SphericalGrid(*grid, nodes), SphericalGrid(16, 32))
        error = (back - expected).abs().amax((0, 2, 3)) / expected.abs().amax((0, 2, 3))
        assert error.max() < 1e-10
    finer = solve([0], solve_grid=(20, 40))
    torch.testing.assert_close(finer[0], solve([0])[0], rtol=1e-9, atol=1e-15)


def test_a_start_leaves_out_the_first_frames():
    assert torch.equal(
        solve([1], start=1800.0, dt_frame=1800.0, num_frames=2), solve([1], dt_frame=1800.0)[:, 1:]
    )
    assert build(start=1800.0).times.tolist() == [1800.0, 5400.0, 9000.0]


@pytest.mark.parametrize(
    "options",
    [
        {"initial_condition": "galewsky"},
        {"orography": "mountain"},
        {"truncation": 9},
        {"seed": 1},
        {"dt": 450.0},
        {"courant": 0.2},
        {"integrator": "cn_ab2", "dt": 450.0},
        {"diffusion_time": 3600.0},
        {"diffusion_time": 3600.0, "diffusion_order": 4},
        {"radius": 6e6},
        {"rotation": 0.0},
        {"gravity": 9.0},
        {"dtype": "float32"},
    ],
    ids=str,
)
def test_every_option_changes_the_frames_and_is_recorded(options):
    base = {"diffusion_time": 3600.0} if "diffusion_order" in options else {}
    frames, changed = solve([0], **base), solve([0], **options)
    assert (frames[:, -1] - changed[:, -1]).abs().max() > 1e-9
    assert build(**base).attributes != build(**options).attributes


def test_they_go_through_the_store_with_true_coordinates_and_are_loaded_on_coarser_grids(tmp_path):
    generator = build(fields=("geopotential", "wind"), dtype="float32", num_frames=4)
    generate_splits(generator, tmp_path, {"train": 2, "valid": 1, "test": 1}, batch_size=2, device="cpu")
    grid = SphericalGrid(16, 32)
    with xarray.open_dataset(tmp_path / "train.h5", engine="h5netcdf") as dataset:
        assert dataset["wind_lat"].dims == ("trajectory", "time", "lat", "lon")
        np.testing.assert_allclose(dataset["lat"], np.rad2deg(grid.latitudes))
        np.testing.assert_allclose(dataset["lon"], np.rad2deg(grid.longitudes))
        assert dataset["lat"].attrs["standard_name"] == "latitude"
        assert dataset["lat"].attrs["nodes"] == "gauss-legendre"
        np.testing.assert_array_equal(dataset["geopotential"][1, 3], list(generator.frames([1]))[3][0, 0])
    data = TrajectoryDataModule(store(str(tmp_path)), history=1, horizon=1, grid=(8, 16), batch_size=2)
    batch = next(iter(data.test_dataloader()))
    assert batch.history.shape[1:] == (1, 3, 8, 16)
    truth = next(iter(generator.frames([2**31])))
    expected = resample_sphere(truth, generator.spec.fields, grid, SphericalGrid(8, 16))
    torch.testing.assert_close(batch.history[0], expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": ("height",)}, "fields names 'height'. .*Allowed: depth, geopotential"),
        ({"fields": ("vortcity",)}, "Did you mean 'vorticity'"),
        ({"fields": ()}, "give at least one"),
        ({"fields": ("wind", "wind")}, "each once"),
        ({"grid": (8, 16)}, "T = 10 was asked for on 8 gauss-legendre latitudes .* at least 11 x 21 points"),
        ({"grid": (16, 32), "nodes": "equiangular"}, "T = 10 was asked for on 16 equiangular"),
        ({"solve_grid": (15, 32)}, "products of 2 fields exactly up to T = 9. .* at least 16 x 31"),
        ({"grid": 64}, "grid is 64; give the numbers of latitudes and longitudes"),
        ({"grid": (64, 0)}, r"grid\[1\] is 0"),
        ({"dt": 1000.0}, "dt = 1000.0 does not divide"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"truncation": 0}, "truncation is 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"truncaton": 10}, "Did you mean 'truncation'"),
        ({"initial_condition": "galewski"}, "Did you mean 'galewsky'"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(options, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_ground_above_the_surface_is_refused_with_the_trajectory(as_users_run):
    generator = build(orography={"kind": "mountain", "height": 30000.0})
    with pytest.raises(ValueError, match=r"trajectory 5 of train: the depth falls to -"):
        next(iter(generator.frames([5], names=["5 of train"])))
