"""The files of PDEArena: NavierStokes-2D (plain and conditioned) and ShallowWater-2D.

NavierStokes-2D: HDF5 shards ``NavierStokes2D_{split}_{seed}_{buoyancy}.h5`` with one group named after the split; ``u``
(the smoke), ``vx``, ``vy`` (sample, t, x, y), ``dt``, ``buo_y``. Velocities lie on the lower faces of cells and the
smoke at their centres. The file's ``t`` and ``x`` are evenly spread over one interval too few: frames are ``dt``
apart, 6 and not 6.46, and cells are 32/128 wide.

ShallowWater-2D: ``{split}/seed=*/run*/output.nc``, netCDF-4, or ``{split}.zarr`` with a further axis for the runs:
``u``, ``v``, ``vor``, ``div`` (time, lev, lat, lon), ``pres`` (time, lat, lon), which is the displacement of the
surface in metres. Frames are 6 steps of 3290 s apart; the file's hours are rounded.

Source: Gupta and Brandstetter (2023), "Towards multi-spatiotemporal-scale generalized PDE modeling", appendix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.fields.spherical.nodes import latitude_rule
from pdesurrogate.registry import did_you_mean

from . import DATASETS
from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import Container, ContainerPool, refuses_damage
from .coordinates import even_step
from .file_lists import natural, same
from .files import listing, require_path
from .recognition import FORMATS, Recognised
from .splits import by_trajectory, divided, refuse_shared_files
from .standardised import Standardised, read_statistics
from .trajectories import SPLITS, DataSet, Trajectories

LENGTH = 32.0
HOURS_BETWEEN_FRAMES = 6 * 3290 / 3600
MISSING = -999999.0
WEATHER: Mapping[str, Field] = {
    "pres": Field("displacement", "m", long_name="height of the surface above its rest"),
    "vor": Field("vorticity", "s-1", "pseudoscalar", long_name="relative vorticity"),
    "div": Field("divergence", "s-1", long_name="divergence of the wind"),
    "wind": Field("wind", "m s-1", "vector", ("lon", "lat"), "eastward and northward wind"),
}


@DATASETS.register("pdearena")
@refuses_damage
def pdearena(
    root: str,
    variables: Sequence[str] = ("pres", "vor"),
    skip: int = 4,
    normstats: str | None = None,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """A folder of one of PDEArena's sets, or one file of it; the split is part of every name.

    Args:
        root: the folder, with shards ``*.h5``, folders of ``output.nc``, or ``train.zarr``, ..; or one of those.
        variables: of ShallowWater-2D, which are read and in which order: ``pres``, ``vor``, ``div``, ``wind``.
        skip: of ShallowWater-2D, frames at the beginning that are left out; PDEArena leaves 4, because of strong waves.
        normstats: of ShallowWater-2D, the file ``normstats.pt``, to read pres and vor as PDEArena trains on them: less
            their mean and over their standard deviation of each grid point. None for physical units.
        split: of one file, a rule of `splits.divided`.

    Raises:
        ValueError: if there are no such files, or they are damaged or do not belong together.
    """
    folder = Path(root).absolute()
    require_path(folder)
    found = _files(folder)
    refuse_shared_files({k: [f for f in files if f.is_file()] for k, files in found.items()})
    is_flow = all(file.suffix == ".h5" for files in found.values() for file in files)
    pool = ContainerPool()
    splits: dict[str, Trajectories] = {}
    for name, files in found.items():
        trajectories: Trajectories = _flow(files, pool) if is_flow else _weather(files, variables, skip, pool)
        if normstats is not None and not is_flow:
            trajectories = Standardised(trajectories, _statistics(Path(normstats), trajectories))
        splits[name] = trajectories
    provenance = {"root": str(root), "format": "PDEArena", "files": {k: len(v) for k, v in found.items()}}
    if split is not None:
        if len(splits) != 1:
            raise ValueError(
                f"{root} holds the splits {', '.join(splits)} already; split= is for a single file."
            )
        whole = next(iter(splits.values()))
        return divided(
            folder.stem, whole, split, lambda total: by_trajectory(total, 0.8, 0.1, 0.1), provenance
        )
    if (
        "train" not in splits and len(splits) == 1
    ):  # one file of another split: its trajectories are all there is
        return DataSet(folder.stem, splits, provenance)
    return DataSet(folder.name, splits, provenance)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split, told by the split's name in theirs."""
    if folder.is_file() or folder.suffix == ".zarr":
        candidates = [folder]
    else:
        candidates = [p for p in folder.iterdir() if p.suffix in (".h5", ".zarr")]
        candidates += list(folder.glob("*/seed=*/run*/output.nc")) or list(folder.glob("**/output.nc"))
    base = folder.parent if folder.is_file() or folder.suffix == ".zarr" else folder
    found: dict[str, list[Path]] = {}
    for file in sorted(candidates, key=lambda p: natural(str(p))):
        words = str(file.relative_to(base))
        owners = [name for name in SPLITS if name in words]
        if len(owners) > 1:
            raise ValueError(
                f"{file} names the splits {', '.join(owners)}; which one it belongs to is unclear."
            )
        if owners:
            found.setdefault(owners[0], []).append(file)
        elif len(candidates) == 1:
            found["train"] = [file]
    if not found:
        raise ValueError(
            f"{folder} holds no files of PDEArena: *.h5 with train, valid or test in their names, train.zarr, or "
            f"train/seed=*/run*/output.nc. It holds {listing(base)}."
        )
    return {name: found[name] for name in SPLITS if name in found}


