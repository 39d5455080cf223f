"""Labelled data in, labelled forecasts out: the numbers of a rollout, the names of what came in."""

import importlib.util
import tracemalloc

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.deploy.labelled_times import continued, elapsed
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser, Parameter
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("vorticity", "s-1", "pseudoscalar"), Field("bed", "m", is_static=True)),
    axes=(Axis("y", 1.0, units="m"), Axis("x", 2.0, units="m")),
    dt=0.5,
    time_units="s",
    parameters=(Parameter("viscosity", "m2 s-1"),),
)
SPHERE = DataSpec((Field("height", "m"),), spherical_axes(), 1.0, "h", geometry="sphere")

needs_dask = pytest.mark.skipif(importlib.util.find_spec("dask") is None, reason="needs dask")


class Mixing(torch.nn.Module):
    """Frames that depend on both frames of the history, the static field, the parameter, and on which axis is which."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.calls = 0

    def check_grid(self, grid: tuple[int, ...]) -> None:
        if grid[0] < 4:
            raise ValueError(f"the grid {grid} is too coarse.")

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        first, last = history[:, 0], history[:, -1]
        frames = []
        for _ in range(self.horizon):
            bed = last[:, -1:]
            mixed = 0.9 * last.roll(1, -1) - 0.1 * first.roll(1, -2) + 0.1 * bed
            first, last = (
                last,
                mixed + 0.01 * parameters[:, :1, None, None].clamp(-1, 1) if len(parameters.T) else mixed,
            )
            frames.append(last)
        return torch.stack(frames, dim=1)


def make(spec: DataSpec = SPEC, history: int = 2, horizon: int = 3) -> Surrogate:
    channels, parameters = spec.num_channels, spec.num_parameters
    normaliser = Normaliser([0.2] * channels, [2.0] * channels, [2e-3] * parameters, [1e-3] * parameters)
    return Surrogate(spec, normaliser, Mixing(horizon), history=history, horizon=horizon)


@pytest.fixture
def dataset() -> xarray.Dataset:
    """Four frames of three members on 8 x 12 points, with the axes of space in the wrong order and more besides."""
    rng = np.random.default_rng(0)
    return xarray.Dataset(
        {
            "vorticity": (
                ("time", "member", "x", "y"),
                rng.normal(size=(4, 3, 12, 8)).astype(np.float32),
                {"units": "1/s", "comment": "from a test"},
            ),
            "bed": (("y", "x"), rng.normal(size=(8, 12)), {"units": "m"}),
            "viscosity": ("member", [1e-3, 2e-3, 3e-3], {"units": "m2 s-1"}),
            "something_else": ("time", np.zeros(4)),
        },
        {
            "time": ("time", 10 + 0.5 * np.arange(4), {"units": "s"}),
            "member": [10, 20, 30],
            "y": np.arange(8) / 8,
            "x": ("x", np.arange(12) / 6, {"units": "m", "long_name": "eastward"}),
            "who": ("member", ["a", "b", "c"]),
        },
        {"title": "three flows"},
    )


@pytest.fixture
def rolled_out(dataset):
    """The rollout of the dataset's last two frames as an array ``(member, step, y, x)``."""
    vorticity = dataset.vorticity.transpose("member", "time", "y", "x").values[:, 2:]
    bed = np.broadcast_to(dataset.bed.values.astype(np.float32), (3, 2, 8, 12))
    history = torch.from_numpy(np.stack([vorticity, bed], axis=2))
    parameters = torch.tensor(dataset.viscosity.values, dtype=torch.float32)[:, None]
    return torch.stack(list(make().rollout(history, parameters, 7)), dim=1)[:, :, 0].numpy()


