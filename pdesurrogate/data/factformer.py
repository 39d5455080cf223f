"""The files of FactFormer: two-dimensional Kolmogorov flow, smoke and isotropic turbulence in three dimensions.

- ``kf_2d_re1000_256_120seed.npy``: vorticity (sequence, time, x, y), frames 1/32 apart, box 2π.
- ``smoke_{i}.npz``, one a trajectory: ``fluid_field`` (t, x, y, z, 1) and ``velocity`` (t, x, y, z, 3) on lower
  faces, frames 0.75 apart, box 8, buoyancy along z.
- folders with ``prs.npy``, ``vx.npy``, ``vy.npy``, ``vz.npy`` (t, x, y, z), one a trajectory, frames 0.05
  apart, box 2π.

Source: Li et al. (2023), "Scalable transformer for PDE surrogate modeling", section 4 and the released loaders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.fields import Axis, DataSpec, Field

from . import DATASETS
from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import ContainerPool, refuses_damage
from .file_lists import natural, same
from .files import listing, require_path
from .recognition import FORMATS, Recognised
from .splits import Partition, divided, first_and_last
from .trajectories import DataSet

TURBULENCE = ("prs.npy", "vx.npy", "vy.npy", "vz.npy")


@DATASETS.register("factformer")
@refuses_damage
def factformer(
    path: str,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    dt: float | None = None,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """One of FactFormer's sets, split by its authors' rule: the first trajectories train, the last ones test.

    Their loaders list folders in no order; here trajectories are sorted by the numbers in their names.

    Args:
        path: the ``.npy`` file of Kolmogorov flow, the folder of smoke, or that of turbulence.
        train: trajectories that train; None for the authors' 100 (Kolmogorov), 2000 (smoke), 1000 (turbulence), or
            five sixths of what there is if it is less, without those that validate.
        valid: trajectories after those that validate; None for a tenth of the authors' training trajectories, who
            validate on none.
        test: trajectories at the end that test; None for the authors' 20, 200, 100, or what is left.
        dt: time between frames; None for the authors': 1/32 (Kolmogorov), 0.75 (smoke), 0.05 (turbulence).
        split: another rule, see `splits.divided`.

    Raises:
        ValueError: if files are missing, damaged or of another layout, or there are too few.
    """
    folder = Path(path).absolute()
    require_path(folder)
    if folder.is_file():
        whole, usual = _kolmogorov(folder, dt), (100, 20)
    elif smoke := sorted(folder.glob("smoke_*.npz"), key=lambda p: natural(p.name)):
        whole, usual = _smoke(smoke, dt), (2000, 200)
    elif folders := [p.parent for p in sorted(folder.glob("*/prs.npy"), key=lambda p: natural(str(p)))]:
        whole, usual = _turbulence(folders, dt), (1000, 100)
    else:
        raise ValueError(
            f"{folder} holds neither smoke_*.npz nor folders with prs.npy; it holds {listing(folder)}."
        )

    def rule(total: int) -> Partition:
        tested = test if test is not None else min(usual[1], total // 6)
        usually_trained = min(usual[0], total - tested)
        validated = valid if valid is not None else max(1, usually_trained // 10)
        trained = train if train is not None else usually_trained - validated
        return first_and_last(total, trained, validated, tested, owner=str(path))

    return divided(folder.stem, whole, split, rule, {"path": str(path), "format": "FactFormer"})


def _kolmogorov(file: Path, dt: float | None) -> ArrayTrajectories:
    pool = ContainerPool()
    shape = pool.get(file).shapes().get("", ())
    if len(shape) != 4:
        raise ValueError(f"{file} has the shape {shape}; needed is (sequence, time, x, y).")
    if shape[2] != shape[3]:
        raise ValueError(
            f"{file} has the shape {shape}; needed is (sequence, time, x, y) with as many points along x as along y. "
            "Name the axes of another order with data=custom."
        )
    spec = DataSpec(
        fields=(Field("vorticity", kind="pseudoscalar", long_name="vorticity"),),
        axes=(Axis("y", 2 * math.pi), Axis("x", 2 * math.pi)),
        dt=1 / 32 if dt is None else dt,
        equation="∂w/∂t + u·∇w = Δw / 1000 - 8 cos(8y) - 0.1 w, periodic, ∇·u = 0",
    )
    places = [Place((file,), sample) for sample in range(shape[0])]
    slots = (Slot("", (SAMPLE, TIME, "x", "y")),)
    return ArrayTrajectories(spec, shape[:1:-1], spec.dt * np.arange(shape[1]), slots, places, pool=pool)


def _smoke(files: Sequence[Path], dt: float | None) -> ArrayTrajectories:
    pool = ContainerPool()
    shape = pool.get(files[0]).shapes().get("fluid_field", ())
    velocity = pool.get(files[0]).shapes().get("velocity", ())
    if len(shape) != 5 or velocity != (*shape[:4], 3):
        raise ValueError(
            f"{files[0]}: fluid_field has the shape {shape} and velocity {velocity}; needed are (t, x, y, z, 1) and "
            "(t, x, y, z, 3)."
        )
    spec = DataSpec(
        fields=(
            Field("density", long_name="density of smoke at cell centres"),
            Field(
                "velocity",
                kind="vector",
                components=("x", "y", "z"),
                long_name="velocity, each component on the lower faces of cells along its axis",
                is_on_faces=True,
            ),
        ),
        axes=tuple(Axis(name, 8.0, "wall", offset=0.5) for name in "zyx"),
        dt=0.75 if dt is None else dt,
        equation="∂u/∂t + u·∇u = -∇p + ν Δu + buoyancy · density e_z, ∇·u = 0; the density is advected",
    )
    axes = (TIME, "x", "y", "z", "component")
    slots = [Slot("fluid_field", axes, {"component": 0})]
    slots += [Slot("velocity", axes, {"component": c}) for c in range(3)]
    places = [Place((file,)) for file in files]
    times = spec.dt * np.arange(shape[0])
    return ArrayTrajectories(spec, shape[3:0:-1], times, slots, places, pool=pool)


def _turbulence(folders: Sequence[Path], dt: float | None) -> ArrayTrajectories:
    pool = ContainerPool()
    missing = [
        f"{folder.name}/{name}" for folder in folders for name in TURBULENCE if not (folder / name).is_file()
    ]
    if missing:
        raise ValueError(
            f"{folders[0].parent} lacks {', '.join(missing[:6])}; every trajectory has {TURBULENCE}."
        )
    shapes = {
        folder / name: pool.get(folder / name).shapes()[""] for folder in folders[:1] for name in TURBULENCE
    }
    same("the shape (t, x, y, z)", shapes)
    shape = next(iter(shapes.values()))
    if len(shape) not in (4, 5):
        raise ValueError(
            f"{folders[0]}: prs.npy has the shape {shape}; needed is (t, x, y, z) or (t, x, y, z, 1)."
        )
    has_channel = len(shape) == 5
    spec = DataSpec(
        fields=(Field("pressure"), Field("velocity", kind="vector", components=("x", "y", "z"))),
        axes=tuple(Axis(name, 2 * math.pi) for name in "zyx"),
        dt=0.05 if dt is None else dt,
        equation="incompressible Navier-Stokes equations, periodic",
    )
    axes = (TIME, "x", "y", "z", *(["channel"] if has_channel else []))
    slots = [Slot("", axes, {"channel": 0} if has_channel else {}, file=i) for i in range(4)]
    places = [Place(tuple(folder / name for name in TURBULENCE)) for folder in folders]
    times = spec.dt * np.arange(shape[0])
    return ArrayTrajectories(spec, shape[3:0:-1], times, slots, places, pool=pool)


@FORMATS.register("factformer")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a four-dimensional array with a square grid, a smoke trajectory's folder, or folders of turbulence."""
    if look.kind(path) == "npy":
        shape = look.shapes(path)[""]
        return {"path": str(path)} if len(shape) == 4 and shape[2] == shape[3] > 3 else None
    if look.kind(path) != "folder":
        return None
    smoke = sorted(path.glob("smoke_*.npz"))
    if smoke and {"fluid_field", "velocity"} <= look.shapes(smoke[0]).keys():
        return {"path": str(path)}
    return {"path": str(path)} if next(path.glob("*/prs.npy"), None) else None
