"""Views of trajectories: some of them, several sets in one, every k-th frame, another grid; read when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from pdesurrogate.fields.regridding import can_resample, kept_points, regrid

from .trajectories import Trajectories, check_frames, frames_into

METHODS = ("auto", "stride", "cells", "spectral")
"""What `Regridded` can be told."""


class Subset:
    """Some trajectories of others, renumbered from 0.

    Args:
        base: where the trajectories come from.
        indices: which of them, in order.
    """

    def __init__(self, base: Trajectories, indices: Sequence[int]) -> None:
        self.base = base
        self.indices = [int(i) for i in indices]
        outside = [i for i in self.indices if not 0 <= i < base.num_trajectories]
        if outside or not self.indices:
            raise ValueError(
                f"a subset needs trajectories between 0 and {base.num_trajectories - 1}; given: "
                f"{self.indices}."
            )
        self.spec = base.spec
        self.grid = base.grid
        self.num_trajectories = len(self.indices)
        self.num_frames = base.num_frames
        self.times = base.times

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        check_frames("subset", self, trajectory, start, stop)
        return self.base.frames(self.indices[trajectory], start, stop)

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray]) -> None:
        """Read the frames from ``start`` on into arrays ``(channel, *space)``, one a frame."""
        check_frames("subset", self, trajectory, start, start + len(targets))
        frames_into(self.base, self.indices[trajectory], start, targets)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(self.indices[trajectory])

    def checksum(self) -> str:
        """Return a digest of the base's content and of the indices."""
        return hashlib.sha256(f"{self.base.checksum()} {self.indices}".encode()).hexdigest()


class Joined:
    """The trajectories of several others, one after the other, numbered through.

    Args:
        parts: of one spec, on one grid, at the same times.

    Raises:
        ValueError: if they differ.
    """

    def __init__(self, parts: Sequence[Trajectories]) -> None:
        first, *others = parts
        for other in others:
            differences = first.spec.mismatches(other.spec)
            if other.grid != first.grid or not np.array_equal(other.times, first.times):
                differences.append(
                    f"grids {first.grid} and {other.grid}, {first.num_frames} and {other.num_frames} frames from t = "
                    f"{first.times[0]:g} and {other.times[0]:g}"
                )
            if differences:
                raise ValueError(f"trajectories that are to be joined differ: {'; '.join(differences)}.")
        self.parts = tuple(parts)
        self.spec, self.grid, self.times = first.spec, first.grid, first.times
        self.num_frames = first.num_frames
        self._ends = np.cumsum([part.num_trajectories for part in parts])
        self.num_trajectories = int(self._ends[-1])

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        check_frames("joined trajectories", self, trajectory, start, stop)
        part, number = self._place(trajectory)
        return part.frames(number, start, stop)

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray]) -> None:
        """Read the frames from ``start`` on into arrays ``(channel, *space)``, one a frame."""
        check_frames("joined trajectories", self, trajectory, start, start + len(targets))
        part, number = self._place(trajectory)
        frames_into(part, number, start, targets)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        part, number = self._place(trajectory)
        return part.parameters(number)

    def checksum(self) -> str:
        """Return a digest of the content of all parts."""
        return hashlib.sha256(" ".join(part.checksum() for part in self.parts).encode()).hexdigest()

    def _place(self, trajectory: int) -> tuple[Trajectories, int]:
        which = int(np.searchsorted(self._ends, trajectory, side="right"))
        return self.parts[which], trajectory - int(self._ends[which]) + self.parts[which].num_trajectories


class Strided:
    """Every ``stride``-th frame of other trajectories, beginning with the first; dt grows by that factor.

    Args:
        base: where the trajectories come from.
        stride: frames of the base from one frame to the next.
    """

    def __init__(self, base: Trajectories, stride: int) -> None:
        if stride < 1:
            raise ValueError(f"stride is {stride}; it must be at least 1.")
        self.base = base
        self.stride = stride
        self.spec = base.spec.replace(dt=base.spec.dt * stride)
        self.grid = base.grid
        self.num_trajectories = base.num_trajectories
        self.times = base.times[::stride]
        self.num_frames = len(self.times)

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        check_frames("strided trajectories", self, trajectory, start, stop)
        span = self.base.frames(trajectory, start * self.stride, (stop - 1) * self.stride + 1)
        return np.ascontiguousarray(span[:: self.stride])

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(trajectory)

    def checksum(self) -> str:
        """Return a digest of the base's content and of the stride."""
        return hashlib.sha256(f"{self.base.checksum()} every {self.stride}".encode()).hexdigest()


