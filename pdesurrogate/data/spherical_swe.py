"""Shallow water on a sphere as torch-harmonics and neuraloperator make it: geopotential, vorticity, divergence.

Neither distributes files; both make states on the fly. What users save of them is read here:

- ``.npz`` of a run of torch-harmonics' solver: ``fields`` (time, 3, lat, lon), ``lat``, ``lon`` in radians,
  ``t_hours``.
- ``.pt`` of neuraloperator's data set: ``x`` and ``y`` (sample, 3, lat, lon), a state and the one an hour later,
  normalised by the statistics of one random state, so that their units are 1.

Source: Bonev et al. (2023), "Spherical Fourier neural operators", section 5.1.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.fields import DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes

from . import DATASETS
from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import ContainerPool, refuses_damage
from .coordinates import axis_of, even_step
from .recognition import FORMATS, Recognised
from .splits import by_trajectory, divided
from .trajectories import DataSet

FIELDS = (
    Field("geopotential", "m2 s-2", long_name="gravity times depth of the fluid"),
    Field("vorticity", "s-1", "pseudoscalar", long_name="relative vorticity"),
    Field("divergence", "s-1", long_name="divergence of the wind"),
)
EQUATION = "shallow water on a rotating sphere, in vorticity and divergence"


@DATASETS.register("spherical_swe")
@refuses_damage
def spherical_swe(
    path: str, dt: float | None = None, nodes: str | None = None, split: Mapping[str, Any] | None = None
) -> DataSet:
    """States saved from torch-harmonics' solver or from neuraloperator's data set.

    Args:
        path: the ``.npz`` or ``.pt`` file.
        dt: hours between frames; None for what the file says, or for neuraloperator's 1.
        nodes: rule of the latitudes, see `latitude_rule`; None for what the file's latitudes follow, or for
            neuraloperator's ``"equiangular"``.
        split: a rule of `splits.divided`; by default shares of 80, 10 and 10 %, and a single run trains.

    Raises:
        ValueError: if the file is missing, damaged, carries code, or is of another layout.
    """
    file = Path(path).absolute()
    pool = ContainerPool()
    shapes = pool.get(file).shapes()
    if "fields" in shapes:
        whole = _run(file, pool, dt, nodes)
    elif {"x", "y"} <= shapes.keys():
        whole = _pairs(file, pool, 1.0 if dt is None else dt, nodes or "equiangular")
    else:
        raise ValueError(
            f"{file} holds {', '.join(sorted(shapes)) or 'no named array'}; needed are fields (time, 3, lat, lon), "
            "or x and y (sample, 3, lat, lon)."
        )
    provenance = {"path": str(path), "format": "spherical shallow water"}
    return divided(file.stem, whole, split, lambda total: by_trajectory(total, 0.8, 0.1, 0.1), provenance)


def _run(file: Path, pool: ContainerPool, dt: float | None, nodes: str | None) -> ArrayTrajectories:
    container = pool.get(file)
    shapes = container.shapes()
    shape = shapes["fields"]
    has_samples = len(shape) == 5
    if len(shape) not in (4, 5) or shape[-3] != 3:
        raise ValueError(f"{file}: fields has the shape {shape}; needed is (time, 3, lat, lon).")
    num_frames, num_lat = shape[-4], shape[-2]
    axes = spherical_axes(nodes or "gauss-legendre")
    if "lat" in shapes:
        lat = np.rad2deg(container.read("lat").ravel())
        if len(lat) != num_lat:
            raise ValueError(
                f"{file}: there are {len(lat)} latitudes; fields is {shape}, with the last axes (lat, lon)."
            )
        lat = lat if lat.min() < -1e-6 else 90 - lat  # colatitudes
        axes = (axis_of(file, "lat", lat, "open", "degrees_north"), axes[1])
        if nodes is not None and axes[0].nodes != nodes:
            raise ValueError(f"{file}: nodes is {nodes!r}; its latitudes are {axes[0].nodes!r}.")
    hours = container.read("t_hours").ravel() if "t_hours" in shapes else None
    if hours is not None and len(hours) != num_frames:
        raise ValueError(f"{file}: t_hours has {len(hours)} entries for {num_frames} frames.")
    step = even_step(file, np.arange(num_frames) * (dt or 1.0) if hours is None else hours, dt)
    spec = DataSpec(FIELDS, axes, step, "h", "sphere", equation=EQUATION)
    lead = (SAMPLE, TIME) if has_samples else (TIME,)
    slots = [Slot("fields", (*lead, "variable", "lat", "lon"), {"variable": i}) for i in range(3)]
    places = [Place((file,), i) for i in range(shape[0])] if has_samples else [Place((file,))]
    times = (0.0 if hours is None else float(hours[0])) + step * np.arange(num_frames)
    return ArrayTrajectories(spec, shape[-2:], times, slots, places, pool=pool)


def _pairs(file: Path, pool: ContainerPool, dt: float, nodes: str) -> ArrayTrajectories:
    shapes = pool.get(file).shapes()
    if shapes["x"] != shapes["y"] or len(shapes["x"]) != 4 or shapes["x"][1] != 3:
        raise ValueError(
            f"{file}: x has the shape {shapes['x']} and y {shapes['y']}; needed is (sample, 3, lat, lon) for both."
        )
    fields = tuple(Field(f.name, "1", f.kind, long_name=f"{f.long_name}, normalised") for f in FIELDS)
    spec = DataSpec(fields, spherical_axes(nodes), dt, "h", "sphere", equation=EQUATION)
    axes = (SAMPLE, "variable", "lat", "lon")
    places = [Place((file,), sample) for sample in range(shapes["x"][0])]
    slots = [Slot("x", axes, {"variable": i}) for i in range(3)]
    return StatePairs(spec, shapes["x"][2:], [0.0, dt], slots, places, pool=pool)


class StatePairs(ArrayTrajectories):
    """Trajectories of two frames, the arrays ``x`` and ``y``."""

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray] | np.ndarray) -> None:
        """Read the frames from ``start`` on into arrays ``(channel, *space)``, one a frame."""
        super().frames_into(trajectory, start, targets)
        if start + len(targets) == 2:
            self._later.frames_into(trajectory, 1, targets[-1:])

    @functools.cached_property
    def _later(self) -> ArrayTrajectories:
        slots = [Slot("y", slot.axes, slot.fixed) for slot in self._slots]
        return ArrayTrajectories(self.spec, self.grid, self.times, slots, self.places, pool=self._pool)


@FORMATS.register("spherical_swe")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise three variables on latitudes and longitudes, as a run or as pairs of states."""
    shapes = look.shapes(path)
    run, pair = shapes.get("fields", ()), shapes.get("x", ())
    is_run = look.kind(path) == "npz" and len(run) in (4, 5) and run[-3] == 3
    is_pair = look.kind(path) == "torch" and len(pair) == 4 and pair[1] == 3 and shapes.get("y") == pair
    return {"path": str(path)} if is_run or is_pair else None
