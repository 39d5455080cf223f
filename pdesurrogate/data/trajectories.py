"""Trajectories: read access to solutions of a PDE, frame by frame, in physical units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float32

from pdesurrogate.fields import DataSpec, fourier

SPLITS = ("train", "valid", "test")


class Trajectories(Protocol):
    """N trajectories of equal length on one grid, read lazily.

    Implementations are picklable and open their files per process, so that they may be handed to
    worker processes, forked or spawned.

    Attributes:
        spec: what the fields are.
        grid: points along each axis of space, in array order.
        num_trajectories: number of trajectories N.
        num_frames: number of frames of each trajectory.
        times: time of each frame in ``spec.time_units``, float64.
    """

    @property
    def spec(self) -> DataSpec: ...  # noqa: D102
    @property
    def grid(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def num_trajectories(self) -> int: ...  # noqa: D102
    @property
    def num_frames(self) -> int: ...  # noqa: D102
    @property
    def times(self) -> np.ndarray: ...  # noqa: D102

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        ...

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        ...

    def checksum(self) -> str:
        """Return a hexadecimal digest of the content."""
        ...


@dataclass(frozen=True)
class DataSet:
    """Trajectories split into train, valid and test, never by window.

    Attributes:
        name: what the set is called in logs and reports.
        splits: ``"train"``, ``"valid"`` and ``"test"`` where they exist.
        provenance: where the numbers come from; plain types, goes into the artifact.

    Raises:
        ValueError: if a split has another name, or if the specs of two splits differ.
    """

    name: str
    splits: Mapping[str, Trajectories]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.splits) - set(SPLITS))
        if unknown or not self.splits:
            raise ValueError(
                f"data set {self.name!r} has the splits {sorted(self.splits)}; allowed: {', '.join(SPLITS)}."
            )
        first, *others = self.splits
        for other in others:
            differences = self.splits[first].spec.mismatches(self.splits[other].spec)
            if differences:
                raise ValueError(
                    f"data set {self.name!r}: {first} and {other} differ: {'; '.join(differences)}. All "
                    "splits of a data set share one spec; generate or download them together."
                )

    @property
    def spec(self) -> DataSpec:
        """The spec that all splits share."""
        return next(iter(self.splits.values())).spec


def check_frames(owner: str, trajectories: Trajectories, trajectory: int, start: int, stop: int) -> None:
    """Refuse frames outside the data.

    Raises:
        ValueError: naming the trajectory or the frames, and what there is.
    """
    if not 0 <= trajectory < trajectories.num_trajectories:
        raise ValueError(
            f"{owner}: trajectory {trajectory} was asked for; there are {trajectories.num_trajectories}."
        )
    if not 0 <= start < stop <= trajectories.num_frames:
        raise ValueError(
            f"{owner}: frames {start} to {stop - 1} were asked for; there are 0 to "
            f"{trajectories.num_frames - 1}."
        )


def first_non_finite(frames: np.ndarray, channel_names: Sequence[str], *, first_frame: int = 0) -> str | None:
    """Return ``"channel 'vorticity', frame 7"`` for the first NaN or infinity, None if all is finite."""
    finite = np.isfinite(frames)
    if finite.all():
        return None
    frame, channel = np.argwhere(~finite)[0][:2]
    return f"channel {channel_names[channel]!r}, frame {first_frame + frame}"


def check_finite(owner: str, spec: DataSpec, trajectory: int, frames: np.ndarray, start: int) -> None:
    """Refuse frames that hold NaN or infinite values.

    Args:
        owner: the file, for the message.
        spec: names the channels.
        trajectory: index of the trajectory.
        frames: ``(time, channel, *space)``.
        start: index of the first of the frames.

    Raises:
        ValueError: naming file, trajectory, channel and frame.
    """
    place = first_non_finite(frames, spec.channel_names, first_frame=start)
    if place is not None:
        raise ValueError(
            f"{owner}: trajectory {trajectory} holds NaN or infinite values ({place}). Make or download the "
            "file again, or leave the trajectory out."
        )


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

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(self.indices[trajectory])

    def checksum(self) -> str:
        """Return a digest of the base's content and of the indices."""
        return hashlib.sha256(f"{self.base.checksum()} {self.indices}".encode()).hexdigest()


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


Regridding = Literal["auto", "stride", "spectral"]


class Regridded:
    """The same trajectories on a grid that is at most as fine as the stored one.

    - ``"stride"`` keeps every k-th point: the exact values, aliased where the field is not resolved.
      Each stored size must be a multiple of the wanted one.
    - ``"spectral"`` evaluates the trigonometric interpolant without the modes that the grid cannot carry;
      any sizes, periodic axes only.

    Args:
        base: where the trajectories come from.
        grid: points along each axis of space, in array order.
        how: ``"auto"`` is spectral if every axis is periodic, else stride.

    Attributes:
        method: what is done: ``"native"`` (grids are equal), ``"stride"`` or ``"spectral"``.

    Raises:
        ValueError: if the grid is finer than the stored one or the method cannot reach it.
    """

    def __init__(self, base: Trajectories, grid: Sequence[int], how: Regridding | str = "auto") -> None:
        if how not in ("auto", "stride", "spectral"):
            raise ValueError(f"regrid is {how!r}; allowed: 'auto', 'stride', 'spectral'.")
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
        if self.method == "spectral":
            return fourier.resample(torch.from_numpy(stored), self.grid).numpy()
        points: list[Any] = [slice(None), slice(None)]
        points += [slice(None, None, old // new) for old, new in zip(self.base.grid, self.grid, strict=True)]
        return np.ascontiguousarray(stored[tuple(points)])

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(trajectory)

    def checksum(self) -> str:
        """Return the base's digest on the native grid, else one that also covers grid and method."""
        if self.method == "native":
            return self.base.checksum()
        return hashlib.sha256(f"{self.base.checksum()} {self.grid} {self.method}".encode()).hexdigest()

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
            how = "spectral" if self.spec.is_periodic else "stride"
        if how == "spectral" and not self.spec.is_periodic:
            raise ValueError(
                f"spectral regridding needs periodic axes; the boundaries are {self.spec.boundaries}. Use "
                "regrid=stride."
            )
        if how == "stride" and any(old % new for new, old in zip(self.grid, stored, strict=True)):
            divisors = [[n for n in range(1, old + 1) if old % n == 0] for old in stored]
            raise ValueError(
                f"regridding {stored} to {self.grid} by stride needs divisors of the stored sizes: "
                f"{' x '.join(map(str, divisors))}."
                + (" Or use regrid=spectral." if self.spec.is_periodic else "")
            )
        return how