class Regridded:
    """The same trajectories on a grid that is at most as fine as the stored one.

    Values are those at the coarse grid's own points, as the axes of the spec place them.

    - ``"stride"`` keeps every k-th point: the exact values, aliased where the field is not resolved. Each stored size
      must be a multiple of the wanted one, on axes of cell centres an odd one: the centre of an even number of cells
      is none of theirs.
    - ``"cells"`` takes means over cells, on axes of cell centres; any sizes. What finite volumes hold, and what adds up
      to the same sums. Components that live on faces are interpolated between those.
    - ``"spectral"`` evaluates the trigonometric interpolant, on a sphere the sum of spherical harmonics, without the
      modes that the grid cannot carry; any sizes, periodic boxes and spheres only. Latitudes after a rule have no
      other way: those of a coarse grid are not among those of a fine one.

    Args:
        base: where the trajectories come from.
        grid: points along each axis of space, in array order.
        how: ``"auto"`` is spectral on periodic boxes and spheres, means over cells on axes of cell centres, else
            stride.

    Attributes:
        method: what is done: ``"native"`` (grids are equal), ``"stride"``, ``"cells"`` or ``"spectral"``.

    Raises:
        ValueError: if the grid is finer than the stored one or the method cannot reach it.
    """

    def __init__(self, base: Trajectories, grid: Sequence[int], how: str = "auto") -> None:
        if how not in METHODS:
            raise ValueError(f"regrid is {how!r}; allowed: {', '.join(map(repr, METHODS))}.")
        self.base = base
        self.grid = tuple(int(n) for n in grid)
        self.spec = base.spec
        self.num_trajectories = base.num_trajectories
        self.num_frames = base.num_frames
        self.times = base.times
        self.method = self._choose(how)

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory on the new grid."""
        stored = self.base.frames(trajectory, start, stop)
        if self.method == "native":
            return stored
        return regrid(torch.from_numpy(stored), self.spec, self.grid, self.method).contiguous().numpy()

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray]) -> None:
        """Read the frames from ``start`` on, on the new grid, into arrays ``(channel, *space)``, one a frame."""
        if self.method == "native":
            frames_into(self.base, trajectory, start, targets)
            return
        for target, frame in zip(targets, self.frames(trajectory, start, start + len(targets)), strict=True):
            target[...] = frame

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(trajectory)

    def checksum(self) -> str:
        """Return the base's digest on the native grid, else one that also covers grid and method."""
        if self.method == "native":
            return self.base.checksum()
        return hashlib.sha256(f"{self.base.checksum()} {self.grid} {self.method}".encode()).hexdigest()

    @property
    def _is_sphere(self) -> bool:
        return self.spec.geometry == "sphere" and self.spec.axes[0].nodes is not None

    def _choose(self, how: str) -> str:
        stored = self.base.grid
        if len(self.grid) != len(stored) or min(self.grid) < 1:
            raise ValueError(
                f"the grid {self.grid} was asked for; the axes {self.spec.axis_names} need one positive size "
                f"each, at most {stored}."
            )
        if any(new > old for new, old in zip(self.grid, stored, strict=True)):
            raise ValueError(
                f"the grid {self.grid} is finer than the stored one, {stored}. Choose at most {stored}, or "
                "generate the data on a finer grid."
            )
        if self.grid == stored:
            return "native"
        if how == "auto":
            return self._natural()
        self._require(how)
        return how

    def _natural(self) -> str:
        if can_resample(self.spec):
            return "spectral"
        if self._has_cells:
            return "cells"
        self._require("stride")
        return "stride"

    @property
    def _has_cells(self) -> bool:
        """Whether the axes along which the grids differ are of cell centres."""
        pairs = zip(self.spec.axes, self.grid, self.base.grid, strict=True)
        return self.spec.geometry == "plane" and all(
            axis.offset == 0.5 for axis, new, old in pairs if new != old
        )

    def _require(self, how: str) -> None:
        """Refuse a method that does not lead to the grid, and name one that does."""
        stored, spec = self.base.grid, self.spec
        if how == "spectral" and not can_resample(spec):
            raise ValueError(
                f"spectral regridding needs periodic axes; the boundaries are {spec.boundaries}. Use "
                f"regrid={'cells' if self._has_cells else 'stride'}."
            )
        if how == "cells" and not self._has_cells:
            raise ValueError(
                f"regridding by means over cells needs axes of cell centres; the offsets of the axes "
                f"{spec.axis_names} are {tuple(axis.offset for axis in spec.axes)}. Use "
                f"regrid={'spectral' if can_resample(spec) else 'stride'}."
            )
        if how == "stride" and self._is_sphere:
            raise ValueError(
                f"regridding by stride would keep latitudes of {stored[0]} {spec.axes[0].nodes} ones, and those "
                f"of {self.grid[0]} are others. Use regrid=spectral."
            )
        if how == "stride":
            reached = [
                [n for n in range(1, old + 1) if kept_points(axis.lead, old, n)]
                for axis, old in zip(spec.axes, stored, strict=True)
            ]
            if any(new not in sizes for new, sizes in zip(self.grid, reached, strict=True)):
                others = ["spectral"] * can_resample(spec) + ["cells"] * self._has_cells
                raise ValueError(
                    f"regridding {stored} to {self.grid} by stride needs sizes whose points are among the stored ones: "
                    f"{' x '.join(map(str, reached))}."
                    + (f" Or use regrid={' or '.join(others)}." if others else "")
                )
