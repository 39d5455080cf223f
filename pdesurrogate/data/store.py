"""The store: HDF5 files of trajectories that xarray opens too, one file a split.

Each channel is a float32 variable ``(trajectory, time, *space)`` in chunks of one trajectory by a few
frames, uncompressed; each PDE parameter is a variable ``(trajectory,)``. ``xarray.open_dataset(path)``
shows the same content with coordinates, units and the attributes of the run that made it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32

from pdesurrogate.fields import DataSpec

from . import DATASETS
from .chunk_reader import ChunkReader
from .files import MissingFiles, listing, missing_shards, require_file
from .recognition import FORMATS, Recognised
from .store_layout import CHECKSUM, TIME, WRITTEN, crc32, format_of
from .store_writer import StoreWriter
from .trajectories import DataSet, check_finite, check_frames

__all__ = ["StoreWriter", "StoredTrajectories", "store"]

DEFAULT_SPLITS = {"train": "train.h5", "valid": "valid.h5", "test": "test.h5"}


class StoredTrajectories:
    """Trajectories in one file of the store.

    The file is opened once per process, at the first read, and never travels: a pickled copy opens it anew.

    Args:
        path: the file.

    Attributes:
        attributes: the file's attributes (title, equation, solver, seed, version, ...), plain types.

    Raises:
        ValueError: if the file is missing, unfinished, truncated, of another layout, or lacks a variable.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._handle: tuple[int, h5py.File, ChunkReader | None] | None = None
        require_file(self.path)
        with _open(self.path) as file:
            self.spec = _read_spec(self.path, file)
            self._format = format_of(self.path, file.attrs)
            self.grid, self.times, self._checksums = _read_layout(self.path, file, self.spec)
            names = self.spec.parameter_names
            columns = [file[name][:].astype(np.float32) for name in names]
            self.attributes = {
                name: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
                for name, value in file.attrs.items()
                if name != "spec"
            }
        self.num_trajectories = len(self._checksums)
        self.num_frames = len(self.times)
        self._parameters = (
            np.stack(columns, axis=1) if names else np.zeros((self.num_trajectories, 0), dtype=np.float32)
        )
        bad = np.argwhere(~np.isfinite(self._parameters))
        if len(bad):
            raise ValueError(
                f"{self.path}: the parameter {names[bad[0][1]]!r} of trajectory {bad[0][0]} is not finite."
            )

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory.

        Raises:
            ValueError: for indices outside the file, or values that are NaN, infinite or unreadable.
        """
        check_frames(str(self.path), self, trajectory, start, stop)
        frames = self._read(trajectory, start, stop)
        check_finite(str(self.path), self.spec, trajectory, frames, start)
        return frames

    def frames_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray]) -> None:
        """Read the frames from ``start`` on into contiguous float32 arrays ``(channel, *space)``, one a frame.

        Raises:
            ValueError: as `frames`.
        """
        check_frames(str(self.path), self, trajectory, start, start + len(targets))
        self._read_into(trajectory, start, targets)
        check_finite(str(self.path), self.spec, trajectory, targets, start)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self._parameters[trajectory]

    def checksum(self) -> str:
        """Return the SHA-256 of the trajectories' CRC-32 checksums, hexadecimal."""
        return hashlib.sha256(self._checksums.astype("<u4").tobytes()).hexdigest()

    def verify(self, trajectory: int) -> None:
        """Compare a trajectory and its parameters with the checksum that was taken when they were written.

        Raises:
            ValueError: if its bytes have changed since.
        """
        frames, parameters = self._read(trajectory, 0, self.num_frames), self._parameters[trajectory]
        if crc32(frames, parameters, self._format) != int(self._checksums[trajectory]):
            raise ValueError(
                f"{self.path}: trajectory {trajectory} does not match its checksum; the file was damaged "
                "after it was written. Copy or generate it again."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _read(self, trajectory: int, start: int, stop: int) -> np.ndarray:
        frames = np.empty((stop - start, self.spec.num_channels, *self.grid), dtype=np.float32)
        self._read_into(trajectory, start, frames)
        return frames

    def _read_into(self, trajectory: int, start: int, targets: Sequence[np.ndarray] | np.ndarray) -> None:
        try:
            file, chunks = self._opened
            if chunks is not None:
                chunks.read(trajectory, start, targets)
                return
            for channel, name in enumerate(self.spec.channel_names):
                values = file[name][trajectory, start : start + len(targets)]
                for target, value in zip(targets, values, strict=True):
                    target[channel] = value
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{self.path}: trajectory {trajectory} cannot be read ({error}). Copy or generate "
                "the file again."
            ) from error

    @property
    def _opened(self) -> tuple[h5py.File, ChunkReader | None]:
        """This process's handle, and what reads its chunks directly; a forked child opens its own."""
        if self._handle is None or self._handle[0] != os.getpid():
            file = _open(self.path)
            self._handle = (os.getpid(), file, ChunkReader.of(file, self.spec.channel_names))
        return self._handle[1], self._handle[2]


