"""Small files in the exact layouts that public data sets are distributed in, with the frames that readers must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch

NX, NY, T = 8, 6, 5
GAUSSIAN_6 = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(6)[0]))[::-1]


@dataclass
class Made:
    """What was written: how to open it, and what must come out, ``(trajectory, time, channel, *space)`` by split."""

    kind: str
    options: dict[str, Any]
    truth: dict[str, np.ndarray]
    channels: tuple[str, ...]
    dt: float
    axes: tuple[tuple[str, float, str], ...]
    path: Path
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    damage: Path | None = None  # the file whose bytes are mutated

    @property
    def file(self) -> Path:
        return self.damage or self.path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def turned(values: np.ndarray, *, components: bool = False) -> np.ndarray:
    """(sample, time, x, y[, z][, c]) to (sample, time, c, [z, ]y, x)."""
    if not components:
        values = values[..., None]
    space = range(2, values.ndim - 1)
    return values.transpose(0, 1, values.ndim - 1, *reversed(space))


def shares(values: np.ndarray) -> dict[str, np.ndarray]:
    """Ten trajectories split 8, 1, 1."""
    return {"train": values[:8], "valid": values[8:9], "test": values[9:]}


TORUS = (("y", 1.0, "periodic"), ("x", 1.0, "periodic"))


def li(folder: Path, version: str) -> Made:
    u = noise(7, NX, NY, T)
    arrays = {"a": noise(7, NX, NY), "u": u, "t": np.arange(1.0, T + 1)[None]}
    path = folder / "ns_V1e-3_N7_T5.mat"
    if version == "7.3":
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, values in arrays.items():
                file[name] = values.T
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    else:
        scipy.io.savemat(path, arrays, do_compression=version == "5 deflated")
    frames = u.transpose(0, 3, 2, 1)[:, :, None]
    return Made(
        "li_mat",
        {"path": str(path), "viscosity": 1e-3, "train": 4, "valid": 1, "test": 2},
        {"train": frames[:4], "valid": frames[4:5], "test": frames[5:]},
        ("vorticity",),
        1.0,
        TORUS,
        path,
        {"train": np.full((4, 1), 1e-3)},
    )


def gfno(folder: Path) -> Made:
    u = noise(8, NX, NY, T)
    path = folder / "ns_V0.0001_N8_T5_cos4.mat"
    scipy.io.savemat(path, {"a": noise(8, NX, NY), "u": u, "t": 0.25 * np.arange(1, 4 * T + 1)[None]})
    frames = u.transpose(0, 3, 2, 1)[:, :, None]
    return Made(
        "gfno",
        {"path": str(path), "train": 4, "valid": 2, "test": 2},
        {"train": frames[:4], "valid": frames[4:6], "test": frames[6:]},
        ("vorticity",),
        1.0,
        TORUS,
        path,
    )


def darcy(folder: Path) -> Made:
    truth = {}
    for split, count in (("train", 10), ("test", 3)):
        x = noise(count, NY, NX) > 0
        y = noise(count, NY, NX, seed=1)
        torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, folder / f"darcy_{split}_8.pt")
        first = np.stack([np.zeros_like(y), x.astype(np.float32)], axis=1)
        truth[split] = np.stack([first, np.stack([y, x.astype(np.float32)], axis=1)], axis=1)
    truth["valid"], truth["train"] = truth["train"][9:], truth["train"][:9]
    path = folder / "darcy_train_8.pt"
    axes = (("y", 1.0, "wall"), ("x", 1.0, "wall"))
    return Made("neuralop_pt", {"path": str(path)}, truth, ("pressure", "coefficient"), 1.0, axes, path)


def nsforcing(folder: Path) -> Made:
    x, y = noise(10, NY, NX), noise(10, NY, NX, seed=1)
    path = folder / "nsforcing_test_8.pt"
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
    frames = np.stack([np.stack([np.zeros_like(y), x], 1), np.stack([y, x], 1)], 1)
    axes = (("y", 2 * np.pi, "periodic"), ("x", 2 * np.pi, "periodic"))
    return Made("neuralop_pt", {"path": str(path)}, shares(frames), ("vorticity", "forcing"), 5.0, axes, path)


def burgers(folder: Path) -> Made:
    y = noise(10, T, NX).astype(np.float64)
    path = folder / "burgers_test_8.pt"
    content = {
        "x": torch.from_numpy(y[:, 0]),
        "y": torch.from_numpy(y),
        "visc": torch.tensor([[0.01]]).double(),
    }
    torch.save(content, path)
    frames = shares(y[:, :, None].astype(np.float32))
    parameters = {"train": np.full((8, 1), 0.01)}
    axes = (("x", 1.0, "periodic"),)
    return Made("neuralop_pt", {"path": str(path)}, frames, ("u",), 0.25, axes, path, parameters)


def dam_break(folder: Path, channels: int = 1, count: int = 10) -> Made:
    data = noise(count, T, NX, NY, channels)
    path = folder / ("2D_rdb_NA_NA.h5" if channels == 1 else "2D_diff-react_NA_NA.h5")
    with h5py.File(path, "w") as file:
        for i in range(count):
            group = file.create_group(f"{i:04d}")
            group.create_dataset("data", data=data[i], compression="lzf" if channels == 2 else None)
            for axis, n in (("x", NX), ("y", NY)):
                group[f"grid/{axis}"] = (-2.5 + 5 * (np.arange(n) + 0.5) / n).astype(np.float32)
            group["grid/t"] = np.linspace(0, 1, T).astype(np.float32)
            group.attrs["config"] = f"name: 2d_rdb\nsim:\n  dam_radius: {0.3 + 0.01 * i}\n  seed: {i}\n"
    frames = shares(turned(data, components=True))
    edge = "open" if channels == 1 else "wall"
    names = ("depth",) if channels == 1 else ("activator", "inhibitor")
    parameters = {"train": 0.3 + 0.01 * np.arange(8)[:, None]} if channels == 1 else {}
    axes = (("y", 5.0, edge), ("x", 5.0, edge))
    return Made("pdebench", {"path": str(path)}, frames, names, 0.25, axes, path, parameters)


def incompressible(folder: Path) -> Made:
    parts = []
    for k in (2, 10):
        velocity, tracer = noise(5, T, NX, NY, 2, seed=k), noise(5, T, NX, NY, 1, seed=k)
        force = noise(5, NX, NY, 2, seed=k)
        with h5py.File(folder / f"ns_incom_inhom_2d_512-{k}.h5", "w") as file:
            for name, values in (("velocity", velocity), ("particles", tracer)):
                chunks = (1, 1, *values.shape[2:])
                file.create_dataset(name, data=values, chunks=chunks, compression="lzf", shuffle=True)
            file["force"] = force
            file["t"] = np.broadcast_to(0.005 * np.arange(T, dtype=np.float32), (5, T))
            file.attrs["config"] = "sim_name: ns_sim_2d"
        steady = np.broadcast_to(force[:, None], (5, T, NX, NY, 2))
        parts.append(turned(np.concatenate([velocity, tracer, steady], axis=-1), components=True))
    names = ("velocity_x", "velocity_y", "tracer", "force_x", "force_y")
    axes = (("y", 1.0, "wall"), ("x", 1.0, "wall"))
    first = folder / "ns_incom_inhom_2d_512-2.h5"
    options = {"path": str(folder)}
    return Made("pdebench", options, shares(np.concatenate(parts)), names, 0.005, axes, folder, damage=first)


def compressible(folder: Path, dims: int = 2) -> Made:
    shape = (10, T, NX, NY, 4)[: 2 + dims]
    names = ["density", "pressure", "Vx", "Vy", "Vz"][: 2 + dims]
    path = folder / f"{dims}D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_8_Train.hdf5"
    values = [noise(*shape, seed=i) for i in range(len(names))]
    with h5py.File(path, "w") as file:
        for name, array in zip(names, values, strict=True):
            chunks = (4, 2, *array.shape[2:])  # several samples share a chunk
            file.create_dataset(name, data=array, chunks=chunks, compression="gzip")
        for axis, n in list(zip("xyz", (NX, NY, 4), strict=True))[:dims]:
            file[f"{axis}-coordinate"] = ((np.arange(n) + 0.5) / n).astype(np.float32)
        file["t-coordinate"] = np.linspace(0, 0.05 * T, T + 1).astype(np.float32)
        file.attrs.update(eta=0.01, zeta=0.02, M=0.1)
    frames = shares(turned(np.stack(values, axis=-1), components=True))
    channels = ("density", "pressure", "velocity_x", "velocity_y", "velocity_z")[: 2 + dims]
    axes = tuple((name, 1.0, "periodic") for name in "zyx"[-dims:])
    parameters = {"train": np.tile([0.1, 0.01, 0.02], (8, 1))}
    return Made("pdebench", {"path": str(path)}, frames, channels, 0.05, axes, path, parameters)


def tensor(folder: Path) -> Made:
    values = noise(10, T, NX)
    path = folder / "1D_Burgers_Sols_Nu0.01.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"] = values
        file["x-coordinate"] = ((np.arange(NX) + 0.5) / NX).astype(np.float32)
        file["t-coordinate"] = np.linspace(0, 0.01 * T, T + 1).astype(np.float32)
    axes = (("x", 1.0, "periodic"),)
    return Made("pdebench", {"path": str(path)}, shares(values[:, :, None]), ("u",), 0.01, axes, path)


def pdearena_flow(folder: Path) -> Made:
    truth, parameters = {}, {}
    for split, seeds in (("train", (1, 2)), ("valid", (3,)), ("test", (4,))):
        parts = []
        for seed in seeds:
            buoyancy = 0.3 + 0.1 * seed
            number = "_2" if split == "train" else ""
            path = folder / f"NavierStokes2D_{split}_{seed}_{buoyancy:.5f}{number}.h5"
            fields = [noise(2, T, NX, NY, seed=10 * seed + c).astype(np.float64) for c in range(3)]
            with h5py.File(path, "w") as file:
                group = file.create_group(split)
                for name, values in zip(("u", "vx", "vy"), fields, strict=True):
                    group[name] = values
                group["t"] = np.tile(np.linspace(18, 18 + 6 * T, T), (2, 1))
                group["dt"], group["dx"], group["dy"] = np.full(2, 6.0), np.full(2, 4.5), np.full(2, 6.4)
                group["x"], group["y"] = (
                    np.tile(np.linspace(0, 32, NX), (2, 1)),
                    np.tile(np.linspace(0, 32, NY), (2, 1)),
                )
                group["buo_y"] = np.full(2, buoyancy)
            parts.append(turned(np.stack(fields, axis=-1).astype(np.float32), components=True))
        truth[split] = np.concatenate(parts)
        parameters[split] = np.repeat([[0.3 + 0.1 * seed] for seed in seeds], 2, axis=0)
    first = folder / "NavierStokes2D_train_1_0.40000_2.h5"
    axes = (("y", 32.0, "wall"), ("x", 32.0, "wall"))
    names = ("density", "velocity_x", "velocity_y")
    return Made("pdearena", {"root": str(folder)}, truth, names, 6.0, axes, folder, parameters, first)


def pdearena_weather(folder: Path) -> Made:
    truth = {}
    frames, lat, lon = 8, 6, 12
    for split, runs in (("train", 2), ("valid", 1), ("test", 1)):
        parts = []
        for run in range(runs):
            place = folder / split / f"seed={run + 1}" / f"run{run:04d}"
            place.mkdir(parents=True)
            seed = 10 * ("train", "valid", "test").index(split) + run
            pres, vor = noise(frames, lat, lon, seed=seed), noise(frames, 1, lat, lon, seed=seed)
            with h5py.File(place / "output.nc", "w") as file:
                coordinates = {
                    "time": np.round(19740 / 3600 * np.arange(frames)).astype(np.int32),
                    "lev": np.ones(1, np.float32),
                }
                coordinates |= {
                    "lat": GAUSSIAN_6.astype(np.float32),
                    "lon": (30.0 * np.arange(lon)).astype(np.float32),
                }
                for name, values in coordinates.items():
                    file[name] = values
                    file[name].make_scale(name)
                others = noise(frames, 1, lat, lon, seed=9)
                for name, values in (
                    ("u", others),
                    ("v", others),
                    ("vor", vor),
                    ("div", others),
                    ("pres", pres),
                ):
                    variable = file.create_dataset(name, data=values, compression="gzip", compression_opts=3)
                    variable.attrs["missing_value"] = np.float32(-999999)
                    dims = ("time", "lev", "lat", "lon") if values.ndim == 4 else ("time", "lat", "lon")
                    for axis, dim in enumerate(dims):
                        variable.dims[axis].attach_scale(file[dim])
            parts.append(np.stack([pres, vor[:, 0]], axis=1)[4:])
        truth[split] = np.stack(parts)
    first = folder / "train" / "seed=1" / "run0000" / "output.nc"
    axes = (("lat", 180.0, "open"), ("lon", 360.0, "periodic"))
    names = ("displacement", "vorticity")
    return Made("pdearena", {"root": str(folder)}, truth, names, 19740 / 3600, axes, folder, damage=first)


def well(folder: Path) -> Made:
    truth, parameters = {}, {}
    for split, numbers in (("train", (100.0, 200.0)), ("valid", (100.0,)), ("test", (100.0,))):
        (folder / "data" / split).mkdir(parents=True)
        parts = []
        for k, reynolds in enumerate(numbers):
            seed = 10 * ("train", "valid", "test").index(split) + k
            tracer, velocity = noise(2, T, NX, NY, seed=seed), noise(2, T, NX, NY, 2, seed=seed)
            stress, bed = noise(2, T, NX, NY, 2, 2, seed=seed), noise(NX, seed=seed)
            with h5py.File(folder / "data" / split / f"shear_Re_{reynolds:g}.hdf5", "w") as file:
                file.attrs.update(
                    dataset_name="shear",
                    grid_type="cartesian",
                    n_spatial_dims=2,
                    n_trajectories=2,
                    Reynolds=reynolds,
                )
                file.attrs["simulation_parameters"] = ["Reynolds"]
                group = file.create_group("dimensions")
                group.attrs["spatial_dims"] = ["x", "y"]
                group["time"] = (0.1 * np.arange(T)).astype(np.float32)
                group["x"], group["y"] = np.arange(NX) / NX, 2 * np.arange(NY) / NY
                for name in ("time", "x", "y"):
                    group[name].attrs.update(sample_varying=False, time_varying=False)
                for dim, n, kind in (("x", NX, "PERIODIC"), ("y", NY, "periodic")):
                    edge = file.create_group(f"boundary_conditions/{dim}_periodic")
                    edge.attrs.update(
                        associated_dims=[dim], bc_type=kind, sample_varying=False, time_varying=False
                    )
                    edge.attrs["associated_fields"] = np.array([], dtype=h5py.string_dtype())
                    edge["mask"] = np.arange(n) % (n - 1) == 0
                scalars = file.create_group("scalars")
                scalars.attrs["field_names"] = ["Reynolds"]
                scalars["Reynolds"] = reynolds
                scalars["Reynolds"].attrs.update(sample_varying=False, time_varying=False)
                for rank, arrays in enumerate(
                    ({"tracer": tracer, "bed": bed}, {"velocity": velocity}, {"stress": stress})
                ):
                    fields = file.create_group(f"t{rank}_fields")
                    fields.attrs["field_names"] = list(arrays)
                    for name, values in arrays.items():
                        fields[name] = values
                        moves = name != "bed"
                        fields[name].attrs.update(
                            dim_varying=[True, moves], sample_varying=moves, time_varying=moves
                        )
            flat = np.broadcast_to(bed[None, None, :, None, None], (2, T, NX, NY, 1))
            stack = [tracer[..., None], flat, velocity, stress.reshape(2, T, NX, NY, 4)]
            parts.append(turned(np.concatenate(stack, axis=-1), components=True))
        truth[split] = np.concatenate(parts)
        parameters[split] = np.repeat([[n] for n in numbers], 2, axis=0)
    (folder / "stats.yaml").write_text("mean: {tracer: 0.5}\nstd: {tracer: 1.0}\n")
    names = ("tracer", "bed", "velocity_x", "velocity_y", "stress_xx", "stress_xy", "stress_yx", "stress_yy")
    axes = (("y", 2.0, "periodic"), ("x", 1.0, "periodic"))
    first = folder / "data" / "train" / "shear_Re_100.hdf5"
    return Made("the_well", {"root": str(folder)}, truth, names, 0.1, axes, folder, parameters, first)


def kolmogorov(folder: Path) -> Made:
    values = noise(12, T, NX, NX)
    path = folder / "kf_2d_re1000_8_12seed.npy"
    np.save(path, values)
    frames = turned(values)
    axes = (("y", 2 * np.pi, "periodic"), ("x", 2 * np.pi, "periodic"))
    truth = {"train": frames[:9], "valid": frames[9:10], "test": frames[10:]}
    return Made("factformer", {"path": str(path)}, truth, ("vorticity",), 1 / 32, axes, path)


def smoke(folder: Path, deflated: bool = True) -> Made:
    density, velocity = noise(12, T, NX, NY, 4, 1), noise(12, T, NX, NY, 4, 3)
    for i in range(12):
        save = np.savez_compressed if deflated else np.savez
        save(folder / f"smoke_{i}.npz", fluid_field=density[i], velocity=velocity[i])
    frames = turned(np.concatenate([density, velocity], axis=-1), components=True)
    truth = {"train": frames[:9], "valid": frames[9:10], "test": frames[10:]}
    names = ("density", "velocity_x", "velocity_y", "velocity_z")
    axes = tuple((name, 8.0, "wall") for name in "zyx")
    first = folder / "smoke_0.npz"
    return Made("factformer", {"path": str(folder)}, truth, names, 0.75, axes, folder, damage=first)


def turbulence(folder: Path) -> Made:
    values = noise(6, T, NX, NY, 4, 4)
    for i in range(6):
        (folder / f"case_{i}").mkdir()
        for c, name in enumerate(("prs", "vx", "vy", "vz")):
            np.save(folder / f"case_{i}" / f"{name}.npy", values[i, ..., c])
    frames = turned(values, components=True)
    truth = {"train": frames[:4], "valid": frames[4:5], "test": frames[5:]}
    names = ("pressure", "velocity_x", "velocity_y", "velocity_z")
    axes = tuple((name, 2 * np.pi, "periodic") for name in "zyx")
    first = folder / "case_0" / "vx.npy"
    return Made("factformer", {"path": str(folder)}, truth, names, 0.05, axes, folder, damage=first)


def scalarflow(folder: Path) -> Made:
    frames = {}
    for number in (0, 1, 64, 84):
        place = folder / f"sim_{number:06d}" / "reconstruction"
        place.mkdir(parents=True)
        density = noise(T, 4, NY, NX, 1, seed=number).astype(np.float64)
        velocity = noise(T, 4, NY, NX, 3, seed=number).astype(np.float64)
        for t in range(T):
            np.savez_compressed(place / f"density_{t:06d}.npz", data=density[t])
            np.savez_compressed(place / f"velocity_{t:06d}.npz", data=velocity[t])
        both = np.concatenate([density, velocity], axis=-1).astype(np.float32)
        frames[number] = both.transpose(0, 4, 1, 2, 3)
    truth = {"train": np.stack([frames[0], frames[1]]), "valid": frames[64][None], "test": frames[84][None]}
    names = ("density", "velocity_x", "velocity_y", "velocity_z")
    axes = (("z", 4.0, "open"), ("y", float(NY), "open"), ("x", float(NX), "open"))
    first = folder / "sim_000000" / "reconstruction" / "density_000000.npz"
    return Made("scalarflow", {"root": str(folder)}, truth, names, 1.0, axes, folder, damage=first)


def sphere_run(folder: Path) -> Made:
    fields = noise(10, T, 3, 6, 12).astype(np.float64)
    path = folder / "galewsky.npz"
    lon = 2 * np.pi * np.arange(12) / 12
    np.savez_compressed(path, fields=fields, lat=np.deg2rad(GAUSSIAN_6), lon=lon, t_hours=12 * np.arange(T))
    axes = (("lat", 180.0, "open"), ("lon", 360.0, "periodic"))
    names = ("geopotential", "vorticity", "divergence")
    truth = shares(fields.astype(np.float32))
    return Made("spherical_swe", {"path": str(path)}, truth, names, 12.0, axes, path)


def sphere_pairs(folder: Path) -> Made:
    x, y = noise(10, 3, 6, 12), noise(10, 3, 6, 12, seed=1)
    path = folder / "swe.pt"
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
    axes = (("lat", 180.0, "open"), ("lon", 360.0, "periodic"))
    names = ("geopotential", "vorticity", "divergence")
    return Made("spherical_swe", {"path": str(path)}, shares(np.stack([x, y], 1)), names, 1.0, axes, path)


def custom(folder: Path) -> Made:
    omega = noise(10, T, NX, NY)
    path = folder / "mine.npz"
    np.savez(path, omega=omega, t=0.5 * np.arange(T), nu=np.linspace(0.1, 1.0, 10))
    layout = {
        "fields": {"vorticity": {"array": "omega", "kind": "pseudoscalar", "units": "s-1"}},
        "axes": ["sample", "time", "x", "y"],
        "space": {"x": {"length": 2.0, "boundary": "periodic"}, "y": {"length": 1.0, "boundary": "wall"}},
        "time": {"coordinates": "t", "units": "s"},
        "parameters": {"viscosity": "nu"},
    }
    axes = (("y", 1.0, "wall"), ("x", 2.0, "periodic"))
    parameters = {"train": np.linspace(0.1, 1.0, 10)[:8, None]}
    options = {"path": str(path), "layout": layout}
    return Made("custom", options, shares(turned(omega)), ("vorticity",), 0.5, axes, path, parameters)


LAYOUTS: dict[str, Callable[[Path], Made]] = {
    "li_v5": lambda folder: li(folder, "5"),
    "li_v5_deflated": lambda folder: li(folder, "5 deflated"),
    "li_v7.3": lambda folder: li(folder, "7.3"),
    "gfno": gfno,
    "neuralop_darcy": darcy,
    "neuralop_nsforcing": nsforcing,
    "neuralop_burgers": burgers,
    "pdebench_rdb": dam_break,
    "pdebench_diff_react": lambda folder: dam_break(folder, 2),
    "pdebench_incompressible": incompressible,
    "pdebench_compressible": compressible,
    "pdebench_compressible_3d": lambda folder: compressible(folder, 3),
    "pdebench_tensor": tensor,
    "pdearena_flow": pdearena_flow,
    "pdearena_weather": pdearena_weather,
    "the_well": well,
    "factformer_kolmogorov": kolmogorov,
    "factformer_smoke": smoke,
    "factformer_turbulence": turbulence,
    "scalarflow": scalarflow,
    "spherical_run": sphere_run,
    "spherical_pairs": sphere_pairs,
    "custom": custom,
}


def make(name: str, folder: Path) -> Made:
    place = folder / name
    place.mkdir(parents=True)
    return LAYOUTS[name](place)
