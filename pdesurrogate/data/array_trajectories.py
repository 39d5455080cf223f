"""Trajectories that lie in arrays of files: which array, in which order of axes, and at which index."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pdesurrogate.fields import DataSpec

from .containers import UNREADABLE, Container, ContainerPool, unreadable
from .containers.hdf5 import Hdf5Container
from .trajectories import check_frames, first_non_finite

SAMPLE, TIME = "sample", "time"
HASHED_WHOLE = 2**30
SAMPLED_BLOCKS = 256
BLOCK = 2**20
BLOCK_BYTES = 2**27
"""Most that is kept of one array's samples which were read together."""


@dataclass(frozen=True)
class Slot:
    """Where a channel stands in a trajectory's files.

    Attributes:
        array: name of the array, inside the trajectory's group if it has one.
        axes: what each axis of the array is, in the file's order: ``"sample"``, ``"time"``, the name of an axis of
            space, or a key of ``fixed``. An axis of space that the array lacks is one along which it is constant.
        fixed: index along every other axis, such as that of a component or a level.
        file: which of the trajectory's files it is in.
        scale, offset: ``value = scale · stored + offset``.
        missing: stored number that means "no value".
    """

    array: str
    axes: tuple[str, ...]
    fixed: Mapping[str, int] = field(default_factory=dict)
    file: int = 0
    scale: float = 1.0
    offset: float = 0.0
    missing: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a trajectory stands.

    Attributes:
        files: the files that its channels are in.
        sample: index along the axis ``"sample"``; None where arrays have none.
        group: group of the files that its arrays are in.
    """

    files: tuple[Path, ...]
    sample: int | None = None
    group: str = ""

    def __str__(self) -> str:
        parts = [str(self.files[0])]
        if self.group:
            parts.append(f"group {self.group!r}")
        if self.sample is not None:
            parts.append(f"sample {self.sample}")
        return ", ".join(parts)


class ArrayTrajectories:
    """Trajectories of which every frame is a slice of arrays in files; only what is asked for is read.

    Args:
        spec: what the fields are.
        grid: points along each axis of space.
        times: time of each frame.
        slots: where each channel stands.
        places: where each trajectory stands.
        parameters: PDE parameters, ``(trajectory, parameter)``.
        frame_numbers: index along the axis ``"time"`` of each frame; by default 0, 1, 2, ...
        crop: part of an axis of space to be read, by name; all of it by default.
        pool: keeps the files open; shared with other trajectories of the same files.

    Raises:
        ValueError: if spec, slots, places and parameters do not go together.
    """

    def __init__(
        self,
        spec: DataSpec,
        grid: Sequence[int],
        times: Sequence[float] | np.ndarray,
        slots: Sequence[Slot],
        places: Sequence[Place],
        *,
        parameters: np.ndarray | None = None,
        frame_numbers: Sequence[int] | None = None,
        crop: Mapping[str, slice] | None = None,
        pool: ContainerPool | None = None,
    ) -> None:
        self.spec = spec
        self.grid = tuple(int(n) for n in grid)
        self.times = np.asarray(times, dtype=np.float64)
        self.num_frames = len(self.times)
        self.num_trajectories = len(places)
        self.places = tuple(places)
        self._slots = tuple(slots)
        self._frame_numbers = np.asarray(
            range(self.num_frames) if frame_numbers is None else frame_numbers, dtype=np.int64
        )
        steps = np.unique(np.diff(self._frame_numbers))
        self._even_step = int(steps[0]) if len(steps) == 1 and steps[0] > 0 else None
        self._axis_names, self._channel_names = spec.axis_names, spec.channel_names
        self._crop = dict(crop or {})
        self._pool = pool or ContainerPool()
        # By array: which samples were read together, and they.
        self._blocks: dict[str, tuple[str, np.ndarray]] = {}
        if not self.num_trajectories or not self.num_frames:
            raise ValueError(
                f"there are {self.num_trajectories} trajectories of {self.num_frames} frames; none to read."
            )
        if len(self._slots) != spec.num_channels or len(self._frame_numbers) != self.num_frames:
            raise ValueError(
                f"{len(self._slots)} slots were given for the channels {spec.channel_names} and "
                f"{len(self._frame_numbers)} frame numbers for {self.num_frames} times."
            )
        self._parameters = _checked_parameters(spec, self.places, parameters)

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory.

        Raises:
            ValueError: for indices outside the data, or values that are NaN, infinite or unreadable.
        """
        check_frames(str(self.places[0].files[0]), self, trajectory, start, stop)
        frames = np.empty((stop - start, self.spec.num_channels, *self.grid), dtype=np.float32)
        self.frames_into(trajectory, start, frames)
        return frames

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray] | np.ndarray) -> None:
        """Read the frames from ``start`` on into arrays ``(channel, *space)``, one a frame.

        Raises:
            ValueError: as `frames`.
        """
        stop = start + len(targets)
        check_frames(str(self.places[0].files[0]), self, trajectory, start, stop)
        place = self.places[trajectory]
        for channels in self._together:
            try:
                for channel, values in zip(channels, self._read(place, channels, start, stop), strict=True):
                    for target, frame in zip(targets, values, strict=True):
                        target[channel] = frame
            except UNREADABLE as error:
                slot = self._slots[channels[0]]
                path = place.files[min(slot.file, len(place.files) - 1)]
                raise unreadable(path, f"{slot.array or 'array'} of {place}", error) from error
        bad = first_non_finite(targets, self._channel_names, first_frame=start)
        if bad is not None:
            raise ValueError(
                f"{place}: trajectory {trajectory} holds NaN or infinite values ({bad}). Download the file again, or "
                "leave the trajectory out."
            )

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self._parameters[trajectory]

    def checksum(self) -> str:
        """Return a digest of the files' content and of what is read from them, hexadecimal.

        Files of more than 1 GiB enter with their size and 256 of their blocks of 1 MiB, evenly spread.
        """
        digest = hashlib.sha256()
        for path in dict.fromkeys(file for place in self.places for file in place.files):
            digest.update(content_digest(path).encode())
        how = [(p.sample, p.group) for p in self.places]
        digest.update(f"{how} {self._slots} {self._frame_numbers.tolist()} {self._crop}".encode())
        return digest.hexdigest()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, each once."""
        return tuple(dict.fromkeys(file for place in self.places for file in place.files))

    @functools.cached_property
    def _together(self) -> list[list[int]]:
        """Return the channels that one read of one array gives, together."""
        groups: dict[Any, list[int]] = {}
        for channel, slot in enumerate(self._slots):
            groups.setdefault((slot.file, slot.array, slot.axes), []).append(channel)
        return list(groups.values())

    def _read(self, place: Place, channels: list[int], start: int, stop: int) -> list[np.ndarray]:
        """Return channels of one array, each as ``(time, *space)``."""
        slots = [self._slots[channel] for channel in channels]
        first = slots[0]
        numbers = self._frame_numbers[start:stop]
        step = self._even_step if len(numbers) > 1 else 1
        selection: list[int | slice] = []
        kept: list[str] = []
        for axis in first.axes:
            if axis == SAMPLE:
                selection.append(int(place.sample or 0))
                continue
            if axis == TIME:
                selection.append(slice(int(numbers.min()), int(numbers.max()) + 1, step or 1))
            elif axis in self._axis_names:
                selection.append(self._crop.get(axis, slice(None)))
            elif len({slot.fixed[axis] for slot in slots}) == 1:
                selection.append(first.fixed[axis])
                continue
            else:
                selection.append(slice(None))
            kept.append(axis)
        path = place.files[first.file]
        name = f"{place.group}/{first.array}" if place.group else first.array
        with self._pool.reading(path) as container:
            block = self._samples_together(container, name, selection, first)
            if block is None:
                block = container.read(name, tuple(selection))
        if TIME in kept and step is None:
            block = block.take(numbers - numbers.min(), axis=kept.index(TIME))
        return [self._channel(path, block, kept, slot, len(numbers)) for slot in slots]

    def _samples_together(
        self, container: Container, name: str, selection: list[int | slice], slot: Slot
    ) -> np.ndarray | None:
        """Return whole trajectories from a block of those whose compressed chunks hold them together.

        Without it, a pass over trajectories would inflate every chunk once for each sample in it. None for a part of a
        trajectory, and where chunks hold one sample.
        """
        if not isinstance(container, Hdf5Container) or SAMPLE not in slot.axes or TIME not in slot.axes:
            return None
        frames = selection[slot.axes.index(TIME)]
        if (
            not isinstance(frames, slice)
            or len(range(frames.start, frames.stop, frames.step)) < self.num_frames
        ):
            return None
        axis = slot.axes.index(SAMPLE)
        together = container.samples_together(name, axis)
        sample = selection[axis]
        if together == 1 or not isinstance(sample, int):
            return None
        shape = container.shape(name) or ()
        bytes_each = 8 * math.prod(n for i, n in enumerate(shape) if i != axis)
        together = min(together, max(1, BLOCK_BYTES // bytes_each))
        begin = sample // together * together
        chosen: list[int | slice] = list(selection)
        chosen[axis] = slice(begin, min(begin + together, shape[axis]))
        key = f"{container.path} {chosen}"
        held = self._blocks.get(name)
        if held is None or held[0] != key:
            held = self._blocks[name] = (key, container.read(name, tuple(chosen)))
        dropped = sum(isinstance(part, int) for part in chosen[:axis])
        return held[1].take(sample - begin, axis=axis - dropped)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_blocks": {}}

    def _channel(
        self, path: Path, block: np.ndarray, kept: list[str], slot: Slot, num_frames: int
    ) -> np.ndarray:
        """Return one channel of a block as ``(time, *space)`` in the order of the spec."""
        axes, wanted = list(kept), (TIME, *self._axis_names)
        for axis in kept:
            if axis not in wanted:
                block = np.moveaxis(block, axes.index(axis), 0)[slot.fixed[axis]]
                axes.remove(axis)
        values = block.transpose([axes.index(name) for name in wanted if name in axes])
        if len(axes) < len(wanted):
            values = np.expand_dims(values, [i for i, name in enumerate(wanted) if name not in axes])
        shape = (num_frames, *self.grid)
        if any(
            have != (want if name in axes else 1)
            for name, have, want in zip(wanted, values.shape, shape, strict=True)
        ):
            raise ValueError(
                f"{path}: {slot.array or 'the array'} gives (time, {', '.join(self.spec.axis_names)}) = "
                f"{values.shape}; {shape} is needed. All files of a set have one grid and as many frames."
            )
        if slot.missing is not None:
            values = np.where(values == slot.missing, np.nan, values)
        if slot.scale != 1.0 or slot.offset:
            values = values * slot.scale + slot.offset
        return values if values.shape == shape else np.broadcast_to(values, shape)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, beyond 1 GiB of its size and of blocks spread over it; folders by files."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{part.relative_to(path)} {content_digest(part)}".encode())
        return digest.hexdigest()
    facts = path.stat()
    return _file_digest(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=4096)  # the splits of one file ask for it in turn
def _file_digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        if size <= HASHED_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for block in range(SAMPLED_BLOCKS):
            file.seek((size - BLOCK) * block // (SAMPLED_BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _checked_parameters(spec: DataSpec, places: Sequence[Place], parameters: np.ndarray | None) -> np.ndarray:
    values = np.zeros((len(places), 0), np.float32) if parameters is None else np.asarray(parameters)
    if values.shape != (len(places), spec.num_parameters):
        raise ValueError(
            f"parameters have the shape {values.shape}; {(len(places), spec.num_parameters)} is needed: one row a "
            f"trajectory, one column for each of {spec.parameter_names}."
        )
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"{places[row]}: the parameter {spec.parameter_names[column]!r} is not finite.")
    return values.astype(np.float32)
