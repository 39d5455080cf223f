"""The four layouts of PDEBench's files as trajectories, see `pdebench`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pdesurrogate.fields import DataSpec, Field, Parameter

from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot, content_digest
from .containers import UNREADABLE, ContainerPool, unreadable
from .containers.hdf5 import Hdf5Container
from .coordinates import axis_of, even_step
from .file_lists import same
from .splits import without_duplicates

SAMPLE_GROUP = re.compile(r"\d+")
COORDINATES = {"x": "x-coordinate", "y": "y-coordinate", "z": "z-coordinate"}
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a thousand samples have a text each
FLOW_PARAMETERS = {"M": "mach_number", "eta": "shear_viscosity", "zeta": "bulk_viscosity"}


def layout_of(file: Path) -> str:
    """Return which layout a file has.

    Raises:
        ValueError: if it has none of them.
    """
    pool = ContainerPool()
    container = _open(pool, file)
    try:
        groups = [name for name in container.groups() if SAMPLE_GROUP.fullmatch(name)]
        if groups and container.shape(f"{groups[0]}/data") and container.shape(f"{groups[0]}/grid/t"):
            return "group a sample"
        if all(container.shape(name) for name in ("velocity", "particles", "t")):
            return "incompressible"
        if all(container.shape(name) for name in ("density", "Vx", "t-coordinate", "x-coordinate")):
            return "compressible"
        if container.shape("tensor") and container.shape("x-coordinate"):
            return "tensor"
        held = ", ".join([*container.groups(), *container.shapes()][:8]) or "nothing"
    except UNREADABLE as error:
        raise unreadable(file, "HDF5", error) from error
    finally:
        pool.close()
    raise ValueError(
        f"{file} is in no layout of PDEBench; it holds {held}. Known are groups 0000, 0001, .. with data and grid; "
        "velocity, particles and t; density, Vx and x-coordinate; tensor and x-coordinate."
    )


def group_a_sample(files: Sequence[Path], boundary: str | None) -> ArrayTrajectories:
    """Radial dam break and diffusion-reaction."""
    pool = ContainerPool()
    places, table, shapes = [], [], {}
    first: dict[str, Any] = {}
    coordinates: dict[str, np.ndarray] = {}
    for file in files:
        container = _open(pool, file)
        for group in sorted(name for name in container.groups() if SAMPLE_GROUP.fullmatch(name)):
            shape = container.shape(f"{group}/data")
            if shape is None or container.shape(f"{group}/grid/t") is None:
                raise ValueError(f"{file}: group {group!r} lacks data or grid/t; download the file again.")
            shapes[f"{file}, group {group!r}"] = shape
            settings = _settings(file, group, container)
            first = first or settings
            table.append({k: v for k, v in settings.items() if isinstance(v, int | float)})
            places.append(Place((file,), None, group))
            if not coordinates:
                coordinates = {
                    axis: container.read(f"{group}/grid/{axis}")
                    for axis in "txyz"
                    if container.shape(f"{group}/grid/{axis}")
                }
    same("the shape (time, *space, channel)", shapes)
    shape = next(iter(shapes.values()))
    if (written := _open(pool, files[0]).attributes().get("spec")) is not None:
        return _own(
            files[0], DataSpec.from_dict(json.loads(written)), shape, coordinates["t"], places, table, pool
        )
    space = [axis for axis in "xyz" if axis in coordinates]
    sizes = tuple(len(coordinates[axis]) for axis in ("t", *space))
    if shape[:-1] != sizes or shape[-1] not in (1, 2):
        raise ValueError(
            f"{files[0]}: data has the shape {shape}; the grid asks for {sizes} and one or two channels. "
            "The axes are (time, x, y, channel)."
        )
    is_dam_break = shape[-1] == 1
    names = ("dam_radius", "inner_height", "gravity") if is_dam_break else ("Du", "Dv", "k")
    known = [name for name in names if all(name in row for row in table)]
    if is_dam_break:
        fields: tuple[Field, ...] = (Field("depth", long_name="depth of the water"),)
        equation = "∂h/∂t + ∇·(hu) = 0, ∂(hu)/∂t + ∇·(hu u + g h²/2) = 0"
    else:
        fields = (Field("activator", long_name="activator"), Field("inhibitor", long_name="inhibitor"))
        equation = "∂u/∂t = Du Δu + u - u³ - k - v, ∂v/∂t = Dv Δv + u - v"
    edge = boundary or ("open" if is_dam_break else "wall")
    spec = DataSpec(
        fields=fields,
        axes=tuple(axis_of(files[0], axis, coordinates[axis], edge) for axis in reversed(space)),
        dt=even_step(files[0], coordinates["t"]),
        parameters=tuple(Parameter(name) for name in known),
        equation=equation,
    )
    axes = (TIME, *space, "channel")
    return ArrayTrajectories(
        spec,
        shape[-2:0:-1],
        _times(coordinates["t"], spec.dt),
        [Slot("data", axes, {"channel": i}) for i in range(shape[-1])],
        places,
        parameters=np.array([[row[name] for name in known] for row in table]).reshape(
            len(places), len(known)
        ),
        pool=pool,
    )


def _own(
    file: Path,
    spec: DataSpec,
    shape: tuple[int, ...],
    times: np.ndarray,
    places: Sequence[Place],
    table: Sequence[Mapping[str, Any]],
    pool: ContainerPool,
) -> ArrayTrajectories:
    """Return the trajectories of a file that we wrote: it carries its spec."""
    if len(shape) != spec.ndim + 2 or shape[-1] != spec.num_channels or len(times) != shape[0]:
        raise ValueError(
            f"{file}: data has the shape {shape} and its spec the channels {spec.channel_names}."
        )
    axes = (TIME, *reversed(spec.axis_names), "channel")
    parameters = np.array([[row[name] for name in spec.parameter_names] for row in table])
    return ArrayTrajectories(
        spec,
        shape[-2:0:-1],
        _times(times, spec.dt),
        [Slot("data", axes, {"channel": i}) for i in range(shape[-1])],
        places,
        parameters=parameters.reshape(len(places), spec.num_parameters),
        pool=pool,
    )


def incompressible(files: Sequence[Path], boundary: str | None) -> ArrayTrajectories:
    """Velocity and a tracer in a closed box under a steady random force; files of equal content count once."""
    if len(files) > 1:
        files = without_duplicates(files, {file: content_digest(file) for file in files})
    pool = ContainerPool()
    places, shapes, times = [], {}, {}
    for file in files:
        container = _open(pool, file)
        shape = container.shape("velocity")
        if shape is None or len(shape) != 5 or shape[-1] != 2:
            raise ValueError(f"{file}: velocity has the shape {shape}; needed is (sample, time, x, y, 2).")
        shapes[file] = shape[1:]
        times[file] = container.read("t").reshape(-1, shape[1])[0]
        places += [Place((file,), sample) for sample in range(shape[0])]
    same("the shape (time, x, y, 2)", shapes)
    dt = even_step(files[0], times[files[0]], tolerance=1e-2)
    for file in files:
        even_step(file, times[file], dt, tolerance=1e-2)
    _, nx, ny, _ = next(iter(shapes.values()))
    has_force = bool(_open(pool, files[0]).shape("force"))
    centres = {"x": (np.arange(nx) + 0.5) / nx, "y": (np.arange(ny) + 0.5) / ny}
    velocity = Field("velocity", kind="vector", components=("x", "y"), long_name="velocity at cell centres")
    force = Field(
        "force", kind="vector", components=("x", "y"), long_name="force on a unit of tracer", is_static=True
    )
    spec = DataSpec(
        fields=(velocity, Field("tracer", long_name="density of particles"), *([force] if has_force else [])),
        axes=tuple(axis_of(files[0], axis, centres[axis], boundary or "wall") for axis in "yx"),
        dt=dt,
        equation="∂u/∂t + u·∇u = -∇p + ν Δu + tracer · force, ∇·u = 0, u = 0 on the walls",
    )
    axes = (SAMPLE, TIME, "x", "y", "component")
    slots = [Slot("velocity", axes, {"component": c}) for c in (0, 1)]
    slots.append(Slot("particles", axes, {"component": 0}))
    if has_force:
        slots += [Slot("force", (SAMPLE, "x", "y", "component"), {"component": c}) for c in (0, 1)]
    return ArrayTrajectories(spec, (ny, nx), _times(times[files[0]], dt), slots, places, pool=pool)


def compressible(files: Sequence[Path], boundary: str | None) -> ArrayTrajectories:
    """Density, pressure and velocity; Mach number and viscosities are attributes of each file."""
    pool = ContainerPool()
    places, shapes, rows = [], {}, []
    for file in files:
        container = _open(pool, file)
        shape = container.shape("density") or ()
        shapes[file] = shape[1:]
        attributes = container.attributes()
        rows += [[float(attributes[key]) for key in FLOW_PARAMETERS if key in attributes]] * (shape or (0,))[
            0
        ]
        places += [Place((file,), sample) for sample in range((shape or (0,))[0])]
        missing = [name for name in ("pressure", *_velocities(shape)) if container.shape(name) != shape]
        if missing or not 3 <= len(shape) <= 5:
            raise ValueError(
                f"{file}: density has the shape {shape}; {', '.join(missing) or 'it'} does not fit, or is not there."
            )
    same("the shape (time, *space)", shapes)
    same("the attributes", {place.files[0]: len(row) for place, row in zip(places, rows, strict=True)})
    container = _open(pool, files[0])
    shape = next(iter(shapes.values()))
    space = "xyz"[: len(shape) - 1]
    axes, times, dt = _tensor_axes(files[0], container, shape, boundary)
    known = [name for key, name in FLOW_PARAMETERS.items() if key in container.attributes()]
    velocity = (
        Field("velocity", kind="vector", components=tuple(space)) if len(space) > 1 else Field("velocity")
    )
    spec = DataSpec(
        fields=(Field("density"), Field("pressure"), velocity),
        axes=axes,
        dt=dt,
        parameters=tuple(Parameter(name) for name in known),
        equation="compressible Navier-Stokes equations of an ideal gas, ratio of specific heats 5/3",
    )
    slots = [
        Slot(name, (SAMPLE, TIME, *space)) for name in ("density", "pressure", *_velocities((0, *shape)))
    ]
    parameters = np.array(rows).reshape(len(places), len(known))
    return ArrayTrajectories(spec, shape[:0:-1], times, slots, places, parameters=parameters, pool=pool)


def tensor(files: Sequence[Path], boundary: str | None) -> ArrayTrajectories:
    """Scalar equations in time, and Darcy flow as pairs of frames like those of neuraloperator's files."""
    from .neuralop_pt import MapPairs

    pool = ContainerPool()
    shapes = {file: (_open(pool, file).shape("tensor") or ())[1:] for file in files}
    same("the shape (time, *space)", shapes)
    container = _open(pool, files[0])
    shape = shapes[files[0]]
    places = [
        Place((file,), sample)
        for file in files
        for sample in range((_open(pool, file).shape("tensor") or (0,))[0])
    ]
    is_darcy = container.shape("nu") is not None
    if len(shape) < 2 or (is_darcy and (shape[0] != 1 or (container.shape("nu") or ())[1:] != shape[1:])):
        raise ValueError(
            f"{files[0]}: tensor has the shape {shape} after the sample; needed is (time, *space)."
        )
    space = "xyz"[: len(shape) - 1]
    grid = shape[:0:-1]
    if is_darcy:
        axes = tuple(
            axis_of(files[0], axis, _coordinates(container, axis, n), boundary or "wall")
            for axis, n in zip(reversed(space), grid, strict=True)
        )
        fields = (Field("pressure"), Field("coefficient", is_static=True))
        spec = DataSpec(fields=fields, axes=axes, dt=1.0, equation="-∇·(a ∇p) = β, p = 0 on the walls")
        slots = (Slot("tensor", (SAMPLE, "level", *space), {"level": 0}), Slot("nu", (SAMPLE, *space)))
        return MapPairs(spec, grid, [0.0, 1.0], slots, places, pool=pool)
    axes, times, dt = _tensor_axes(files[0], container, shape, boundary or _boundary(files[0]) or "periodic")
    spec = DataSpec(fields=(Field("u"),), axes=axes, dt=dt)
    return ArrayTrajectories(spec, grid, times, (Slot("tensor", (SAMPLE, TIME, *space)),), places, pool=pool)


