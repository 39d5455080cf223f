"""The ``.pt`` files of neuraloperator: Darcy flow, Navier-Stokes under a steady forcing, Burgers' equation.

One dict of tensors without a channel axis: ``x`` what is given, ``y`` the solution, sometimes ``visc``. In Darcy's
files ``x`` (sample, y, x) is the coefficient, stored as bool, in ``nsforcing`` the forcing; ``y`` is pressure, or
vorticity at the final time. In Burgers' files ``y`` (sample, time, x) is the whole solution and ``x`` its first frame.

Maps become trajectories of two frames like those of our own Darcy sets: nothing, then the solution; what is given is
a static field of both.

Source: neuraloperator 2.0, ``neuralop.data.datasets``; Kossaifi et al. (2023), section 4, for ``nsforcing``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter

from . import DATASETS
from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import ContainerPool, refuses_damage
from .recognition import FORMATS, Recognised
from .splits import Partition, by_trajectory, divided, refuse_shared_files
from .trajectories import DataSet, Trajectories
from .views import Subset

EQUATIONS = ("darcy", "nsforcing", "burgers")


@DATASETS.register("neuralop_pt")
@refuses_damage
def neuralop_pt(
    path: str,
    test_path: str | None = None,
    equation: str | None = None,
    valid: float | int = 0.1,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """A file of neuraloperator and, if there is one, the test file beside it.

    Args:
        path: the training file, ``{name}_train_{points}.pt``; a test file alone is split like any other.
        test_path: the test file; None for the one beside ``path`` that is named accordingly, if there.
        equation: ``"darcy"``, ``"nsforcing"`` or ``"burgers"``; None to tell by the content.
        valid: how many of the training file's last samples validate, or their share.
        split: another rule for one file, see `splits.divided`; the test file is then left alone.

    Raises:
        ValueError: if a file is missing, damaged, carries code, or is of another layout.
    """
    file = Path(path).absolute()
    whole = open_pairs(file, equation)
    provenance = {"path": str(path), "format": "PyTorch"}
    name = re.sub(r"_train(?=_)", "", file.stem)
    beside = file.with_name(file.name.replace("_train_", "_test_"))
    other = Path(test_path).absolute() if test_path else (beside if beside != file else None)
    if split is None and other is not None and (test_path or other.is_file()):
        refuse_shared_files({"train": [file], "test": [other]})
        first = by_trajectory(whole.num_trajectories, 0.9, valid, 0.0)
        kept = whole.num_trajectories - len(first.splits["valid"])
        splits: dict[str, Trajectories] = {"train": Subset(whole, range(kept))}
        if first.splits["valid"]:
            splits["valid"] = Subset(whole, range(kept, whole.num_trajectories))
        splits["test"] = open_pairs(other, equation)
        return DataSet(name, splits, {**provenance, "test_path": str(other), "split": "by file"})

    def rule(total: int) -> Partition:
        return by_trajectory(total, 0.8, valid, 0.1)

    return divided(name, whole, split, rule, provenance)


def open_pairs(file: Path, equation: str | None = None) -> ArrayTrajectories:
    """Return all samples of one file as trajectories.

    Raises:
        ValueError: if the file is missing, damaged, carries code, or is of another layout.
    """
    pool = ContainerPool()
    container = pool.get(file)
    shapes = container.shapes()
    if not {"x", "y"} <= shapes.keys():
        raise ValueError(
            f"{file} holds {', '.join(sorted(shapes)) or 'no tensors'}; neuraloperator's files are a dict of x and y."
        )
    x, y = shapes["x"], shapes["y"]
    is_series = len(y) == len(x) + 1 and y[0] == x[0] and y[2:] == x[1:]
    if not (is_series or x == y) or len(x) not in (2, 3, 4) or min(y) < 1:
        raise ValueError(
            f"{file}: x has the shape {x} and y {y}; needed are two of (sample, *space) alike, or y (sample, time, "
            "*space)."
        )
    found = _equation(file, container.read("x", (slice(0, 8), *[slice(None)] * (len(x) - 1))), is_series)
    if equation is not None and equation not in EQUATIONS:
        raise ValueError(f"equation is {equation!r}; allowed: {', '.join(EQUATIONS)}.")
    if equation is not None and (equation == "burgers") != is_series:
        raise ValueError(f"{file} does not hold {equation}: x has the shape {x} and y {y}.")
    equation = equation or found
    places = [Place((file,), sample) for sample in range(x[0])]
    if equation == "burgers":
        return _burgers(file, pool, shapes, places)
    grid = x[1:]
    names = "zyx"[-len(grid) :]
    axes = (SAMPLE, *names)
    if equation == "darcy":
        spec = DataSpec(
            fields=(
                Field("pressure", long_name="pressure"),
                Field("coefficient", long_name="permeability over viscosity", is_static=True),
            ),
            axes=tuple(Axis(name, 1.0, "wall", offset=0.5) for name in names),
            dt=1.0,
            equation="-∇·(a ∇p) = 1, p = 0 on the walls",
        )
    else:
        spec = DataSpec(
            fields=(
                Field("vorticity", kind="pseudoscalar", long_name="vorticity"),
                Field("forcing", kind="pseudoscalar", long_name="source of vorticity", is_static=True),
            ),
            axes=tuple(Axis(name, 2 * math.pi) for name in names),
            dt=5.0,
            equation="∂w/∂t + u·∇w = Δw / 500 + f, periodic, w = 0 at t = 0",
        )
    slots = (Slot("y", axes), Slot("x", axes))
    return MapPairs(spec, grid, [0.0, spec.dt], slots, places, pool=pool)


class MapPairs(ArrayTrajectories):
    """Trajectories of two frames: what is given with a solution of zero, then with the solution."""

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray] | np.ndarray) -> None:
        """Read the frames from ``start`` on into arrays ``(channel, *space)``, one a frame."""
        super().frames_into(trajectory, start, targets)
        if start == 0:
            targets[0][~np.array(self.spec.static_channels)] = 0.0


def _equation(file: Path, given: np.ndarray, is_series: bool) -> str:
    if is_series:
        return "burgers"
    if given.dtype == bool or given.min() > 0:
        return "darcy"
    return "darcy" if "darcy" in file.name.lower() else "nsforcing"


def _burgers(
    file: Path, pool: ContainerPool, shapes: Mapping[str, tuple[int, ...]], places: list[Place]
) -> ArrayTrajectories:
    """Return Burgers' series: 17 frames from t = 0 to 1 on the unit interval."""
    num_frames = shapes["y"][1]
    if num_frames < 2 or len(shapes["y"]) != 3:
        raise ValueError(
            f"{file}: y has the shape {shapes['y']}; needed is (sample, time, x), two frames or more."
        )
    has_viscosity = "visc" in shapes
    spec = DataSpec(
        fields=(Field("u", long_name="velocity"),),
        axes=(Axis("x", 1.0),),
        dt=1.0 / (num_frames - 1),
        parameters=(Parameter("viscosity", long_name="kinematic viscosity"),) if has_viscosity else (),
        equation="∂u/∂t + ∂(u²/2)/∂x = ν ∂²u/∂x², periodic",
    )
    parameters = None
    if has_viscosity:
        viscosity = pool.get(file).read("visc").ravel()
        if len(viscosity) not in (1, len(places)):
            raise ValueError(f"{file}: visc has {len(viscosity)} values for {len(places)} samples.")
        parameters = np.broadcast_to(viscosity, (len(places),))[:, None]
    return ArrayTrajectories(
        spec,
        shapes["y"][2:],
        np.linspace(0.0, 1.0, num_frames),
        (Slot("y", (SAMPLE, TIME, "x")),),
        places,
        parameters=parameters,
        pool=pool,
    )


@FORMATS.register("neuralop_pt")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a dict of ``x`` and ``y`` without channels."""
    shapes = look.shapes(path)
    if look.kind(path) != "torch" or not {"x", "y"} <= shapes.keys():
        return None
    x, y = shapes["x"], shapes["y"]
    is_map = x == y and len(x) in (3, 4) and (len(x) == 3 or x[1] != 3)
    is_series = len(y) == len(x) + 1 == 3 and y[0] == x[0] and y[2:] == x[1:]
    return {"path": str(path)} if is_map or is_series else None