@DATASETS.register("store")
def store(root: str, splits: Mapping[str, str] | None = None) -> DataSet:
    """A folder with one file of the store for each split.

    Args:
        root: the folder.
        splits: file name of each split inside ``root``; train.h5, valid.h5 and test.h5 by default.

    Raises:
        ValueError: if a file is missing or broken, or if the splits do not belong together.
    """
    folder = Path(root)
    names = dict(splits or DEFAULT_SPLITS)
    missing = [name for name in names.values() if not (folder / name).exists()]
    for name in missing:
        if sentence := missing_shards(folder / name):
            raise ValueError(f"{folder} lacks {', '.join(missing)}. {sentence}")
    if missing:
        raise MissingFiles(f"{folder} lacks {', '.join(missing)}; it holds {listing(folder)}")
    files = {split: StoredTrajectories(folder / name) for split, name in names.items()}
    provenance = {
        "root": str(folder),
        **{split: {"file": names[split], **file.attributes} for split, file in files.items()},
    }
    return DataSet(folder.name, files, provenance)


@FORMATS.register("store")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a file of the store, or a folder with such files under the names of splits."""
    if look.kind(path) == "folder":
        there = {split: name for split, name in DEFAULT_SPLITS.items() if (path / name).is_file()}
        inside = [path / name for name in there.values()]
        return {"root": str(path), "splits": there} if inside and _is_stored(inside[0], look) else None
    return {"root": str(path.parent), "splits": {"train": path.name}} if _is_stored(path, look) else None


def _is_stored(path: Path, look: Recognised) -> bool:
    return look.kind(path) == "hdf5" and "spec" in look.attributes(path) and WRITTEN in look.shapes(path)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except BlockingIOError as error:
        raise ValueError(
            f"{path} is being written by another process; wait until it has finished."
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read as HDF5 ({error}). It is truncated, damaged or of another format; "
            "copy or generate it again."
        ) from error


def _read_spec(path: Path, file: h5py.File) -> DataSpec:
    if "spec" not in file.attrs:
        raise ValueError(
            f"{path} is HDF5 but not a file of the store: it lacks the attribute 'spec'. Write it with "
            "StoreWriter, or read it with the reader of its own format (data kind=...)."
        )
    try:
        return DataSpec.from_dict(json.loads(file.attrs["spec"]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: the attribute 'spec' cannot be understood ({error}).") from error


def _read_layout(
    path: Path, file: h5py.File, spec: DataSpec
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Return grid, times and checksums after checking that every variable is there and complete."""
    names = [*spec.channel_names, *spec.parameter_names, TIME, CHECKSUM, WRITTEN]
    missing = [name for name in names if name not in file]
    if missing:
        raise ValueError(
            f"{path} lacks the variables {', '.join(missing)}; it holds {', '.join(sorted(file))}. "
            "Generate it again."
        )
    shapes = {name: file[name].shape for name in spec.channel_names}
    shape = shapes[spec.channel_names[0]]
    fits = len(shape) == 2 + spec.ndim and shape[:2] == (*file[WRITTEN].shape, *file[TIME].shape)
    if not fits or len(set(shapes.values())) > 1:
        raise ValueError(
            f"{path}: every channel needs the shape (trajectory, time, {', '.join(spec.axis_names)}); "
            f"found {shapes}."
        )
    num_written = int(np.count_nonzero(file[WRITTEN][:]))
    if num_written < shape[0]:
        raise ValueError(f"{path} is not finished: {num_written} of {shape[0]} trajectories are written.")
    return shape[2:], file[TIME][:], file[CHECKSUM][:]
