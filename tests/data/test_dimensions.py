"""Lines and volumes go the same way as planes: generated, stored, opened by xarray, cut into windows."""

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.generation import generate_splits
from pdesurrogate.data.store import store
from pdesurrogate.fields import Axis, DataSpec, Field, Parameter

SPECS = {
    "line": DataSpec(
        fields=(Field("velocity_x"),),
        axes=(Axis("x", 2.0),),
        dt=0.5,
        parameters=(Parameter("viscosity"),),
    ),
    "volume": DataSpec(
        fields=(Field("smoke"), Field("velocity", "m s-1", "vector", ("x", "y", "z"))),
        axes=(
            Axis("z", 1.0, "wall", "m", offset=0.5),
            Axis("y", 2.0, "wall", "m", offset=0.5),
            Axis("x", 3.0, "open", "m", offset=0.5),
        ),
        dt=0.5,
    ),
}
GRIDS = {"line": (16,), "volume": (4, 6, 8)}
COARSE = {"line": (8,), "volume": (2, 3, 4)}
REGRID = {
    "line": "stride",
    "volume": "cells",
}  # either gives what a linear field is at the points of the coarse grid


class Ramps:
    """Frames that are linear in the position, the time, the channel and the number of the trajectory."""

    def __init__(self, name, grid=None):
        self.spec, self.grid = SPECS[name], grid or GRIDS[name]
        self.times = 0.5 * np.arange(4)
        self.attributes = {"title": name, "seed": 0}

    def parameters(self, indices):
        return np.full((len(indices), self.spec.num_parameters), 0.1, dtype=np.float32)

    def frames(self, indices, device="cpu", names=None):
        axes = [torch.from_numpy(a.coordinates(n)) for a, n in zip(self.spec.axes, self.grid, strict=True)]
        ramp = sum(10.0**k * x for k, x in enumerate(torch.meshgrid(*axes, indexing="ij")))
        channels = torch.arange(self.spec.num_channels).view(-1, *[1] * self.spec.ndim)
        own = torch.tensor([i % 2**30 for i in indices]).view(-1, 1, *[1] * self.spec.ndim)
        for time in self.times:
            yield (ramp + 1000 * channels + 7 * own + 0.25 * time).float()


@pytest.fixture(params=SPECS)
def name(request):
    return request.param


@pytest.fixture
def folder(tmp_path, name):
    generate_splits(Ramps(name), tmp_path, {"train": 3, "valid": 1, "test": 2}, batch_size=2, device="cpu")
    return tmp_path


def truth(name, index, grid=None):
    return torch.stack(list(Ramps(name, grid).frames([index])), dim=1)[0]


def test_xarray_opens_them_with_named_dimensions_and_coordinates(folder, name):
    spec = SPECS[name]
    with xarray.open_dataset(folder / "train.h5", engine="h5netcdf") as dataset:
        for channel, variable in enumerate(spec.channel_names):
            assert dataset[variable].dims == ("trajectory", "time", *spec.axis_names)
            np.testing.assert_array_equal(dataset[variable][2], truth(name, 2)[:, channel])
        for axis, size in zip(spec.axes, GRIDS[name], strict=True):
            np.testing.assert_allclose(dataset[axis.name], axis.coordinates(size))
            assert dataset[axis.name].attrs["boundary"] == axis.boundary


@pytest.mark.parametrize("cache", ["ram", "none"])
@pytest.mark.parametrize("grid", [GRIDS, COARSE], ids=["stored", "coarser"])
def test_windows_hold_the_frames_that_were_generated(folder, name, grid, cache):
    data = TrajectoryDataModule(
        store(str(folder)),
        history=2,
        horizon=1,
        grid=grid[name],
        regrid=REGRID[name],
        batch_size=4,
        cache=cache,
    )
    batch = next(iter(data.test_dataloader()))
    assert batch.history.shape == (4, 2, SPECS[name].num_channels, *grid[name])
    expected = truth(name, 2**31, grid[name])
    rounding = 1e-6 if name == "volume" and grid is COARSE else 0
    torch.testing.assert_close(batch.history[1], expected[1:3], rtol=rounding, atol=0)
    torch.testing.assert_close(batch.future[1], expected[3:4], rtol=rounding, atol=0)
    assert batch.parameters.shape == (4, SPECS[name].num_parameters)


def test_training_batches_and_statistics_cover_them(folder, name):
    data = TrajectoryDataModule(store(str(folder)), history=1, horizon=2, batch_size=3)
    batches = list(data.train_dataloader())
    assert sum(len(batch.history) for batch in batches) == 3 * 2
    normaliser = data.fit_normaliser()
    frames = torch.stack([truth(name, i) for i in range(3)])
    normalised = normaliser.normalise(frames)
    over = (0, 1, *range(3, frames.ndim))
    torch.testing.assert_close(normalised.mean(over), torch.zeros(frames.shape[2]), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std(over), torch.ones(frames.shape[2]), atol=2e-2, rtol=0)


def test_a_line_is_regridded_spectrally_by_default(tmp_path):
    generate_splits(Ramps("line"), tmp_path, {"train": 1}, device="cpu")
    data = TrajectoryDataModule(store(str(tmp_path), {"train": "train.h5"}), grid=8)
    assert data.trajectories("train").frames(0, 0, 1).shape == (1, 1, 8)
    assert data.grid == (8,)
