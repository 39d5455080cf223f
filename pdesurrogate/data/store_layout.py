"""The layout of a file of the store: netCDF-4 by hand, allocated in full, with metadata that never change."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pdesurrogate.fields import DataSpec

WRITTEN = "written"
CHECKSUM = "checksum"
TRAJECTORY = "trajectory"
TIME = "time"
CHUNK_BYTES = 2**20
CF_AXES = {"x": "X", "y": "Y", "z": "Z", "lon": "X", "lat": "Y"}
STANDARD_NAMES = {"lat": "latitude", "lon": "longitude"}
FORMAT = "store_format"
"""Attribute that says what a checksum covers: 2, frames and parameters; 1, as where it is absent, frames alone."""
NEWEST_FORMAT = 2


def crc32(frames: np.ndarray, parameters: np.ndarray, store_format: int = NEWEST_FORMAT) -> int:
    """Return the CRC-32 of a trajectory's raw float32 bytes: frames in (time, channel, *space) order, parameters."""
    of_frames = zlib.crc32(np.ascontiguousarray(frames, dtype="<f4").data)
    if store_format == 1:
        return of_frames
    return zlib.crc32(np.ascontiguousarray(parameters, dtype="<f4").data, of_frames)


def format_of(path: Path, attributes: Mapping[str, Any]) -> int:
    """Return the format of a file with these attributes.

    Raises:
        ValueError: for a format that this version does not know.
    """
    found = attributes.get(FORMAT, 1)
    if found not in range(1, NEWEST_FORMAT + 1):
        raise ValueError(
            f"{path} has the store format {found}; this version reads formats 1 to {NEWEST_FORMAT}. Update "
            "pdesurrogate, or generate the file again."
        )
    return int(found)


def lay_out(
    file: h5py.File,
    spec: DataSpec,
    grid: Sequence[int],
    num_trajectories: int,
    times: np.ndarray,
    attributes: Mapping[str, Any],
) -> None:
    """Create dimensions, coordinates, attributes and filled variables in an empty file."""
    file.attrs.update({**attributes, FORMAT: NEWEST_FORMAT})
    coordinates: dict[str, tuple[np.ndarray, dict[str, str]]] = {
        TRAJECTORY: (np.arange(num_trajectories, dtype=np.int32), {"long_name": "trajectory"}),
        TIME: (times, {"units": spec.time_units, "axis": "T", "long_name": "time"}),
    }
    for axis, size in zip(spec.axes, grid, strict=True):
        facts = {"units": axis.units, "boundary": axis.boundary, "long_name": axis.name}
        if axis.name in CF_AXES:
            facts["axis"] = CF_AXES[axis.name]
        if axis.name in STANDARD_NAMES:
            facts["standard_name"] = facts["long_name"] = STANDARD_NAMES[axis.name]
        if axis.nodes is not None:
            facts["nodes"] = axis.nodes
        coordinates[axis.name] = (axis.coordinates(size), facts)
    for name, (values, facts) in coordinates.items():
        file.create_dataset(name, data=values).make_scale(name)
        file[name].attrs.update(facts)
    dimensions = (TRAJECTORY, TIME, *spec.axis_names)
    for field in spec.fields:
        for name in field.channel_names:
            facts = {"units": field.units, "long_name": field.long_name or name}
            _variable(file, name, dimensions, "<f4", np.nan, facts)
    for parameter in spec.parameters:
        facts = {"units": parameter.units, "long_name": parameter.long_name or parameter.name}
        _variable(file, parameter.name, dimensions[:1], "<f4", np.nan, facts)
    _variable(
        file,
        CHECKSUM,
        dimensions[:1],
        "<u4",
        0,
        {"long_name": "CRC-32 of (time, channel, space) and parameters"},
    )
    _variable(file, WRITTEN, dimensions[:1], "|u1", 0, {"long_name": "1 where complete"})


def _variable(
    file: h5py.File,
    name: str,
    dimensions: Sequence[str],
    dtype: str,
    fill: float | int,
    facts: Mapping[str, str],
) -> None:
    """Create a variable whose space on disk is taken now; fields in chunks of one trajectory by some frames."""
    shape = tuple(file[dimension].size for dimension in dimensions)
    chunks = None
    if len(shape) > 1:
        _, num_frames, *grid = shape
        most = max(1, CHUNK_BYTES // (4 * math.prod(grid)))
        num_chunks = math.ceil(num_frames / most)
        chunks = (1, math.ceil(num_frames / num_chunks), *grid)  # even chunks: the last one is hardly padded
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    variable = file.create_dataset(
        name, shape, dtype, chunks=chunks, fillvalue=fill, fill_time="alloc", dcpl=creation
    )
    for axis, dimension in enumerate(dimensions):
        variable.dims[axis].attach_scale(file[dimension])
    variable.attrs.update(facts)


def storable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as netCDF allows them: text, numbers, lists of numbers; the rest as JSON text."""
    plain = {}
    for name, value in {"Conventions": "CF-1.11", **attributes}.items():
        if isinstance(value, np.generic | np.ndarray):
            value = value.tolist()
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        plain[str(name)] = value if is_number or isinstance(value, str) else json.dumps(value)
    return plain
