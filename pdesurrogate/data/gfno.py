"""The NS-Sym files of G-FNO: Navier-Stokes under a forcing that is symmetric under quarter turns.

MATLAB files of version 5 in Li et al.'s layout: ``u`` (sample, x, y, time) holds every fourth of the solver's
frames, ``t`` all times of the solver. The first frame is at t = 0.25 and frames are 1 apart. In ``..._super.mat`` are
the last 100 samples on 256 x 256 points with every frame, 0.25 apart.

The other sets of that work are PDEBench's radial dam break (`pdebench`) and PDEArena's shallow water (`pdearena`).

Source: Helwig et al. (2023), "Group equivariant Fourier neural operators for PDEs", section 5 and appendix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import DATASETS
from .containers import refuses_damage
from .li_mat import LiMat
from .recognition import FORMATS, Recognised
from .splits import Partition, divided
from .trajectories import DataSet

NAME = re.compile(r"ns_V(?P<viscosity>[\d.e-]+)_N\d+_T\d+_cos(?P<periods>\d+)(?P<fine>_super)?")


@DATASETS.register("gfno")
@refuses_damage
def gfno(
    path: str,
    viscosity: float = 1e-4,
    periods: int = 4,
    dt: float = 1.0,
    train: int = 1000,
    valid: int = 100,
    test: int = 100,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """NS-Sym, split by its authors' rule: the first 1000 train, the last 100 test, the 100 before them validate.

    Args:
        path: the ``.mat`` file, such as ``ns_V0.0001_N1200_T30_cos4.mat``.
        viscosity: the viscosity ν that the file was made with; only its name holds it.
        periods: p of the forcing 0.1 (cos pπx + cos pπy), in half periods a side.
        dt: time between frames, checked against the file's ``t``; 0.25 for ``_super`` files.
        train: trajectories at the beginning of the file; 0 for a file of test trajectories alone.
        valid: trajectories before those that test.
        test: trajectories at the end of the file.
        split: another rule, see `splits.divided`.

    Raises:
        ValueError: if the file is missing, damaged or of another layout, or has too few trajectories.
    """
    equation = f"∂w/∂t + u·∇w = ν Δw + f on the unit torus, f = 0.1 (cos({periods}πx) + cos({periods}πy))"
    whole = LiMat(path, viscosity=viscosity, dt=dt, equation=equation)

    def rule(total: int) -> Partition:
        if min(train, valid, test) < 0 or not train + valid + test or train + valid + test > total:
            raise ValueError(
                f"{path} holds {total} trajectories; train={train}, valid={valid} and test={test} need "
                f"{train + valid + test}. Splits must not share trajectories; lower one of them."
            )
        splits = {
            "train": tuple(range(train)),
            "valid": tuple(range(total - test - valid, total - test)),
            "test": tuple(range(total - test, total)),
        }
        return Partition(
            {k: v for k, v in splits.items() if v}, total, f"first {train}, last {valid} + {test}"
        )

    provenance = {"path": str(path), "format": f"MATLAB {whole.version}", "viscosity": viscosity}
    return divided(Path(path).stem, whole, split, rule, provenance)


@FORMATS.register("gfno")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a file in Li et al.'s layout whose times outnumber its frames, or that is named as G-FNO names it."""
    shapes = look.shapes(path)
    u, t = shapes.get("u", ()), shapes.get("t", ())
    if look.kind(path) not in ("mat5", "mat7.3") or len(u) != 4 or not t:
        return None
    named = NAME.match(path.stem)
    if max(t) == u[3] and not named:
        return None
    facts: dict[str, Any] = {"path": str(path), "dt": 1.0}
    if named:
        facts.update(viscosity=float(named["viscosity"]), periods=int(named["periods"]))
        facts.update({"dt": 0.25, "train": 0, "valid": 0} if named["fine"] else {})
    return facts if u[0] >= 1200 or (named and named["fine"]) else {**facts, "split": {"rule": "trajectory"}}
