"""Files of one's own, netCDF, zarr, HDF5, MATLAB, NumPy or PyTorch, with a layout that names fields and axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.fields import Axis, DataSpec, Parameter
from pdesurrogate.registry import did_you_mean

from . import DATASETS
from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import Container, ContainerPool, refuses_damage
from .coordinates import axis_of, even_step
from .custom_layout import COMPONENT, ORDER, FieldLayout, Layout, read_layout
from .file_lists import files_of, same
from .splits import by_trajectory, divided
from .trajectories import DataSet

SUFFIXES = (".nc", ".h5", ".hdf5", ".npy", ".npz", ".mat", ".pt", ".zarr")


@DATASETS.register("custom")
@refuses_damage
def custom(path: str, layout: Mapping[str, Any] | str, split: Mapping[str, Any] | None = None) -> DataSet:
    """Trajectories from files of any of the known containers.

    Args:
        path: a file, a folder or a pattern with ``*``; the trajectories of several files follow one another.
        layout: which arrays are which fields, on which axes: a YAML file or a mapping, see `custom_layout`.
        split: a rule of `splits.divided`; by default shares of 80, 10 and 10 %.

    Raises:
        ValueError: if files are missing, damaged or carry code, or the layout does not fit them.
    """
    folder = Path(path)
    is_zarr = folder.is_dir() and any((folder / n).is_file() for n in ("zarr.json", ".zgroup", ".zarray"))
    files = [folder.absolute()] if is_zarr else files_of(path, SUFFIXES)
    whole = open_with_layout(files, read_layout(layout))
    provenance = {"path": str(path), "format": "custom", "files": len(files)}
    return divided(folder.stem, whole, split, lambda total: by_trajectory(total, 0.8, 0.1, 0.1), provenance)


def open_with_layout(
    files: Sequence[Path],
    layout: Layout,
    pool: ContainerPool | None = None,
    kind: type[ArrayTrajectories] = ArrayTrajectories,
) -> ArrayTrajectories:
    """Return the trajectories of some files after a layout.

    Args:
        files: the files, one after another.
        layout: which arrays are which fields.
        pool: keeps the files open.
        kind: what to make.

    Raises:
        ValueError: if the layout does not fit a file.
    """
    pool = pool or ContainerPool()
    beside = list(dict.fromkeys(name for field in layout.fields for name in field.files))
    first = _Look(files[0], pool, layout, beside)
    places, rows, shapes = [], [], {}
    for file in files:
        look = first if file == files[0] else _Look(file, pool, layout, beside)
        shapes[file] = {axis: size for axis, size in look.sizes.items() if axis != SAMPLE}
        count = look.sizes.get(SAMPLE)
        places += [Place(look.files, i) for i in range(count)] if count else [Place(look.files)]
        rows.append(look.parameters(count or 1))
    same("the sizes", shapes)
    numbers = layout.frames or tuple(range(first.sizes.get(TIME, 1)))
    if numbers and not 0 <= min(numbers) <= max(numbers) < first.sizes.get(TIME, 1):
        raise ValueError(
            f"{files[0]} has {first.sizes.get(TIME, 1)} frames; the layout asks for {list(numbers)}."
        )
    axes = first.axes()
    dt, start, time_units = first.time(numbers)
    geometry = layout.geometry or ("sphere" if {a.name for a in axes} == {"lat", "lon"} else "plane")
    spec = DataSpec(
        fields=tuple(first.field(item) for item in layout.fields),
        axes=axes,
        dt=dt,
        time_units=time_units,
        geometry=geometry,  # type: ignore[arg-type]
        parameters=tuple(Parameter(str(name)) for name in layout.parameters),
        equation=layout.equation,
    )
    return kind(
        spec,
        [first.size(axis.name) for axis in axes],
        start + dt * np.arange(len(numbers)),
        first.slots,
        places,
        parameters=np.concatenate(rows),
        frame_numbers=numbers,
        crop=layout.crop,
        pool=pool,
    )


class _Look:
    """One file under a layout, and the files beside it: sizes of all axes, slots of all channels."""

    def __init__(self, file: Path, pool: ContainerPool, layout: Layout, beside: Sequence[str]) -> None:
        self.layout, self._pool = layout, pool
        self.files = (file, *(file.parent / name for name in beside))
        self._numbers = {"": 0, **{name: i + 1 for i, name in enumerate(beside)}}
        self.sizes: dict[str, int] = {}
        self.slots: list[Slot] = []
        for item in layout.fields:
            self._add(item)
        missing = [axis for axis in layout.space if axis not in self.sizes]
        if missing:
            raise ValueError(
                f"{file}: no array of the layout has the axis {', '.join(missing)} of its space."
            )

    def size(self, axis: str) -> int:
        """Return the number of points along an axis of space that are read."""
        return len(range(self.sizes[axis])[self.layout.crop.get(axis, slice(None))])

    def field(self, item: FieldLayout) -> Any:
        """Return a field, with the units that the file names if the layout names none."""
        if item.has_units:
            return item.field
        container = self._container(item.files[0] if item.files else "")
        units = container.attributes(item.arrays[0]).get("units") if item.arrays[0] else None
        return dataclasses.replace(item.field, units=str(units)) if units else item.field

    def axes(self) -> tuple[Axis, ...]:
        """Return the axes of space in the house's order."""
        names = [name for name in self.sizes if name not in (SAMPLE, TIME)]
        known = sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else -1)
        return tuple(self._axis(name) for name in known)

    def time(self, numbers: Sequence[int]) -> tuple[float, float, str]:
        """Return the time between the chosen frames, that of the first, and the unit."""
        facts = self.layout.time
        name = facts.get("coordinates") or (None if "dt" in facts else self._coordinate(TIME))
        units = str(facts.get("units", "1"))
        if name is None:
            step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
            even_step(self.files[0], np.asarray(numbers, dtype=float), float(step))
            if "dt" not in facts and len(numbers) > 1:
                raise ValueError(
                    f"{self.files[0]}: the layout says nothing of time; give time: {{dt: ...}} or time: {{coordinates: "
                    "ARRAY}}."
                )
            dt = float(facts.get("dt", 1.0))
            return dt * step, float(facts.get("start", 0.0)) + dt * numbers[0], units
        times, found = _as_times(self._read(str(name)).ravel())
        if len(times) != self.sizes.get(TIME, 1):
            raise ValueError(
                f"{self.files[0]}: {name} has {len(times)} entries for {self.sizes.get(TIME, 1)} frames."
            )
        times = times * self._number(facts.get("scale", 1.0))
        attributes = self._container("").attributes(str(name))
        if "units" not in facts:
            units = found or str(attributes.get("units", "1")).split(" since ")[0]
        chosen = times[list(numbers)]
        return even_step(self.files[0], chosen, facts.get("dt")), float(chosen[0]), units

    def _number(self, value: Any) -> float:
        """Return a number of the layout, or the one that an array of the file holds."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        numbers = self._read(str(value)).ravel()
        if len(numbers) != 1:
            raise ValueError(f"{self.files[0]}: {value} holds {len(numbers)} numbers where one is meant.")
        return float(numbers[0])

    def parameters(self, count: int) -> np.ndarray:
        """Return the parameters of the file's trajectories, ``(trajectory, parameter)``."""
        columns = [self._parameter(str(name), value, count) for name, value in self.layout.parameters.items()]
        return np.stack(columns, axis=1) if columns else np.zeros((count, 0))

    def _parameter(self, name: str, value: Any, count: int) -> np.ndarray:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return np.full(count, float(value))
        container = self._container("")
        attributes = container.attributes()
        if value in container.shapes():
            numbers = container.read(str(value)).astype(np.float64).ravel()
            if numbers.size not in (1, count):
                raise ValueError(
                    f"{self.files[0]}: the parameter {name} has {numbers.size} values for {count} trajectories."
                )
            return np.broadcast_to(numbers, (count,)).copy()
        if isinstance(attributes.get(value), int | float):
            return np.full(count, float(attributes[value]))
        known = [*container.shapes(), *(k for k, v in attributes.items() if isinstance(v, int | float))]
        raise ValueError(
            f"{self.files[0]} has no array or attribute {value!r} for the parameter {name}."
            f"{did_you_mean(str(value), known)} It has: {', '.join(known)}."
        )

    def _add(self, item: FieldLayout) -> None:
        channels = max(1, len(item.field.components))
        for channel in range(channels):
            array = item.arrays[channel if len(item.arrays) > 1 else 0]
            beside = item.files[channel if len(item.files) > 1 else 0] if item.files else ""
            container = self._container(beside)
            shapes = container.shapes()
            if container.kind == "npy":
                array = ""
            if array not in shapes:
                raise ValueError(
                    f"{container.path} has no array {array!r}.{did_you_mean(array, shapes)} It holds: "
                    f"{', '.join(f'{name} {shape}' for name, shape in shapes.items()) or 'no arrays of numbers'}."
                )
            axes, fixed = self._axes(item, container, array, channel, channels)
            self._note(container, array, axes, fixed, shapes[array])
            facts = container.attributes(array) if array else {}
            missing = facts.get("_FillValue", facts.get("missing_value"))
            self.slots.append(
                Slot(
                    array,
                    axes,
                    fixed,
                    self._numbers[beside],
                    float(facts.get("scale_factor", 1.0)),
                    float(facts.get("add_offset", 0.0)),
                    float(missing) if isinstance(missing, int | float) else None,
                )
            )

    def _axes(
        self, item: FieldLayout, container: Container, array: str, channel: int, channels: int
    ) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the axes of an array, and the index along those that are fixed."""
        named = item.axes or self.layout.axes
        if named is None:
            dimensions = container.dimensions(array)
            if dimensions is None:
                raise ValueError(
                    f"{container.path} does not name the axes of {array or 'its array'}, of shape "
                    f"{container.shapes()[array]}; the layout must: axes: [sample, time, x, y], for instance."
                )
            named = tuple(self.layout.role(name) for name in dimensions)
        axes, fixed = [], {}
        for name in named:
            axis, is_fixed, index = name.partition("=")
            axes.append(axis)
            if is_fixed:
                fixed[axis] = int(index)
        if COMPONENT in axes:
            fixed.setdefault(COMPONENT, channel if channels > 1 else 0)
        elif channels > 1 and len(item.arrays) == 1 and len(item.files) <= 1:
            raise ValueError(
                f"the field {item.field.name!r} has the components {item.field.components} in one array, whose axes "
                f"{axes} have no 'component'; name it, or give arrays: one for each component."
            )
        return tuple(axes), fixed

    def _note(
        self,
        container: Container,
        array: str,
        axes: tuple[str, ...],
        fixed: Mapping[str, int],
        shape: tuple[int, ...],
    ) -> None:
        if len(axes) != len(shape):
            raise ValueError(
                f"{container.path}: {array or 'the array'} has the shape {shape}; the layout names {len(axes)} axes, "
                f"{', '.join(axes)}."
            )
        for axis, size in zip(axes, shape, strict=True):
            if axis in fixed:
                if not 0 <= fixed[axis] < size:
                    raise ValueError(
                        f"{container.path}: {axis} = {fixed[axis]} and {array} has {size} of it."
                    )
                continue
            if size == 0:
                raise ValueError(f"{container.path}: {array or 'the array'} is empty along {axis}.")
            if self.sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"{container.path}: {array or 'the array'} {shape} has {size} along {axis} and others "
                    f"{self.sizes[axis]}.{_transposition(axes, shape, self.sizes, fixed)}"
                )

    def _axis(self, name: str) -> Axis:
        facts = self.layout.space.get(name, {})
        size, file = self.size(name), self.files[0]
        coordinates = facts.get("coordinates")
        if coordinates is None and "length" not in facts and "nodes" not in facts:
            coordinates = self._coordinate(name)
        units = str(facts.get("units", "1"))
        boundary = facts.get("boundary", {"lat": "open", "lon": "periodic"}.get(name))
        if boundary is None:
            raise ValueError(
                f"{file}: the layout does not say what happens at the ends of {name}; give space: {{{name}: "
                "{boundary: periodic}}, or wall, or open."
            )
        if coordinates is not None:
            points = self._read(str(coordinates)).ravel()
            if len(points) != self.sizes[name]:
                others = {a: n for a, n in self.sizes.items() if n == len(points) and a not in (SAMPLE, TIME)}
                hint = (
                    f" That is the size of {', '.join(others)}: the axes may be transposed." if others else ""
                )
                raise ValueError(
                    f"{file}: {coordinates} has {len(points)} points and the arrays {self.sizes[name]} along "
                    f"{name}.{hint}"
                )
            if "units" not in facts:
                units = str(self._container("").attributes(str(coordinates)).get("units", units))
            units = {"degrees": {"lat": "degrees_north", "lon": "degrees_east"}.get(name, units)}.get(
                units, units
            )
            return axis_of(file, name, points[self.layout.crop.get(name, slice(None))], boundary, units)
        if "nodes" in facts or (name == "lat" and "length" not in facts):
            return Axis(
                name,
                180.0,
                boundary,
                "degrees_north",
                -90.0,
                nodes=facts.get("nodes", "gauss-legendre"),
                is_descending=bool(facts.get("descending", True)),
            )
        whole = float(facts.get("length", 360.0 if name == "lon" else self.sizes[name]))
        spacing = whole / self.sizes[name]
        first = self.layout.crop.get(name, slice(None)).indices(self.sizes[name])[0]
        return Axis(
            name,
            spacing * size,
            boundary,
            "degrees_east" if name == "lon" and units == "1" else units,
            float(facts.get("origin", 0.0)) + spacing * first,
            float(facts.get("offset", 0.0 if boundary == "periodic" else 0.5)),
            is_descending=bool(facts.get("descending", False)),
        )

    def _coordinate(self, axis: str) -> str | None:
        """Return the array that holds an axis's coordinates by the file's own naming, if there is one."""
        shapes = self._container("").shapes()
        names = [axis, *(n for n in shapes if self.layout.role(n) == axis)]
        return next((n for n in names if n in shapes and len(shapes[n]) == 1), None)

    def _container(self, beside: str) -> Container:
        return self._pool.get(self.files[self._numbers[beside]])

    def _read(self, name: str) -> np.ndarray:
        container = self._container("")
        if name not in container.shapes():
            raise ValueError(
                f"{container.path} has no array {name!r}.{did_you_mean(name, container.shapes())} It holds: "
                f"{', '.join(container.shapes())}."
            )
        return container.read(name)


def _as_times(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Return times as numbers; dates as hours after the first, with that unit."""
    if values.dtype.kind in "mM":
        return (values - values[0]) / np.timedelta64(1, "s") / 3600.0, "h"
    return values.astype(np.float64), ""


def _transposition(
    axes: Sequence[str], shape: Sequence[int], sizes: Mapping[str, int], fixed: Iterable[str]
) -> str:
    """Return a hint where another order of an array's axes would fit the sizes."""
    if len(axes) > 6:
        return ""
    held = set(fixed)
    for order in permutations(axes):
        if order != tuple(axes) and all(
            a in held or sizes.get(a, n) == n for a, n in zip(order, shape, strict=True)
        ):
            return f" The axes seem to be transposed: [{', '.join(order)}] would fit."
    return ""
