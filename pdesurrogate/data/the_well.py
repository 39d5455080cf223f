"""The Well's HDF5 files: fields by tensor rank, with boundaries, scalars and what varies with what.

``{root}/data/{train,valid,test}/*.hdf5``. In a file, groups ``t0_fields``, ``t1_fields`` and ``t2_fields`` hold
scalars, vectors and tensors, (sample, time, *dims, components); an axis along which a field does not vary is left
out. ``dimensions`` holds time and coordinates, ``boundary_conditions`` their types, ``scalars`` numbers.

Coordinates theta in [0, π] are colatitudes: latitude is 90° less theta, and the northward component of a vector
is the negative of that along theta. Components of tensors are read as scalars, ``D_xy``.

Source: Ohana et al. (2024), "The Well", and docs/data_format.md of its package.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter

from . import DATASETS
from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import ContainerPool, refuses_damage
from .containers.hdf5 import Hdf5Container
from .coordinates import axis_of, even_step
from .file_lists import natural, same
from .files import listing, require_path
from .recognition import FORMATS, Recognised
from .splits import by_trajectory, divided, refuse_shared_files
from .trajectories import SPLITS, DataSet, Trajectories

log = logging.getLogger(__name__)

SUFFIXES = (".hdf5", ".h5")
ORDER = ("z", "y", "x")
SPHERE = {"theta": "lat", "phi": "lon"}
BOUNDARIES = {"PERIODIC": "periodic", "WALL": "wall", "OPEN": "open"}


@DATASETS.register("the_well")
@refuses_damage
def the_well(
    root: str, fields: Sequence[str] | None = None, split: Mapping[str, Any] | None = None
) -> DataSet:
    """A data set of The Well, split into folders by its authors; or one of its files.

    Args:
        root: the data set's folder, which holds ``data/train``, ``data/valid`` and ``data/test``; or one file.
        fields: names of the fields to be read, in order; None for all, by tensor rank.
        split: of one file, a rule of `splits.divided`; by default shares of 80, 10 and 10 %.

    Raises:
        ValueError: if there are no such files, they are damaged, have points that are not evenly spaced, or do
            not belong together, or if one file is in two splits.
    """
    folder = Path(root).absolute()
    require_path(folder)
    if folder.is_file():
        whole = open_files([folder], fields)
        one = {"root": str(root), "format": "The Well"}
        return divided(folder.stem, whole, split, lambda total: by_trajectory(total, 0.8, 0.1, 0.1), one)
    base = folder / "data" if (folder / "data").is_dir() else folder
    found = {}
    for name in SPLITS:
        files = [p for p in (base / name).glob("*") if p.suffix in SUFFIXES] if (base / name).is_dir() else []
        if files:
            found[name] = sorted(files, key=lambda p: natural(p.name))
    if not found:
        raise ValueError(
            f"{folder} is no data set of The Well: {base} needs folders train, valid and test with *.hdf5 files. It "
            f"holds {listing(base)}."
        )
    if split is not None:
        raise ValueError(f"{root} is split by its folders; split= is for a single file.")
    refuse_shared_files(found)
    splits: dict[str, Trajectories] = {name: open_files(files, fields) for name, files in found.items()}
    provenance: dict[str, Any] = {
        "root": str(root),
        "format": "The Well",
        "files": {k: len(v) for k, v in found.items()},
    }
    if (stats := folder / "stats.yaml").is_file():
        provenance["statistics"] = yaml.safe_load(stats.read_text())
    return DataSet(folder.name, splits, provenance)


def open_files(files: Sequence[Path], fields: Sequence[str] | None = None) -> ArrayTrajectories:
    """Return the trajectories of some files of one data set.

    Raises:
        ValueError: if a file is damaged, of another schema, or differs from the first in grid or fields.
    """
    pool = ContainerPool()
    first = _Schema.of(files[0], _open(pool, files[0]), fields)
    places, rows, shapes = [], [], {}
    for file in files:
        container = _open(pool, file)
        schema = first if file == files[0] else _Schema.of(file, container, fields)
        differences = first.spec.mismatches(schema.spec)
        if differences:
            raise ValueError(
                f"{file} differs from {files[0]}: {'; '.join(differences)}. Open them separately."
            )
        shapes[file] = (schema.num_frames, *schema.grid)
        places += [Place((file,), sample) for sample in range(schema.num_samples)]
        rows.append(schema.parameters)
    same("the shape (time, *space)", shapes)
    return ArrayTrajectories(
        first.spec, first.grid, first.times, first.slots, places, parameters=np.concatenate(rows), pool=pool
    )


@dataclass(frozen=True)
class _Schema:
    """What one file says."""

    spec: DataSpec
    grid: tuple[int, ...]
    times: np.ndarray
    slots: tuple[Slot, ...]
    num_samples: int
    parameters: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, file: Path, container: Hdf5Container, wanted: Sequence[str] | None) -> _Schema:
        shapes, attributes = container.shapes(), container.attributes()
        _require(file, container)
        dims = list(container.attributes("dimensions")["spatial_dims"])
        is_sphere = attributes.get("grid_type") in ("equiangular", "spherical") and set(dims) == set(SPHERE)
        names = {dim: SPHERE[dim] if is_sphere else dim for dim in dims}
        order = (
            ["theta", "phi"]
            if is_sphere
            else sorted(dims, key=lambda d: ORDER.index(d) if d in ORDER else -1)
        )
        edges = _boundaries(container, dims)
        axes, signs = [], {}
        for dim in order:
            points = container.read(f"dimensions/{dim}")
            points = points[0] if points.ndim > 1 else points
            units = str(container.attributes(f"dimensions/{dim}").get("units", "1"))
            axis, signs[dim] = _axis(file, names[dim], points, edges[dim], units, is_sphere)
            axes.append(axis)
        times = container.read("dimensions/time")
        times = times[0] if times.ndim > 1 else times
        fields, slots = _fields(
            file, container, dims, names, signs, is_sphere, int(attributes["n_trajectories"])
        )
        if wanted is not None:
            fields, slots = _chosen(file, wanted, fields, slots)
        parameters, values = _parameters(container, attributes)
        dt = even_step(file, times)
        spec = DataSpec(
            fields=tuple(fields),
            axes=tuple(axes),
            dt=dt,
            time_units=str(container.attributes("dimensions/time").get("units", "1")),
            geometry="sphere" if is_sphere else "plane",
            parameters=tuple(parameters),
        )
        grid = tuple(shapes[f"dimensions/{dim}"][-1] for dim in order)
        times = float(times[0]) + dt * np.arange(len(times))
        return cls(spec, grid, times, tuple(slots), int(attributes["n_trajectories"]), values)


def _open(pool: ContainerPool, file: Path) -> Hdf5Container:
    container = pool.get(file)
    if not isinstance(container, Hdf5Container):
        raise ValueError(f"{file} is no HDF5 file; The Well's are.")
    return container


def _require(file: Path, container: Hdf5Container) -> None:
    groups = container.groups()
    needed = ["dimensions", "t0_fields"]
    missing = [name for name in needed if name not in groups]
    missing += ["n_trajectories"] if "n_trajectories" not in container.attributes() else []
    if not missing and "spatial_dims" not in container.attributes("dimensions"):
        missing = ["dimensions.spatial_dims"]
    if not missing:
        dims = container.attributes("dimensions")["spatial_dims"]
        missing = [f"dimensions/{d}" for d in (*dims, "time") if container.shape(f"dimensions/{d}") is None]
    if missing:
        held = ", ".join([*groups, *container.attributes()]) or "nothing"
        raise ValueError(
            f"{file} lacks {', '.join(missing)} of The Well's schema; it holds {held}. Download the file again."
        )


def _boundaries(container: Hdf5Container, dims: Sequence[str]) -> dict[str, str]:
    """Return the boundary of each axis, open where the file names none, as The Well's reader takes it."""
    edges = dict.fromkeys(dims, "open")
    for name in (
        container.groups("boundary_conditions") if "boundary_conditions" in container.groups() else []
    ):
        facts = container.attributes(f"boundary_conditions/{name}")
        kind = BOUNDARIES.get(str(facts.get("bc_type", "OPEN")).upper())
        if kind is None:
            log.warning("%s: the boundary %r is unknown and taken as open.", container.path, facts["bc_type"])
            continue
        for dim in facts.get("associated_dims", []):
            if dim in edges and edges[dim] == "open":
                edges[dim] = kind
    return edges


