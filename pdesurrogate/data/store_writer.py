"""Writing trajectories to an HDF5 file that survives interruption and that xarray reads.

The layout follows netCDF-4 by hand (dimension scales, units, attributes). The file is allocated and
filled in full when it is created, and afterwards only raw data change, never the file's metadata. A
process that is killed at any moment therefore leaves a ``.part`` file that opens and can be continued.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from pdesurrogate.fields import DataSpec

from .files import size_text
from .store_layout import CHECKSUM, FORMAT, TIME, TRAJECTORY, WRITTEN, crc32, format_of, lay_out, storable
from .trajectories import first_non_finite

log = logging.getLogger(__name__)


class FileTaken(ValueError):
    """Another process is writing the file, or has written it."""


class StoreWriter:
    """Trajectories of one split, written one at a time and published under the final name at the end.

    Everything goes to ``path + ".part"``, which `finish` renames. A ``.part`` file left by an
    interruption is continued: trajectories that were stored completely (their checksum is verified) are
    not `pending` any more. One with other settings is in the way, unless it holds no trajectory yet.

    Args:
        path: the final name, such as ``data/navier_stokes/train.h5``.
        spec: what the fields are.
        grid: points along each axis of space, in array order.
        num_trajectories: number of trajectories N.
        times: time of each frame in ``spec.time_units``, uniformly ``spec.dt`` apart.
        attributes: facts for the file's readers (title, equation, solver, seed, version); plain types.

    Raises:
        ValueError: if the file exists already, if a ``.part`` file holds something else or is being
            written by another process, if the disk is too small, or if times and spec disagree.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        spec: DataSpec,
        grid: Sequence[int],
        num_trajectories: int,
        times: Sequence[float] | np.ndarray,
        attributes: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        self.spec = spec
        self.grid = tuple(int(n) for n in grid)
        self.num_trajectories = num_trajectories
        self.times = np.asarray(times, dtype=np.float64)
        self.attributes = storable({**attributes, "spec": json.dumps(spec.to_dict(), ensure_ascii=False)})
        self._check_arguments()
        self._part = self.path.with_name(self.path.name + ".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._part.exists():
            self._create()
        self._file = self._open()
        if self._is_worthless():
            self._part.unlink()  # while it is locked, so that no other process writes to it
            self._file.close()
            self._create()
            self._file = self._open()
        if self.path.exists():  # another process has published it since the check above
            self._file.close()
            self._part.unlink(missing_ok=True)
            raise self._complete()
        try:
            self._format = format_of(self._part, self._file.attrs)  # an older file is continued as it began
            self.pending = self._find_pending()
        except BaseException:
            self._file.close()
            raise

    def write(
        self,
        trajectory: int,
        frames: Float[np.ndarray, "time channel *space"],
        parameters: Float[np.ndarray, " parameter"],
    ) -> None:
        """Store one trajectory; when this returns, a killed process does not lose it.

        Args:
            trajectory: index from 0 to N - 1.
            frames: all frames in physical units; converted to float32.
            parameters: the PDE parameters of the trajectory, in the order of ``spec.parameters``.

        Raises:
            ValueError: for a wrong shape or index, or a value that is NaN or infinite in float32.
        """
        frames = np.ascontiguousarray(frames, dtype=np.float32)
        parameters = np.asarray(parameters, dtype=np.float32)
        self._check_trajectory(trajectory, frames, parameters)
        try:
            for channel, name in enumerate(self.spec.channel_names):
                self._file[name][trajectory] = frames[:, channel]
            for name, value in zip(self.spec.parameter_names, parameters, strict=True):
                self._file[name][trajectory] = value
            self._file[CHECKSUM][trajectory] = crc32(frames, parameters, self._format)
            self._file.flush()
            self._file[WRITTEN][trajectory] = 1  # only after the data have reached the file
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{self._part}: trajectory {trajectory} cannot be written ({error}). The trajectories before "
                "it are kept; make the disk writable and run the same command again to continue."
            ) from error
        if trajectory in self.pending:
            self.pending.remove(trajectory)

    def finish(self) -> Path:
        """Publish the complete file under its final name and return that name.

        Raises:
            ValueError: if trajectories are still pending.
        """
        if self.pending:
            raise ValueError(
                f"{self._part}: {len(self.pending)} of {self.num_trajectories} trajectories are not written "
                f"yet (first: {self.pending[0]}); write them before finish()."
            )
        self.close()
        try:
            _fsync(self._part)
            self._part.replace(self.path)
        except FileNotFoundError:
            if not self.path.exists():  # else another process has published the same complete file
                raise
        _fsync(self.path.parent)
        return self.path

    def close(self) -> None:
        """Close the file; what is written so far stays in the ``.part`` file."""
        self._file.close()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_arguments(self) -> None:
        if self.path.exists():
            raise self._complete()
        if len(self.grid) != self.spec.ndim or min(self.grid) < 1:
            raise ValueError(f"grid {self.grid} does not fit the axes {self.spec.axis_names}.")
        if self.num_trajectories < 1 or self.times.ndim != 1 or self.times.size < 1:
            raise ValueError("a store needs at least one trajectory and one frame.")
        if not np.allclose(np.diff(self.times), self.spec.dt, rtol=1e-6, atol=0.0):
            raise ValueError(f"times {self.times} are not spec.dt = {self.spec.dt} apart.")
        names = [TRAJECTORY, TIME, WRITTEN, CHECKSUM, *self.spec.axis_names]
        names += [*self.spec.channel_names, *self.spec.parameter_names]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"the names {repeated} are used twice in the file; rename fields or parameters.")

    def _check_trajectory(self, trajectory: int, frames: np.ndarray, parameters: np.ndarray) -> None:
        if not 0 <= trajectory < self.num_trajectories:
            raise ValueError(f"trajectory is {trajectory}; allowed: 0 to {self.num_trajectories - 1}.")
        shape = (self.times.size, self.spec.num_channels, *self.grid)
        if frames.shape != shape:
            raise ValueError(f"trajectory {trajectory} has shape {frames.shape}; the store takes {shape}.")
        if parameters.shape != (self.spec.num_parameters,):
            raise ValueError(
                f"trajectory {trajectory} has parameters of shape {parameters.shape}; the store takes one "
                f"value for each of {self.spec.parameter_names}."
            )
        place = first_non_finite(frames, self.spec.channel_names)
        if place is not None or not np.isfinite(parameters).all():
            raise ValueError(
                f"trajectory {trajectory} holds NaN or infinite values ({place or 'parameters'}); it is not "
                "stored. A solver that blows up needs a smaller time step."
            )

    def _create(self) -> None:
        """Allocate and fill the whole file under a third name, then rename it to ``.part``."""
        self._check_disk_space()
        unborn = self._part.with_name(self._part.name + ".new")
        with unborn.open("ab") as claim:
            if not _lock(claim.fileno()):
                raise self._taken()
            if self._part.exists():  # another process has made it in the meantime
                return
            try:
                with h5py.File(unborn, "w", locking=False) as file:  # the lock is ours already
                    lay_out(file, self.spec, self.grid, self.num_trajectories, self.times, self.attributes)
                _fsync(unborn)
            except BaseException as error:
                unborn.unlink(missing_ok=True)
                if isinstance(error, OSError | RuntimeError):
                    raise ValueError(
                        f"{unborn} cannot be created ({error}). {size_text(self._num_bytes)} are needed; "
                        "free some space or choose another root."
                    ) from error
                raise
            unborn.replace(self._part)

    @property
    def _num_bytes(self) -> int:
        return 4 * self.num_trajectories * self.times.size * self.spec.num_channels * math.prod(self.grid)

    def _check_disk_space(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if self._num_bytes > free:
            raise ValueError(
                f"{self.path} needs {size_text(self._num_bytes)}; {size_text(free)} are free "
                "there. Free some space, choose another root, or ask for less."
            )

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self._part, "r+")
        except BlockingIOError as error:
            raise self._taken() from error
        except OSError as error:
            raise ValueError(
                f"{self._part} is left from an interruption and cannot be continued ({error}). Delete it and "
                "run the same command again."
            ) from error

    def _taken(self) -> FileTaken:
        return FileTaken(
            f"{self._part} is being written by another process; wait for it or choose another root."
        )

    def _complete(self) -> FileTaken:
        return FileTaken(f"{self.path} exists already and is complete; delete it or choose another root.")

    def _is_worthless(self) -> bool:
        """Return whether the ``.part`` file is that of other settings and holds no trajectory."""
        is_empty = WRITTEN in self._file and not self._file[WRITTEN][:].any()
        return is_empty and bool(self._differences())

    def _find_pending(self) -> list[int]:
        """Compare the ``.part`` file with what is asked for; return the trajectories it still lacks."""
        differences = self._differences()
        if differences:
            raise ValueError(
                f"{self._part} was left by a run with other settings: {'; '.join(differences)}. Delete it "
                "(overwrite=true does), restore the settings to continue it, or choose another root."
            )
        complete = [i for i, flag in enumerate(self._file[WRITTEN][:]) if flag and self._is_intact(i)]
        if complete:
            log.info("%s: continuing, %d of %d done", self.path, len(complete), self.num_trajectories)
        return sorted(set(range(self.num_trajectories)) - set(complete))

    def _is_intact(self, trajectory: int) -> bool:
        frames = np.stack([self._file[name][trajectory] for name in self.spec.channel_names], axis=1)
        parameters = np.array([self._file[name][trajectory] for name in self.spec.parameter_names])
        return crc32(frames, parameters, self._format) == int(self._file[CHECKSUM][trajectory])

    def _differences(self) -> list[str]:
        file = self._file
        missing = [n for n in (*self.spec.channel_names, TIME, WRITTEN, CHECKSUM) if n not in file]
        if missing:
            return [f"it lacks the variables {missing}"]
        shape = (self.num_trajectories, self.times.size, *self.grid)
        stored = file[self.spec.channel_names[0]].shape
        found = []
        if stored != shape:
            found.append(f"(trajectory, time, *space) is {stored} there and {shape} here")
        elif not np.array_equal(file[TIME][:], self.times):
            found.append("its times are others")
        there = storable({name: value for name, value in file.attrs.items() if name != FORMAT})
        for name in sorted(set(there) | set(self.attributes)):
            if there.get(name) != self.attributes.get(name):
                found.append(f"{name} is {there.get(name)!r} there and {self.attributes.get(name)!r} here")
        return found


def _lock(descriptor: int) -> bool:
    """Lock a file for this process; False if another one has it, True also where locks do not exist."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        log.debug("the file system has no locks")
    return True


def _fsync(path: Path) -> None:
    """Wait until a file or folder has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
