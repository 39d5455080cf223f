"""Writing The Well's schema, so that its tools open our data.

``{root}/data/{split}/{name}.hdf5`` and ``{root}/stats.yaml``. Axes go out as (x, y, z) or (theta, phi); on a sphere
theta is the colatitude in radians and a wind's component along it points south.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from pdesurrogate.fields import DataSpec, Field
from pdesurrogate.version import __version__

from .splits import parameter_table
from .trajectories import DataSet, Trajectories

SPHERE = {"lat": "theta", "lon": "phi"}
CHUNK_BYTES = 2**20


def write_well(
    dataset: DataSet,
    root: Path,
    overwrite: bool = False,
    report: Callable[[str, int], None] | None = None,
) -> list[Path]:
    """Write every split of a data set in The Well's schema, and the statistics of the train split.

    Args:
        dataset: what is written.
        root: the folder of the data set.
        overwrite: whether to replace files that are there.
        report: called with the split and the number of a trajectory when it is written.

    Raises:
        ValueError: if a file is there already, or the data cannot be read.
    """
    paths = []
    for name, split in dataset.splits.items():
        path = root / "data" / name / f"{dataset.name}.hdf5"
        if path.exists() and not overwrite:
            raise ValueError(f"{path} is there already. Choose another folder, or give overwrite=true.")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        sums = _Moments(split.spec) if name == "train" else None
        with h5py.File(part, "w") as file:
            _write_file(file, dataset, name, split, sums, report)
        part.replace(path)
        paths.append(path)
        if sums is not None:
            stats = root / "stats.yaml"
            unfinished = stats.with_name("stats.yaml.part")
            unfinished.write_text(yaml.safe_dump(sums.statistics(), sort_keys=False))
            unfinished.replace(stats)
    return paths


def _write_file(
    file: h5py.File,
    dataset: DataSet,
    split_name: str,
    split: Trajectories,
    sums: _Moments | None,
    report: Callable[[str, int], None] | None,
) -> None:
    spec = split.spec
    is_sphere = spec.geometry == "sphere"
    dims = (
        [SPHERE.get(name, name) for name in spec.axis_names] if is_sphere else list(reversed(spec.axis_names))
    )
    table = parameter_table(split)
    constant = [n for i, n in enumerate(spec.parameter_names) if np.ptp(table[:, i]) == 0]
    file.attrs.update(
        dataset_name=dataset.name,
        grid_type="equiangular" if is_sphere else "cartesian",
        n_spatial_dims=spec.ndim,
        n_trajectories=split.num_trajectories,
        simulation_parameters=_names(constant),
        equation=spec.equation,
        pdesurrogate_version=__version__,
    )
    for name in constant:
        file.attrs[name] = float(table[0, spec.parameter_names.index(name)])
    _write_dimensions(file, split, dims, is_sphere)
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = _names(list(spec.parameter_names))
    for i, parameter in enumerate(spec.parameters):
        scalars[parameter.name] = table[:, i].astype(np.float32)
        scalars[parameter.name].attrs.update(sample_varying=True, time_varying=False, units=parameter.units)
    arrays = _create_fields(file, split, dims)
    for trajectory in range(split.num_trajectories):
        frames = split.frames(trajectory, 0, split.num_frames)
        if sums is not None:
            sums.add(frames)
        channel = 0
        for field, array in zip(spec.fields, arrays, strict=True):
            width = len(field.channel_names)
            values = frames[:, channel : channel + width]
            channel += width
            array[trajectory] = _stored(values[:1] if field.is_static else values, field, is_sphere)
        if report is not None:
            report(split_name, trajectory)


def _stored(values: np.ndarray, field: Field, is_sphere: bool) -> np.ndarray:
    """Return ``(time, component, *space)`` in the file's order of axes, time dropped of static fields."""
    if field.kind == "vector" and is_sphere:  # eastward, northward to along theta, along phi
        values = np.stack([-values[:, 1], values[:, 0]], axis=1)
    space = list(range(2, values.ndim))
    turned = values.transpose(0, *(space if is_sphere else reversed(space)), 1)
    turned = turned if field.kind == "vector" else turned[..., 0]
    return turned[0] if field.is_static else turned


