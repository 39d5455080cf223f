"""Files of one's own, by a layout: every container, and what is said where the layout does not fit."""

from __future__ import annotations

import h5py
import layouts
import numpy as np
import pytest
import scipy.io
import torch
import xarray
import yaml

from pdesurrogate.data.custom_layout import read_layout
from pdesurrogate.data.opening import open_dataset
from pdesurrogate.data.store import StoredTrajectories
from pdesurrogate.data.xarray_data import from_xarray

U = layouts.noise(4, 5, 8, 6)  # sample, time, x, y
SPACE = {"x": {"length": 2.0, "boundary": "periodic"}, "y": {"length": 1.0, "boundary": "wall"}}
LAYOUT = {"fields": {"u": "u"}, "axes": ["sample", "time", "x", "y"], "space": SPACE, "time": {"dt": 0.5}}


def read(path, layout=LAYOUT, **options):
    return open_dataset(
        {
            "kind": "custom",
            "path": str(path),
            "layout": layout,
            "split": {"train": 4, "valid": 0, "test": 0},
            **options,
        }
    )


def write_matlab_73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["u"] = U.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def write_netcdf(path, **options):
    xarray.Dataset({"u": (("sample", "time", "x", "y"), U)}).to_netcdf(path, **options)


def write_zarr(path):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(str(path), mode="w").create_array("u", data=U, chunks=(1, 2, 8, 6))


WRITERS = {
    "u.npy": lambda path: np.save(path, U),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(U)),
    "u.npz": lambda path: np.savez(path, u=U),
    "deflated.npz": lambda path: np.savez_compressed(path, u=U),
    "fortran.npz": lambda path: np.savez_compressed(path, u=np.asfortranarray(U)),
    "u.pt": lambda path: torch.save({"u": torch.from_numpy(U)}, path),
    "legacy.pt": lambda path: torch.save(
        {"u": torch.from_numpy(U)}, path, _use_new_zipfile_serialization=False
    ),
    "v5.mat": lambda path: scipy.io.savemat(path, {"u": U}),
    "deflated.mat": lambda path: scipy.io.savemat(path, {"u": U}, do_compression=True),
    "v73.mat": write_matlab_73,
    "u.h5": lambda path: h5py.File(path, "w").create_dataset("u", data=U).file.close(),
    "four.nc": lambda path: write_netcdf(path, engine="h5netcdf"),
    "three.nc": lambda path: write_netcdf(path, engine="scipy", format="NETCDF3_CLASSIC"),
    "u.zarr": write_zarr,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_container_gives_the_same_frames(tmp_path, name):
    WRITERS[name](tmp_path / name)
    split = read(tmp_path / name).splits["train"]
    for i in (0, 3, 1):
        np.testing.assert_array_equal(split.frames(i, 0, 5)[:, 0], U[i].transpose(0, 2, 1))
        np.testing.assert_array_equal(split.frames(i, 2, 4)[:, 0], U[i, 2:4].transpose(0, 2, 1))
    assert split.spec.dt == 0.5
    assert [(a.name, a.length, a.boundary) for a in split.spec.axes] == [
        ("y", 1.0, "wall"),
        ("x", 2.0, "periodic"),
    ]


def test_ten_lines_of_yaml_are_enough(tmp_path):
    np.savez(tmp_path / "mine.npz", w=U, t=3.0 * np.arange(5), xs=np.arange(8) / 4, nu=np.full(4, 0.1))
    lines = """
fields:
  vorticity: {array: w, kind: pseudoscalar, units: s-1}
axes: [sample, time, x, y]
space:
  x: {coordinates: xs, boundary: periodic, units: m}
  y: {length: 1.0, boundary: wall}
time: {coordinates: t, units: s}
parameters: {viscosity: nu, drag: 0.25}
frames: [0, 2, 4]
"""
    (tmp_path / "mine.yaml").write_text(lines)
    assert len(lines.strip().splitlines()) <= 10
    split = read(tmp_path / "mine.npz", str(tmp_path / "mine.yaml")).splits["train"]
    assert (split.spec.dt, split.spec.time_units, split.spec.channel_units) == (6.0, "s", ("s-1",))
    assert (split.spec.axes[1].length, split.spec.axes[1].units, split.spec.axes[1].offset) == (2.0, "m", 0.0)
    np.testing.assert_array_equal(split.times, [0.0, 6.0, 12.0])
    np.testing.assert_array_equal(split.frames(1, 0, 3)[:, 0], U[1, ::2].transpose(0, 2, 1))
    np.testing.assert_allclose(split.parameters(2), [0.1, 0.25])