def test_a_forecast_is_the_rollout_with_the_names_of_what_came_in(dataset, rolled_out):
    forecast = make().predict(dataset, 7, batch_size=2)
    assert forecast.vorticity.dims == ("member", "lead_time", "y", "x")
    np.testing.assert_allclose(forecast.vorticity.values, rolled_out, rtol=1e-5, atol=1e-6)
    for name in ("member", "y", "x", "who"):
        xarray.testing.assert_identical(forecast[name], dataset[name])
    assert forecast.lead_time.values.tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert forecast.lead_time.attrs["units"] == "s"
    assert forecast.time.values.tolist() == [12.0, 12.5, 13.0, 13.5, 14.0, 14.5, 15.0]
    assert forecast.time.attrs == dataset.time.attrs
    assert forecast.vorticity.attrs == dataset.vorticity.attrs
    assert forecast.attrs["title"] == "three flows"
    assert "something_else" not in forecast
    xarray.testing.assert_identical(forecast.bed, dataset.bed)
    np.testing.assert_allclose(forecast.viscosity, dataset.viscosity, rtol=1e-6)


def test_a_forecast_to_a_file_is_the_one_in_memory(dataset, tmp_path):
    surrogate = make()
    in_memory = surrogate.predict(dataset, 7)
    with surrogate.predict(dataset, 7, batch_size=2, output=tmp_path / "out.nc") as from_file:
        xarray.testing.assert_allclose(from_file, in_memory)
        assert from_file.attrs == in_memory.attrs
        assert set(from_file.coords) == set(in_memory.coords)
        for name in in_memory.variables:
            assert from_file[name].attrs == in_memory[name].attrs
        assert from_file.vorticity.encoding["chunksizes"] == (1, 1, 8, 12)
    assert [path.name for path in tmp_path.iterdir()] == ["out.nc"]


def test_of_a_file_only_the_history_is_read(dataset, tmp_path):
    dataset.to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "in.nc", engine="h5netcdf") as opened:
        forecast = make().predict(opened, 2, batch_size=1)
        assert not opened.vorticity.variable._in_memory
    np.testing.assert_array_equal(forecast.vorticity, make().predict(dataset, 2).vorticity)


def test_a_long_forecast_to_a_file_takes_the_memory_of_a_few_frames(dataset, tmp_path):
    """Arrays are counted; one of all frames would be 1000 x 8 x 12 floats of three members, 1.2 MB."""
    peaks = {}
    for name, output in (("memory", None), ("file", tmp_path / "out.nc")):
        tracemalloc.start()
        make(horizon=20).predict(dataset, 1000, output=output).close()
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["memory"] > 1_150_000
    assert peaks["file"] < 700_000


@needs_dask
def test_a_dataset_backed_by_dask_gives_a_forecast_that_is_computed_when_used(dataset, rolled_out, tmp_path):
    surrogate = make()
    lazy = surrogate.predict(dataset.chunk(member=1, time=1), 7, batch_size=2)
    assert surrogate.model.calls == 0
    assert lazy.vorticity.chunks == ((2, 1), (3, 3, 1), (8,), (12,))
    np.testing.assert_allclose(lazy.vorticity.values, rolled_out, rtol=1e-5, atol=1e-6)
    assert surrogate.model.calls == 6
    lazy.isel(member=0, lead_time=0).load()
    assert surrogate.model.calls == 7  # one step of the first batch


def test_one_state_without_time_is_forecast_by_a_surrogate_that_needs_no_more(dataset):
    surrogate = make(history=1, horizon=1)
    snapshot = dataset.isel(time=-1, member=0)
    forecast = surrogate.predict(snapshot, 2)
    assert forecast.vorticity.dims == ("lead_time", "y", "x")
    assert forecast.time.values.tolist() == [12.0, 12.5]
    timeless = surrogate.predict(snapshot.drop_vars("time"), 2)
    assert "time" not in timeless
    np.testing.assert_array_equal(timeless.vorticity, forecast.vorticity)


def test_frames_that_are_not_a_step_apart_are_told_to_those_who_need_one_only(dataset, caplog):
    surrogate = make(history=1, horizon=1)
    surrogate.predict(dataset, 1)
    assert not caplog.records
    forecast = surrogate.predict(dataset.assign_coords(time=2 * dataset.time), 1)
    assert "are 1 s apart and the surrogate goes on in steps of 0.5 s" in caplog.text
    assert forecast.time.values.tolist() == [23.5]


def test_parameters_that_the_dataset_lacks_can_be_given(dataset):
    surrogate, bare = make(), dataset.drop_vars("viscosity")
    forecast = surrogate.predict(bare, 1, parameters={"viscosity": 2e-3})
    np.testing.assert_array_equal(
        forecast.vorticity, surrogate.predict(bare.assign(viscosity=2e-3), 1).vorticity
    )
    assert forecast.viscosity.values == pytest.approx([2e-3] * 3)


