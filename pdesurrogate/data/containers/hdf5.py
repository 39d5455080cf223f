"""HDF5 files, among them netCDF-4 and MATLAB's version 7.3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .interface import Selection, full, plain, refuses_damage

CHUNK_CACHE_BYTES = 2**23


class Hdf5Container:
    """An HDF5 file read with h5py.

    MATLAB writes version 7.3 in its own column-major order, in which HDF5 sees all axes reversed; here they come
    in MATLAB's order again.

    Args:
        path: the file.
        is_matlab: whether axes are to be reversed.
    """

    def __init__(self, path: Path, *, is_matlab: bool = False) -> None:
        self.path = path
        self.kind = "mat7.3" if is_matlab else "hdf5"
        self._is_matlab = is_matlab
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
        except BlockingIOError as error:
            raise ValueError(
                f"{path} is being written by another process; wait until it has finished."
            ) from error
        self._shapes: dict[str, tuple[int, ...]] | None = None

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every array of numbers by name."""
        if self._shapes is None:
            found: dict[str, tuple[int, ...]] = {}

            def note(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "biuf":
                    found[name] = tuple(item.shape[::-1] if self._is_matlab else item.shape)

            self._file.visititems(note)
            self._shapes = found
        return self._shapes

    @refuses_damage
    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of one array without looking at the others; None if there is none of that name."""
        item = self._file.get(name)
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return None
        return tuple(item.shape[::-1] if self._is_matlab else item.shape)

    @refuses_damage
    def groups(self, name: str = "/") -> list[str]:
        """Return the names of the groups right below one, in the file's order."""
        return [key for key, item in self._file[name].items() if isinstance(item, h5py.Group)]

    @refuses_damage
    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of an array or group, of the file by default."""
        item = self._file[name or "/"]
        internal = {
            "CLASS",
            "NAME",
            "DIMENSION_LIST",
            "REFERENCE_LIST",
            "_Netcdf4Dimid",
            "_Netcdf4Coordinates",
        }
        return {key: plain(value) for key, value in item.attrs.items() if key not in internal}

    @refuses_damage
    def dimensions(self, name: str) -> tuple[str, ...] | None:
        """Return the names of an array's dimension scales, as netCDF-4 keeps them."""
        scales = [[scale.name.rsplit("/", 1)[-1] for scale in dim.values()] for dim in self._file[name].dims]
        return tuple(names[0] for names in scales) if scales and all(scales) else None

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of an array."""
        dataset = self._file[name]
        if not self._is_matlab:
            return np.asarray(dataset[full(selection, dataset.shape)])
        return np.asarray(dataset[full(selection, dataset.shape)[::-1]]).T

    @refuses_damage
    def samples_together(self, name: str, axis: int) -> int:
        """Return how many places along an axis lie in one compressed chunk, or 1: reading one of them costs all."""
        dataset = self._file[name]
        if self._is_matlab or not dataset.chunks or not dataset.id.get_create_plist().get_nfilters():
            return 1
        return int(dataset.chunks[axis])

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return chunks, compression and type of numbers in words."""
        dataset = self._file[name]
        chunks = dataset.chunks[::-1] if dataset.chunks and self._is_matlab else dataset.chunks
        words = [f"chunks {' x '.join(map(str, chunks))}" if chunks else "contiguous", str(dataset.dtype)]
        return ", ".join([*words, *([str(dataset.compression)] if dataset.compression else [])])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
