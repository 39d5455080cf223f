"""Trajectories: read access to solutions of a PDE, frame by frame, in physical units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from pdesurrogate.fields import DataSpec

SPLITS = ("train", "valid", "test")


@runtime_checkable
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


def frames_into(
    trajectories: Trajectories, trajectory: int, start: int, targets: Sequence[np.ndarray]
) -> None:
    """Read the frames from ``start`` on into arrays ``(channel, *space)``, one a frame.

    Trajectories that can read to any place, without a copy of their own, have a method of this name.
    """
    read = getattr(trajectories, "frames_into", None)
    if read is not None:
        read(trajectory, start, targets)
        return
    for target, frame in zip(
        targets, trajectories.frames(trajectory, start, start + len(targets)), strict=True
    ):
        target[...] = frame


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


def first_non_finite(
    frames: Sequence[np.ndarray] | np.ndarray, channel_names: Sequence[str], *, first_frame: int = 0
) -> str | None:
    """Return ``"channel 'vorticity', frame 7"`` for the first NaN or infinity, None if all is finite."""
    for frame, values in enumerate(frames):
        finite = np.isfinite(values)
        if not finite.all():
            channel = np.argwhere(~finite)[0][0]
            return f"channel {channel_names[channel]!r}, frame {first_frame + frame}"
    return None


def check_finite(
    owner: str, spec: DataSpec, trajectory: int, frames: Sequence[np.ndarray] | np.ndarray, start: int
) -> None:
    """Refuse frames that hold NaN or infinite values.

    Args:
        owner: the file, for the message.
        spec: names the channels.
        trajectory: index of the trajectory.
        frames: ``(time, channel, *space)``, or as many ``(channel, *space)``.
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