def _create_fields(file: h5py.File, split: Trajectories, dims: list[str]) -> list[Any]:
    spec, grid = split.spec, split.grid if split.spec.geometry == "sphere" else split.grid[::-1]
    groups = [file.create_group(f"t{rank}_fields") for rank in range(3)]
    arrays = []
    named: list[list[str]] = [[], [], []]
    for field in spec.fields:
        rank = 1 if field.kind == "vector" else 0
        named[rank].append(field.name)
        tail = (len(field.components),) if rank else ()
        frames = () if field.is_static else (split.num_frames,)
        shape = (split.num_trajectories, *frames, *grid, *tail)
        frame_bytes = 4 * math.prod(grid) * (len(field.components) or 1)
        few = (min(split.num_frames, max(1, CHUNK_BYTES // frame_bytes)),) if frames else ()
        array = groups[rank].create_dataset(field.name, shape, "<f4", chunks=(1, *few, *grid, *tail))
        array.attrs.update(
            dim_varying=np.ones(len(dims), dtype=bool),
            sample_varying=True,
            time_varying=not field.is_static,
            units=field.units,
            long_name=field.long_name,
            kind=field.kind,
        )
        if field.is_on_faces:
            array.attrs["is_on_faces"] = True
        arrays.append(array)
    for group, names in zip(groups, named, strict=True):
        group.attrs["field_names"] = _names(names)
    return arrays


def _write_dimensions(file: h5py.File, split: Trajectories, dims: list[str], is_sphere: bool) -> None:
    spec = split.spec
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = _names(dims)
    group["time"] = split.times.astype(np.float32)
    group["time"].attrs.update(sample_varying=False, time_varying=False, units=spec.time_units)
    boundaries = file.create_group("boundary_conditions")
    for axis, size in zip(spec.axes, split.grid, strict=True):
        points = axis.coordinates(size)
        if is_sphere:
            points = np.deg2rad(90 - points if axis.name == "lat" else points)
        dim = SPHERE.get(axis.name, axis.name) if is_sphere else axis.name
        group[dim] = points.astype(np.float32)
        units = "radian" if is_sphere else axis.units
        group[dim].attrs.update(sample_varying=False, time_varying=False, units=units)
        condition = boundaries.create_group(f"{dim}_{axis.boundary}")
        condition.attrs.update(
            associated_dims=_names([dim]),
            associated_fields=_names([]),
            bc_type=axis.boundary.upper(),
            sample_varying=False,
            time_varying=False,
        )
        mask = np.zeros(size, dtype=bool)
        mask[[0, -1]] = True
        condition["mask"] = mask


def _names(names: list[str]) -> Any:
    return np.array(names, dtype=h5py.string_dtype())


class _Moments:
    """Means and mean squares of every channel and of its change from frame to frame, in float64."""

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._sums = np.zeros((2, 2, spec.num_channels))  # values and changes; first and second moment
        self._counts = np.zeros(2)

    def add(self, frames: np.ndarray) -> None:
        """Add the frames of a trajectory."""
        for row, values in enumerate((frames, np.diff(frames, axis=0))):
            values = np.moveaxis(values.astype(np.float64), 1, 0).reshape(frames.shape[1], -1)
            self._sums[row] += [values.sum(1), (values**2).sum(1)]
            self._counts[row] += values.shape[1]

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return mean, std and rms by field, of values and of changes, as The Well's ``stats.yaml`` has them."""
        found: dict[str, dict[str, Any]] = {}
        for row, suffix in ((0, ""), (1, "_delta")):
            mean, square = self._sums[row] / max(1.0, self._counts[row])
            std = np.sqrt(np.maximum(square - mean**2, 0))
            table = {"mean": mean, "std": np.maximum(std, 1e-4), "rms": np.maximum(np.sqrt(square), 1e-4)}
            for what, values in table.items():
                found[what + suffix] = self._by_field(values)
        return found

    def _by_field(self, values: np.ndarray) -> dict[str, Any]:
        named: dict[str, Any] = {}
        channel = 0
        for field in self._spec.fields:
            own = [float(v) for v in values[channel : channel + len(field.channel_names)]]
            if field.kind == "vector" and self._spec.geometry == "sphere":
                own = own[::-1]
            named[field.name] = own if field.kind == "vector" else own[0]
            channel += len(field.channel_names)
        return named