def _axis(
    file: Path, name: str, points: np.ndarray, edge: str, units: str, is_sphere: bool
) -> tuple[Axis, float]:
    """Return an axis, and the sign of a vector's component along its coordinate."""
    if not is_sphere:
        return axis_of(file, name, points, edge, units), 1.0
    degrees = np.rad2deg(np.asarray(points, dtype=np.float64))
    if name == "lon":
        return axis_of(file, "lon", degrees, "periodic", "degrees_east"), 1.0
    is_colatitude = degrees.min() >= -1e-6
    return axis_of(file, "lat", 90 - degrees if is_colatitude else degrees, "open", "degrees_north"), (
        -1.0 if is_colatitude else 1.0
    )


def _fields(
    file: Path,
    container: Hdf5Container,
    dims: Sequence[str],
    names: Mapping[str, str],
    signs: Mapping[str, float],
    is_sphere: bool,
    num_samples: int,
) -> tuple[list[Field], list[Slot]]:
    fields: list[Field] = []
    slots: list[Slot] = []
    for rank in range(3):
        group = f"t{rank}_fields"
        if group not in container.groups():
            continue
        listed = container.attributes(group).get("field_names", [])
        for name in listed:
            array = f"{group}/{name}"
            if container.shape(array) is None:
                raise ValueError(
                    f"{file}: {group} names {name!r} and does not hold it; download the file again."
                )
            facts = container.attributes(array)
            varying = facts.get("dim_varying", [True] * len(dims))
            in_time = bool(facts.get("time_varying", True))
            axes = [SAMPLE] if facts.get("sample_varying", True) else []
            count = (container.shape(array) or (0,))[0]
            if axes and count != num_samples:
                raise ValueError(
                    f"{file}: {array} holds {count} trajectories and n_trajectories is {num_samples}."
                )
            axes += [TIME] if in_time else []
            axes += [names[dim] for dim, varies in zip(dims, varying, strict=True) if varies]
            own, found = _components(
                array, name, rank, tuple(axes), dims, names, signs, is_sphere, not in_time
            )
            known: dict[str, Any] = {key: str(facts[key]) for key in ("units", "long_name") if key in facts}
            if rank == 0 and facts.get("kind") == "pseudoscalar":
                known["kind"] = "pseudoscalar"
            if rank == 1 and facts.get("is_on_faces", False):
                known["is_on_faces"] = True
            fields += [dataclasses.replace(field, **known) for field in own]
            slots += found
    if not fields:
        raise ValueError(f"{file} names no fields in t0_fields, t1_fields and t2_fields.")
    return fields, slots