def test_any_grid_that_the_model_takes_is_forecast(dataset):
    coarse = dataset.isel(x=slice(None, None, 4), y=slice(None, None, 2))
    assert make().predict(coarse, 1).vorticity.shape == (3, 1, 4, 3)


def test_dates_are_continued_as_dates(dataset):
    dates = np.datetime64("2001-02-28T23:59:59", "ns") + (500 * np.arange(4)).astype("timedelta64[ms]")
    forecast = make().predict(dataset.assign_coords(time=dates), 2)
    assert forecast.time.values.tolist() == [
        (dates[-1] + np.timedelta64(500 * n, "ms")).item() for n in (1, 2)
    ]
    assert forecast.lead_time.values.tolist() == [0.5, 1.0]


def test_times_in_another_unit_of_time_are_understood(dataset):
    minutes = dataset.time / 60
    forecast = make().predict(dataset.assign_coords(time=minutes.assign_attrs(units="minutes")), 2)
    np.testing.assert_allclose(forecast.time, [12 / 60, 12.5 / 60])
    assert forecast.time.attrs["units"] == "minutes"


def test_dates_of_other_calendars_are_subtracted_by_themselves():
    from datetime import timedelta

    class Day360:
        """A day of a year of 360; it knows its differences only, as objects of cftime do."""

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def __sub__(self, other: "Day360") -> timedelta:
            return timedelta(seconds=self.seconds - other.seconds)

        def __add__(self, other: timedelta) -> "Day360":
            return Day360(self.seconds + other.total_seconds())

    days = np.empty(2, dtype=object)
    days[:] = [Day360(0.0), Day360(3600.0)]
    times = xarray.DataArray(days, dims="time")
    assert elapsed(times, SPHERE).tolist() == [0.0, 1.0]
    assert [day.seconds for day in continued(times, SPHERE, np.array([1.0, 2.0]))] == [7200.0, 10800.0]