def _flow(files: Sequence[Path], pool: ContainerPool) -> ArrayTrajectories:
    places, rows, shapes, steps, starts = [], [], {}, {}, {}
    for file in files:
        container = pool.get(file)
        group = _group(file, container)
        arrays = container.shapes()
        shape = arrays[f"{group}/u"]
        if len(shape) != 4 or any(arrays.get(f"{group}/{name}") != shape for name in ("vx", "vy")):
            raise ValueError(f"{file}: u, vx and vy need one shape (sample, t, x, y); u has {shape}.")
        shapes[file] = shape[1:]
        dt = np.unique(container.read(f"{group}/dt")) if f"{group}/dt" in arrays else np.zeros(0)
        if len(dt) != 1 or not dt[0] > 0:
            raise ValueError(f"{file}: dt is {dt.tolist()}; all samples need one time step.")
        steps[file] = float(dt[0])
        starts[file] = float(container.read(f"{group}/t").ravel()[0]) if f"{group}/t" in arrays else 0.0
        buoyancy = container.read(f"{group}/buo_y").ravel() if f"{group}/buo_y" in arrays else np.array([0.5])
        rows.append(np.broadcast_to(buoyancy, (shape[0],)) if len(buoyancy) == 1 else buoyancy)
        places += [Place((file,), sample, group) for sample in range(shape[0])]
        if len(rows[-1]) != shape[0]:
            raise ValueError(f"{file}: buo_y has {len(buoyancy)} values for {shape[0]} samples.")
    same("the shape (t, x, y)", shapes)
    same("the time step", steps)
    num_frames, nx, ny = next(iter(shapes.values()))
    spec = DataSpec(
        fields=(
            Field("density", long_name="density of smoke at cell centres"),
            Field(
                "velocity",
                kind="vector",
                components=("x", "y"),
                long_name="velocity, each component on the lower faces of cells along its axis",
                is_on_faces=True,
            ),
        ),
        axes=tuple(Axis(name, LENGTH, "wall", offset=0.5) for name in "yx"),
        dt=next(iter(steps.values())),
        parameters=(Parameter("buoyancy", long_name="acceleration of a unit of density"),),
        equation="∂u/∂t + u·∇u = -∇p + ν Δu + buoyancy · density e_y, ∇·u = 0; the density is advected",
    )
    axes = (SAMPLE, TIME, "x", "y")
    times = next(iter(starts.values())) + spec.dt * np.arange(num_frames)
    return ArrayTrajectories(
        spec,
        (ny, nx),
        times,
        [Slot(name, axes) for name in ("u", "vx", "vy")],
        places,
        parameters=np.concatenate(rows)[:, None],
        pool=pool,
    )


def _group(file: Path, container: Container) -> str:
    names = [name.rsplit("/", 1)[0] for name in container.shapes() if name.endswith("/u")]
    known = [name for name in names if name in SPLITS]
    if len(known) != 1:
        held = ", ".join(container.shapes()) or "nothing"
        raise ValueError(f"{file} needs one group train, valid or test with u, vx and vy; it holds {held}.")
    return known[0]