def test_frames_that_are_evenly_spaced_may_be_picked_from_uneven_ones(tmp_path):
    np.savez(tmp_path / "u.npz", u=U, t=np.array([0, 1, 2, 10, 20]))
    split = read(tmp_path / "u.npz", {**LAYOUT, "time": {"coordinates": "t"}, "frames": [0, 3, 4]}).splits[
        "train"
    ]
    assert split.spec.dt == 10.0
    np.testing.assert_array_equal(split.frames(2, 0, 3)[:, 0], U[2, [0, 3, 4]].transpose(0, 2, 1))
    np.testing.assert_array_equal(split.frames(2, 1, 3)[:, 0], U[2, [3, 4]].transpose(0, 2, 1))
    with pytest.raises(ValueError, match=r"the frames are 1, 8, 10 apart. Windows need even steps"):
        read(tmp_path / "u.npz", {**LAYOUT, "time": {"coordinates": "t"}})


def test_a_file_that_names_its_dimensions_needs_no_axes(tmp_path):
    dataset = xarray.Dataset(
        {
            "ua": (("member", "time", "latitude", "longitude"), U),
            "va": (("member", "time", "latitude", "longitude"), -U),
        },
        {
            "time": ("time", 6.0 * np.arange(5), {"units": "hours since 2000-01-01"}),
            "latitude": [80.0, 60, 40, 20, 0, -20, -40, -60],
        },
    )
    dataset["longitude"] = ("longitude", 60.0 * np.arange(6))
    dataset.ua.attrs["units"] = "m s-1"
    dataset.to_netcdf(tmp_path / "wind.nc", engine="h5netcdf")
    layout = {"fields": {"wind": {"arrays": ["ua", "va"], "components": ["lon", "lat"]}}}
    split = read(tmp_path / "wind.nc", layout).splits["train"]
    lat, lon = split.spec.axes
    assert (lat.is_descending, lat.nodes, lon.length, lon.boundary) == (True, None, 360.0, "periodic")
    np.testing.assert_allclose(lat.coordinates(8), dataset.latitude)
    assert (split.spec.dt, split.spec.time_units, split.spec.channel_units) == (6.0, "hours", ("m s-1",) * 2)
    np.testing.assert_array_equal(split.frames(3, 1, 2)[0], np.stack([U[3, 1], -U[3, 1]]))


def test_packed_numbers_are_unpacked_and_missing_ones_refused(tmp_path):
    packed = xarray.Dataset({"u": (("sample", "time", "x", "y"), U.copy())})
    coding = {"u": {"dtype": "int16", "scale_factor": 0.001, "add_offset": 1.0, "_FillValue": -32000}}
    packed.to_netcdf(tmp_path / "u.nc", engine="h5netcdf", encoding=coding)
    split = read(tmp_path / "u.nc", {k: v for k, v in LAYOUT.items() if k != "axes"}).splits["train"]
    np.testing.assert_allclose(split.frames(0, 0, 5)[:, 0], U[0].transpose(0, 2, 1), atol=6e-4)
    packed.u[2, 3, 1, 1] = np.nan
    packed.to_netcdf(tmp_path / "holes.nc", engine="h5netcdf", encoding=coding)
    split = read(tmp_path / "holes.nc", LAYOUT).splits["train"]
    split.frames(2, 0, 3)
    with pytest.raises(
        ValueError, match=r"holes.nc, sample 2: trajectory 2 holds NaN .*channel 'u', frame 3"
    ):
        split.frames(2, 0, 5)