LAYOUTS: Mapping[str, Callable[[Sequence[Path], str | None], ArrayTrajectories]] = {
    "group a sample": group_a_sample,
    "incompressible": incompressible,
    "compressible": compressible,
    "tensor": tensor,
}


def _open(pool: ContainerPool, file: Path) -> Hdf5Container:
    container = pool.get(file)
    if not isinstance(container, Hdf5Container) or container.kind != "hdf5":
        raise ValueError(f"{file} is no HDF5 file; PDEBench's files are.")
    return container


def _settings(file: Path, group: str, container: Hdf5Container) -> dict[str, Any]:
    """Return the settings of a sample: YAML text, those of the solver in a section ``sim``."""
    text = container.attributes(group).get("config", "")
    try:
        content = yaml.load(text, YAML_LOADER) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: the settings of group {group!r} are no YAML ({error}).") from error
    if not isinstance(content, dict):
        return {}
    inner = content.get("sim")
    return {**content, **inner} if isinstance(inner, dict) else content


def _velocities(shape: tuple[int, ...]) -> list[str]:
    """Return the names of the velocity's components for arrays (sample, time, *space)."""
    return ["Vx", "Vy", "Vz"][: max(1, len(shape) - 2)]


def _boundary(file: Path) -> str | None:
    name = file.name.lower()
    if "periodic" in name:
        return "periodic"
    return "open" if "trans" in name else None


