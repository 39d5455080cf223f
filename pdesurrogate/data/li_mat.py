"""Li et al.'s Navier-Stokes files: MATLAB ``.mat`` of version 5 and 7.3.

Keys: ``u`` (sample, x, y, time) is the vorticity at the times ``t``, ``a`` (sample, x, y) at time 0. The
domain is the unit torus, points lie at ``i / n``. Viscosity is not in the file, only in its name.

Source: Li et al. (2021), "Fourier neural operator for parametric partial differential equations",
section 5.3; files ``ns_V1e-3_N5000_T50``, ``ns_V1e-4_N10000_T30``, ``NavierStokes_V1e-5_N1200_T20``.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter

from . import DATASETS
from .array_trajectories import content_digest
from .containers import UNREADABLE, ContainerPool, refuses_damage, unreadable
from .files import require_file
from .recognition import FORMATS, Recognised
from .splits import divided, first_and_last, refuse_shared_files
from .trajectories import DataSet, Trajectories, check_finite, check_frames
from .views import Joined

HEADER_BYTES = 128
BLOCK_BYTES = 2**26
ANOTHER_ORDER = (
    " The axes of u seem to be in another order; save it as (sample, x, y, time), or use data=custom."
)
EQUATION = (
    "∂w/∂t + u·∇w = ν Δw + f on the unit torus, ∇·u = 0, w = ∇×u, f = 0.1 (sin(2π(x + y)) + cos(2π(x + y)))"
)


@DATASETS.register("li_mat")
@refuses_damage
def li_mat(
    path: str,
    viscosity: float,
    train: int = 900,
    valid: int = 100,
    test: int = 200,
    dt: float = 1.0,
    include_initial: bool = False,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """Li et al.'s Navier-Stokes data set, split by their rule: first N train, last M test.

    Validation trajectories are those that follow the train split. The default 900 + 100 are the first 1000,
    which Li et al. train on, so that a model can be chosen without looking at the last 200.

    Args:
        path: the ``.mat`` file; of a set in two halves, ``.._1.mat`` and ``.._2.mat`` in one folder, either: both are
            read, one after the other.
        viscosity: the viscosity ν that the file was made with.
        train: trajectories at the beginning of the file.
        valid: trajectories after those; 0 for no such split.
        test: trajectories at the end of the file; 0 for no such split.
        dt: time between frames, checked against the file's ``t``.
        include_initial: whether to begin with the initial vorticity ``a`` (t = 0); published results begin
            with the first frame of ``u`` (t = 1).
        split: another rule than the paper's, see `splits.divided`.

    Raises:
        ValueError: if the file is missing, damaged or of another layout, or has too few trajectories.
    """
    files = _halves(Path(path))
    parts = [LiMat(file, viscosity=viscosity, dt=dt, include_initial=include_initial) for file in files]
    whole: Trajectories = parts[0]
    if len(parts) > 1:
        refuse_shared_files({file.name: [file] for file in files})
        whole = Joined(parts)
    provenance = {
        "path": str(path),
        "format": f"MATLAB {parts[0].version}",
        "viscosity": viscosity,
        "files": [file.name for file in files],
    }
    return divided(
        Path(path).stem,
        whole,
        split,
        lambda total: first_and_last(total, train, valid, test, owner=str(path)),
        provenance,
    )


class LiMat:
    """All trajectories of one of Li et al.'s ``.mat`` files, vorticity in frames ``(time, 1, y, x)``.

    Both versions store numbers in MATLAB's order, in which the sample axis is the fastest: all frames of one
    sample are spread over the whole file. They are read in blocks of samples, of some 64 MiB, and the last block is
    kept. That is quick in order and slow at random, so hold the splits in memory (``cache=ram``) or have a copy
    made (``rechunk``) when training.

    Args:
        path: the file; its header and not its name tells the version.
        viscosity: the viscosity ν.
        dt: time between frames.
        include_initial: whether the first frame is ``a``.
        equation: the PDE as text.

    Attributes:
        version: ``"5"`` or ``"7.3"``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        viscosity: float,
        dt: float = 1.0,
        include_initial: bool = False,
        equation: str = EQUATION,
    ) -> None:
        if not (np.isfinite(viscosity) and viscosity > 0):
            raise ValueError(f"viscosity is {viscosity}; it must be positive.")
        self.path = Path(path).absolute()
        require_file(self.path)
        self.version = mat_version(self.path)
        self.viscosity = viscosity
        self.include_initial = include_initial
        self.spec = _spec(dt, equation)
        self._pool = ContainerPool()
        shapes, times = self._inspect()
        self.num_trajectories, nx, ny = _check_shapes(self.path, shapes, include_initial)
        self.grid = (ny, nx)
        self.times = _check_times(self.path, times, shapes["u"], dt, include_initial)
        self.num_frames = len(self.times)
        self._block: tuple[int, int, np.ndarray] | None = None  # first, last + 1, frames

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory.

        Raises:
            ValueError: for indices outside the file, or values that are NaN, infinite or unreadable.
        """
        check_frames(str(self.path), self, trajectory, start, stop)
        held = self._block
        if held is None or not held[0] <= trajectory < held[1]:  # another thread may replace it meanwhile
            held = self._block = self._read_block(trajectory)
        first, _, block = held
        frames = block[trajectory - first, start:stop, None].copy()
        check_finite(str(self.path), self.spec, trajectory, frames, start)
        return frames

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the viscosity."""
        return np.array([self.viscosity], dtype=np.float32)

    def checksum(self) -> str:
        """Return a digest of the file's bytes, hexadecimal."""
        return content_digest(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_block": None}

    def _inspect(self) -> tuple[dict[str, tuple[int, ...]], np.ndarray | None]:
        """Return the shape of every variable, in MATLAB's axis order, and the times; read little else."""
        try:
            file = self._pool.get(self.path)
            shapes = dict(file.shapes())
            return shapes, file.read("t").ravel() if "t" in shapes else None
        except UNREADABLE as error:
            raise self._unreadable(error) from error

    def _read_block(self, trajectory: int) -> tuple[int, int, np.ndarray]:
        """Read the trajectories around one, some 64 MiB."""
        size = max(1, BLOCK_BYTES // (4 * self.num_frames * self.grid[0] * self.grid[1]))
        first = trajectory // size * size
        last = min(first + size, self.num_trajectories)
        names = ["a", "u"] if self.include_initial else ["u"]
        try:
            with self._pool.reading(self.path) as file:
                pieces = [
                    file.read(name, (slice(first, last), *[slice(None)] * (3 if name == "u" else 2)))
                    for name in names
                ]
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        # MATLAB's (sample, x, y, time) to (sample, time, y, x)
        series = [piece[..., None] if piece.ndim == 3 else piece for piece in pieces]
        frames = [np.asarray(piece.transpose(0, 3, 2, 1), dtype=np.float32) for piece in series]
        return first, last, np.ascontiguousarray(np.concatenate(frames, axis=1))

    def _unreadable(self, error: Exception) -> ValueError:
        if str(error).startswith(str(self.path)):
            return ValueError(str(error))
        return unreadable(self.path, f"MATLAB version {self.version}", error)


def _halves(path: Path) -> list[Path]:
    """Return both files of a set that is distributed as ``.._1.mat`` and ``.._2.mat``, else the one that was named."""
    named = re.fullmatch(r"(.*_N\d+_T\d+)_[12]", path.stem)
    halves = [path.with_name(f"{named[1]}_{half}{path.suffix}") for half in (1, 2)] if named else []
    return halves if halves and all(half.is_file() for half in halves) else [path]


def mat_version(path: Path) -> str:
    """Return ``"5"`` or ``"7.3"`` from bytes 124 to 127 of a ``.mat`` file's header.

    Raises:
        ValueError: if the file is neither.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    order, numbers = header[126:128], header[124:126]
    major = {b"IM": numbers[1:], b"MI": numbers[:1]}.get(order, b"")
    if major not in (b"\x01", b"\x02"):
        raise ValueError(
            f"{path} is not a MATLAB file of version 5 or 7.3: its header ({len(header)} bytes) names no "
            "version. Truncated downloads and web pages saved under the name of the file look like this."
        )
    return {b"\x01": "5", b"\x02": "7.3"}[major]


def _spec(dt: float, equation: str) -> DataSpec:
    vorticity = Field("vorticity", kind="pseudoscalar", long_name="vorticity")
    return DataSpec(
        fields=(vorticity,),
        axes=(Axis("y", 1.0), Axis("x", 1.0)),
        dt=dt,
        parameters=(Parameter("viscosity", long_name="kinematic viscosity"),),
        equation=equation,
    )


@FORMATS.register("li_mat")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a MATLAB file with ``u`` (sample, x, y, time); the viscosity is read from its name, as Li et al. do."""
    shapes = look.shapes(path)
    if look.kind(path) not in ("mat5", "mat7.3") or len(shapes.get("u", ())) != 4:
        return None
    named = re.search(r"[Vv](\d+(?:\.\d+)?e-\d+|0\.\d+)", path.stem)
    options = {"path": str(path), "viscosity": float(named[1]) if named else None}
    return options if shapes["u"][0] >= 1200 else {**options, "split": {"rule": "trajectory"}}


def _check_shapes(
    path: Path, shapes: dict[str, tuple[int, ...]], include_initial: bool
) -> tuple[int, int, int]:
    """Return (sample, x, y) of ``u`` after checking that it and ``a`` are what they should be."""
    missing = [name for name in ("u", *(["a"] if include_initial else [])) if name not in shapes]
    if missing:
        raise ValueError(
            f"{path} lacks the variables {', '.join(missing)}; it holds {', '.join(sorted(shapes)) or 'none'}. "
            "Li et al.'s files have u (sample, x, y, time), a (sample, x, y) and t."
        )
    u = shapes["u"]
    if len(u) != 4 or min(u) < 1:
        raise ValueError(f"{path}: u has the shape {u}; needed are four axes (sample, x, y, time).")
    initial = shapes.get("a", u[:3])
    if initial != u[:3]:
        is_turned = len(initial) == 3 and not Counter(initial) - Counter(u)
        if include_initial or is_turned:
            hint = ANOTHER_ORDER if is_turned else ""
            raise ValueError(f"{path}: a has the shape {initial}; u, {u}, asks for {u[:3]}.{hint}")
    return u[0], u[1], u[2]


def _check_times(
    path: Path, times: np.ndarray | None, shape: tuple[int, ...], dt: float, include_initial: bool
) -> np.ndarray:
    """Return the time of each frame, float64.

    Files that were thinned out in time may keep all times; a multiple of the number of frames is
    thinned out likewise. Without ``t``, frames lie at dt, 2 dt, ...
    """
    num_frames = shape[-1]
    if times is None:
        times = dt * np.arange(1, num_frames + 1)
    if not len(times) or len(times) % num_frames:
        hint = ANOTHER_ORDER if len(times) in shape[:-1] else ""
        raise ValueError(
            f"{path}: t has {len(times)} entries for the {num_frames} frames of u, {shape}.{hint}"
        )
    times = times[:: len(times) // num_frames].astype(np.float64)
    if include_initial:
        times = np.concatenate([[0.0], times])
    steps = np.diff(times)
    if not np.allclose(steps, dt, rtol=1e-3, atol=0.0):
        hint = " The initial vorticity does not fit; use include_initial=false." if include_initial else ""
        raise ValueError(f"{path}: the frames are {np.unique(steps.round(6))} apart and dt is {dt}.{hint}")
    return times[0] + dt * np.arange(len(times))