def test_vectors_levels_crops_and_static_fields(tmp_path):
    with h5py.File(tmp_path / "u.h5", "w") as file:
        file["v"] = layouts.noise(4, 5, 3, 8, 6, 2)  # sample, time, level, y, x, component
        file["bed"] = layouts.noise(6, 8)
    layout = {
        "fields": {
            "velocity": {
                "array": "v",
                "components": ["x", "y"],
                "axes": ["sample", "time", "level=1", "y", "x", "component"],
            },
            "bed": {"static": True, "axes": ["x", "y"]},
        },
        "space": {"y": {"length": 8, "boundary": "wall"}, "x": {"length": 6, "boundary": "open"}},
        "time": {"dt": 1},
        "crop": {"y": [2, 8], "x": [0, 4]},
    }
    split = read(tmp_path / "u.h5", layout).splits["train"]
    assert (split.grid, split.spec.lengths, split.spec.axes[0].origin) == ((6, 4), (6.0, 4.0), 2.0)
    frames = split.frames(3, 0, 5)
    np.testing.assert_array_equal(
        frames[:, :2], layouts.noise(4, 5, 3, 8, 6, 2)[3, :, 1, 2:, :4].transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(frames[4, 2], layouts.noise(6, 8)[:4, 2:].T)
    assert split.spec.static_channels == (False, False, True)


def test_an_xarray_dataset_is_trained_on_without_a_file(tmp_path, torus_spec):
    dataset = xarray.Dataset(
        {"u": (("sample", "time", "x", "y"), U)},
        {"time": np.datetime64("2000-01-01", "ns") + np.arange(5) * np.timedelta64(3, "h")},
    )
    data = from_xarray(dataset, {"fields": ["u"], "space": SPACE}, split={"train": 2, "valid": 1, "test": 1})
    np.testing.assert_array_equal(data.splits["test"].frames(0, 0, 5)[:, 0], U[3].transpose(0, 2, 1))
    assert (data.spec.dt, data.spec.time_units) == (3.0, "h")
    assert data.splits["train"].checksum() != data.splits["test"].checksum()


def test_xarray_opens_our_store_and_gives_it_back(made, tmp_path):
    from pdesurrogate.data.rechunked import write_store

    case = made["the_well"]
    data = open_dataset({"kind": case.kind, **case.options})
    paths = write_store(data, tmp_path)
    with xarray.open_dataset(paths["train"], engine="h5netcdf") as dataset:
        assert dataset.velocity_x.dims == ("trajectory", "time", "y", "x")
        again = from_xarray(dataset, split={"train": 4, "valid": 0, "test": 0}).splits["train"]
        stored = StoredTrajectories(paths["train"])
        assert not again.spec.mismatches(stored.spec)
        np.testing.assert_array_equal(again.frames(3, 0, 5), case.truth["train"][3])
        np.testing.assert_array_equal(again.parameters(3), stored.parameters(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": {"w": "w"}}, r"has no array 'w'.* It holds: u \(4, 5, 8, 6\)"),
        ({"feilds": {}}, "has no key 'feilds'. Did you mean 'fields'"),
        ({"fields": {}}, "names no fields"),
        ({"fields": {"u": {"unit": "m"}}}, "field 'u' of the layout has no key 'unit'. Did you mean 'units'"),
        ({"axes": ["sample", "time", "x"]}, "the layout names 3 axes"),
        ({"axes": None}, r"does not name the axes of u, of shape \(4, 5, 8, 6\)"),
        ({"space": {"x": SPACE["x"]}}, "does not say what happens at the ends of y"),
        ({"space": {**SPACE, "z": {"length": 1, "boundary": "wall"}}}, "has the axis z of its space"),
        (
            {"space": {**SPACE, "x": {"coordinates": "ys", "boundary": "wall"}}},
            "6 points and the arrays 8 along x. That is the size of y: the axes may be transposed",
        ),
        (
            {"space": {**SPACE, "x": {"coordinates": "bad", "boundary": "wall"}}},
            "the points along x are not evenly spaced",
        ),
        ({"time": {}}, "the layout says nothing of time"),
        ({"time": {"dt": -1}}, "dt is -1"),
        ({"time": {"coordinates": "ys"}}, "ys has 6 entries for 5 frames"),
        ({"parameters": {"viscosity": "nu"}}, "no array or attribute 'nu' for the parameter viscosity"),
        ({"frames": [0, 9]}, "has 5 frames; the layout asks for"),
        ({"fields": {"u": {"array": "u", "components": ["x", "y"]}}}, "have no 'component'"),
        ({"fields": {"u": "u", "s": {"array": "s", "axes": ["x", "y"]}}}, r"transposed: \[y, x\] would fit"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_with_what_would(tmp_path, change, message):
    np.savez(tmp_path / "u.npz", u=U, ys=np.arange(6.0), bad=np.arange(8.0) ** 2, s=np.zeros((6, 8)))
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "u.npz", {**LAYOUT, **change})


def test_a_layout_file_that_is_missing_or_no_yaml_is_refused(tmp_path):
    (tmp_path / "layout.yaml").write_text("fields: [")
    with pytest.raises(ValueError, match="is no YAML"):
        read_layout(tmp_path / "layout.yaml")
    with pytest.raises(ValueError, match=r"there is no file .*Did you mean layout.yaml"):
        read_layout(str(tmp_path / "layuot.yaml"))
    (tmp_path / "layout.yaml").write_text(yaml.safe_dump(["u"]))
    with pytest.raises(ValueError, match="needed is a mapping"):
        read_layout(tmp_path / "layout.yaml")


def test_files_of_another_grid_are_named(tmp_path):
    np.savez(tmp_path / "a_1.npz", u=U)
    np.savez(tmp_path / "a_2.npz", u=U[:, :, ::2])
    with pytest.raises(ValueError, match=r"a_2.npz has the sizes .*'x': 4.* and .*a_1.npz .*'x': 8"):
        read(tmp_path / "a_*.npz")