def _weather(
    files: Sequence[Path], variables: Sequence[str], skip: int, pool: ContainerPool
) -> ArrayTrajectories:
    fields, slots = [], []
    first = pool.get(files[0])
    shapes = first.shapes()
    has_runs = first.kind == "zarr" and len(shapes.get("pres", ())) == 4
    lead = (SAMPLE, TIME) if has_runs else (TIME,)
    for name in variables:
        if name not in WEATHER:
            raise ValueError(
                f"variables names {name!r}.{did_you_mean(name, WEATHER)} Allowed: {', '.join(WEATHER)}."
            )
        fields.append(WEATHER[name])
        for array in ("u", "v") if name == "wind" else (name,):
            if array not in shapes:
                raise ValueError(f"{files[0]} lacks {array!r}; it holds {', '.join(sorted(shapes))}.")
            has_level = len(shapes[array]) == len(lead) + 3
            axes = (*lead, *(["lev"] if has_level else []), "lat", "lon")
            slots.append(Slot(array, axes, {"lev": 0} if has_level else {}, missing=MISSING))
    sizes, counts = {}, []
    for file in files:
        shape = pool.get(file).shapes().get(slots[0].array, ())
        sizes[file] = (shape[1:2] if has_runs else shape[:1]) + shape[-2:]
        counts += [Place((file,), run) for run in range(shape[0])] if has_runs else [Place((file,))]
    same("(time, lat, lon)", sizes)
    num_frames, num_lat, num_lon = sizes[files[0]]
    if not 0 <= skip < num_frames:
        raise ValueError(f"skip is {skip}; the files have {num_frames} frames.")
    lat = (
        first.read("lat").ravel()
        if "lat" in shapes
        else 90 - np.rad2deg(latitude_rule("gauss-legendre", num_lat)[0])
    )
    rule = 90 - np.rad2deg(latitude_rule("gauss-legendre", num_lat)[0])
    north_first = bool(lat[0] > lat[-1])
    if len(lat) != num_lat or np.abs(np.sort(lat) - np.sort(rule)).max() > 0.1:
        raise ValueError(
            f"{files[0]}: the {len(lat)} latitudes are not the {num_lat} Gaussian ones of the set."
        )
    if "time" in shapes and num_frames > 1:
        hours = first.read("time").astype(np.float64).ravel()
        if (
            len(hours) == num_frames
            and abs(hours[-1] - hours[0] - (num_frames - 1) * HOURS_BETWEEN_FRAMES) > 2
        ):
            even_step(files[0], hours, HOURS_BETWEEN_FRAMES)
    spec = DataSpec(
        fields=tuple(fields),
        axes=spherical_axes("gauss-legendre", north_first=north_first),
        dt=HOURS_BETWEEN_FRAMES,
        time_units="h",
        geometry="sphere",
        equation="shallow water on the rotating Earth, with its orography",
    )
    numbers = range(skip, num_frames)
    times = HOURS_BETWEEN_FRAMES * np.array(numbers)
    return ArrayTrajectories(spec, (num_lat, num_lon), times, slots, counts, frame_numbers=numbers, pool=pool)


def _statistics(file: Path, trajectories: Trajectories) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and standard deviation of each grid point for the fields that PDEArena's loaders normalise."""
    found = read_statistics(file, ("pres", "vor"))
    return {
        WEATHER[name].name: pair for name, pair in found.items() if WEATHER[name] in trajectories.spec.fields
    }


@FORMATS.register("pdearena")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a shard, a tree of ``output.nc``, a zarr store of runs, or a folder of those."""
    file = path
    if look.kind(path) == "folder":
        inside = sorted(p for p in path.iterdir() if p.suffix in (".h5", ".zarr"))
        inside = inside or sorted(path.glob("*/seed=*/run*/output.nc"))[:1]
        if not inside:
            return None
        file = inside[0]
    shapes = look.shapes(file)
    if any({f"{split}/u", f"{split}/vx", f"{split}/vy", f"{split}/dt"} <= shapes.keys() for split in SPLITS):
        return {"root": str(path)}
    if {"u", "v", "vor", "pres"} <= shapes.keys() and look.kind(file) in ("hdf5", "zarr"):
        return {"root": str(path)}
    return None