def _coordinates(container: Hdf5Container, axis: str, size: int) -> np.ndarray:
    name = COORDINATES[axis]
    return container.read(name) if container.shape(name) else (np.arange(size) + 0.5) / size


def _tensor_axes(
    file: Path, container: Hdf5Container, shape: tuple[int, ...], boundary: str | None
) -> tuple[tuple[Any, ...], np.ndarray, float]:
    """Return axes, times and dt of arrays (time, x, ..); the times may have an entry more than there are frames."""
    edge = boundary or _boundary(file) or "periodic"
    axes = []
    for axis, size in reversed(list(zip("xyz", shape[1:], strict=False))):
        points = _coordinates(container, axis, size)
        if len(points) != size:
            raise ValueError(
                f"{file}: {COORDINATES[axis]} has {len(points)} points and the arrays {size} along {axis}; "
                f"their axes (time, {', '.join('xyz'[: len(shape) - 1])}) are {shape}."
            )
        axes.append(axis_of(file, axis, points, edge))
    times = container.read("t-coordinate").ravel() if container.shape("t-coordinate") else None
    if times is None or len(times) not in (shape[0], shape[0] + 1):
        found = "missing" if times is None else f"{len(times)} entries long"
        raise ValueError(f"{file}: t-coordinate is {found} for {shape[0]} frames.")
    dt = even_step(file, times[: shape[0]])
    return tuple(axes), _times(times[: shape[0]], dt), dt


def _times(times: np.ndarray, dt: float) -> np.ndarray:
    return round(float(np.ravel(times)[0]), 9) + dt * np.arange(np.size(times))