REFUSALS = {
    "no variable": (
        lambda d: d.rename(vorticity="Vorticity"),
        r"lacks the variable 'vorticity'; it holds Vorticity, bed.* Did you mean 'Vorticity'",
    ),
    "another name of a dimension": (
        lambda d: d.rename(y="north"),
        r"\(time, member, x, north\) and the surrogate works on \(y, x\): y is missing",
    ),
    "units of a field": (
        lambda d: d.assign(vorticity=d.vorticity.assign_attrs(units="h-1")),
        r"'vorticity' is in units of 'h-1' and the surrogate was trained in 's-1'",
    ),
    "units of an axis": (
        lambda d: d.assign_coords(x=d.x.assign_attrs(units="km")),
        r"axis 'x' is in units of 'km' .* 'm'",
    ),
    "another domain": (
        lambda d: d.assign_coords(x=d.x * 3),
        r"'x' runs from 0 to 5.5 .* trained on 'x' from 0 to 1.83333 at that size .* boundary 'periodic'",
    ),
    "a flipped axis": (
        lambda d: d.isel(y=slice(None, None, -1)),
        r"flipped.*dataset.sortby\('y', ascending=True\)",
    ),
    "the time step": (
        lambda d: d.assign_coords(time=2 * d.time),
        r"last 2 frames of the dataset are 1 s apart and the surrogate was trained on steps of 0.5 s",
    ),
    "units of time": (
        lambda d: d.assign_coords(time=d.time.assign_attrs(units="m")),
        r"in units of 'm' and the surrogate counts time in units of 's'",
    ),
    "no times": (lambda d: d.drop_vars("time"), r"no coordinate 'time'.*0.5 s apart"),
    "one frame": (lambda d: d.isel(time=[0]), r"has 1 frame along 'time' and the surrogate needs 2"),
    "no frames": (lambda d: d.isel(time=0), r"'vorticity' has no dimension 'time' .* needs 2 frames"),
    "no parameter": (
        lambda d: d.drop_vars("viscosity"),
        r"needs the PDE parameter 'viscosity' \(m2 s-1\) .* parameters=\{'viscosity': \.\.\.\}",
    ),
    "a parameter that varies in time": (
        lambda d: d.assign(viscosity=d.viscosity * d.something_else),
        r"'viscosity' varies along time",
    ),
    "units of a parameter": (
        lambda d: d.assign(viscosity=d.viscosity.assign_attrs(units="cm2 s-1")),
        r"'viscosity' is in units of 'cm2 s-1' and the surrogate was trained in 'm2 s-1'",
    ),
    "a grid": (lambda d: d.isel(y=[0, 4]), r"the grid \(2, 12\) is too coarse"),
    "an empty dimension": (lambda d: d.isel(member=[]), r"'vorticity' is empty .*member 0"),
    "NaN": (
        lambda d: d.assign(vorticity=d.vorticity.where((d.member != 20) | (d.x != 0.5) | (d.time < 11.5))),
        r"'vorticity' holds NaN or infinite values \(8, the first at member 1, time 1, y 0, x 3\)",
    ),
    "text": (lambda d: d.assign(vorticity=d.vorticity.astype(str)), r"values of type <U"),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_what_does_not_fit_is_refused_in_a_sentence_and_no_file_is_left(dataset, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make().predict(change(dataset), 3, output=tmp_path / "out.nc")
    assert list(tmp_path.iterdir()) == []


def test_latitudes_are_checked_by_name_unit_order_and_rule():
    surrogate = make(SPHERE, history=1, horizon=1)
    lat, lon = SPHERE.axes[0].coordinates(6), SPHERE.axes[1].coordinates(8)
    height = (("lon", "lat"), np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32), {"units": "m"})
    given = xarray.Dataset({"height": height}, {"lat": lat, "lon": lon})
    assert surrogate.predict(given, 1).height.dims == ("lead_time", "lat", "lon")
    with pytest.raises(ValueError, match=r"dataset.rename\(\{'latitude': 'lat', 'longitude': 'lon'\}\)"):
        surrogate.predict(given.rename(lat="latitude", lon="longitude").transpose("latitude", "longitude"), 1)
    with pytest.raises(ValueError, match=r"flipped. Turn it: dataset.sortby\('lat', ascending=False\)"):
        surrogate.predict(given.sortby("lat"), 1)
    with pytest.raises(ValueError, match=r"\(gauss-legendre latitudes"):
        surrogate.predict(given.assign_coords(lat=np.linspace(90, -90, 6)), 1)
    with pytest.raises(ValueError, match=r"'lon' runs from -180 to 135 .* from 0 to 315"):
        surrogate.predict(given.assign_coords(lon=lon - 180), 1)


def test_what_is_no_dataset_or_no_number_is_refused(dataset, as_users_run):
    with pytest.raises(TypeError, match=r"given a DataArray.*to_dataset"):
        make().predict(dataset.vorticity, 1)
    for steps in (0, 2.5):
        with pytest.raises(ValueError, match=f"steps is {steps}; it must be a whole number from 1 upwards"):
            make().predict(dataset, steps)
    with pytest.raises(ValueError, match="Did you mean 'viscosity'"):
        make().predict(dataset, 1, parameters={"viscosty": 1.0})


def test_a_parameter_is_not_taken_for_a_field_that_is_missing(dataset):
    renamed = dataset.rename(vorticity="omega", viscosity="vorticities")
    spec = SPEC.replace(parameters=(Parameter("vorticities", "m2 s-1"),))
    with pytest.raises(ValueError, match="lacks the variable 'vorticity'") as caught:
        make(spec).predict(renamed, 1)
    assert "Did you mean" not in str(caught.value)


def test_a_forecast_that_leaves_the_numbers_stops_and_leaves_no_file(dataset, tmp_path, monkeypatch):
    surrogate, (output) = make(horizon=1), tmp_path / "out.nc"
    output.write_bytes(b"older")
    steady = surrogate.model.forward

    def exploding(history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return steady(history, parameters) * (float("inf") if surrogate.model.calls > 3 else 1.0)

    monkeypatch.setattr(surrogate.model, "forward", exploding)
    with pytest.raises(ValueError, match=r"diverged at step 4 \(lead time 2 s, member 0\)"):
        surrogate.predict(dataset, 9, output=output)
    assert output.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["out.nc"]