def _components(
    array: str,
    name: str,
    rank: int,
    axes: tuple[str, ...],
    dims: Sequence[str],
    names: Mapping[str, str],
    signs: Mapping[str, float],
    is_sphere: bool,
    is_static: bool,
) -> tuple[list[Field], list[Slot]]:
    """Return the fields and slots of one array of rank 0, 1 or 2."""
    if rank == 0:
        return [Field(name, is_static=is_static)], [Slot(array, axes)]
    if rank == 1:
        order = ["phi", "theta"] if is_sphere else list(dims)
        vector = Field(name, kind="vector", components=tuple(names[d] for d in order), is_static=is_static)
        found = [
            Slot(array, (*axes, "component"), {"component": list(dims).index(d)}, scale=signs[d])
            for d in order
        ]
        return [vector], found
    pairs = [(i, j) for i in range(len(dims)) for j in range(len(dims))]
    fields = [Field(f"{name}_{dims[i]}{dims[j]}", is_static=is_static) for i, j in pairs]
    return fields, [Slot(array, (*axes, "row", "column"), {"row": i, "column": j}) for i, j in pairs]


def _chosen(
    file: Path, wanted: Sequence[str], fields: list[Field], slots: list[Slot]
) -> tuple[list[Field], list[Slot]]:
    by_name: dict[str, tuple[Field, list[Slot]]] = {}
    position = 0
    for field in fields:
        size = len(field.channel_names)
        by_name[field.name] = (field, slots[position : position + size])
        position += size
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise ValueError(f"{file} has no fields {', '.join(missing)}; it has {', '.join(by_name)}.")
    return [by_name[name][0] for name in wanted], [slot for name in wanted for slot in by_name[name][1]]


def _parameters(
    container: Hdf5Container, attributes: Mapping[str, Any]
) -> tuple[list[Parameter], np.ndarray]:
    """Return constant numbers: scalars that do not vary in time, and attributes of the simulation."""
    num_samples = int(attributes["n_trajectories"])
    columns: dict[str, np.ndarray] = {}
    scalars = (
        container.attributes("scalars").get("field_names", []) if "scalars" in container.groups() else []
    )
    for name in scalars:
        if not container.attributes(f"scalars/{name}").get("time_varying", False):
            values = np.asarray(container.read(f"scalars/{name}"), dtype=np.float64)
            if values.size in (1, num_samples):
                columns[name] = np.broadcast_to(values.ravel(), (num_samples,))
    for name in attributes.get("simulation_parameters", []):
        if name not in columns and isinstance(value := attributes.get(name), int | float):
            columns[name] = np.full(num_samples, float(value))
    table = np.stack(list(columns.values()), axis=1) if columns else np.zeros((num_samples, 0))
    return [Parameter(name) for name in columns], table


@FORMATS.register("the_well")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a file with the group ``t0_fields``, or a data set's folder of such files."""
    file = path
    if look.kind(path) == "folder":
        inside = [p for name in SPLITS for p in sorted(path.glob(f"data/{name}/*")) if p.suffix in SUFFIXES]
        inside = inside or [
            p for name in SPLITS for p in sorted(path.glob(f"{name}/*")) if p.suffix in SUFFIXES
        ]
        if not inside:
            return None
        file = inside[0]
    if look.kind(file) != "hdf5" or "n_trajectories" not in look.attributes(file):
        return None
    container = look.container(file)
    is_well = isinstance(container, Hdf5Container) and {"dimensions", "t0_fields"} <= set(container.groups())
    return {"root": str(path)} if is_well else None
