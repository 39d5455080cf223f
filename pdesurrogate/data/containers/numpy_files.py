"""NumPy's files: ``.npy``, one array, and ``.npz``, a zip file of them. Pickled objects are left alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from .interface import ArraysAlone, Selection, full, refuses_damage
from .zip_members import member_offset

STREAM_BYTES = 2**20


class NpyContainer(ArraysAlone):
    """One array, mapped into memory for each slice: only the pages that it touches are read. Its name is ``""``."""

    kind = "npy"

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._shape, self._is_fortran, self._dtype = _header(file)
            self._begin = file.tell()
        if self._dtype.hasobject:
            raise ValueError(
                "Object arrays cannot be loaded: they are pickled, and loading them would run code."
            )
        size = int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize
        if self._dtype.kind not in "biuf" or self._begin + size > path.stat().st_size:
            raise ValueError(
                f"its header says {self._shape} {self._dtype}, {size} bytes; the file is shorter, or no array"
            )

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of the array."""
        return {"": self._shape}

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of the array."""
        if name:
            raise KeyError(f"an .npy file holds one array without a name, not {name!r}")
        array = _mapped(self.path, self._begin, self._shape, self._dtype, self._is_fortran)
        return np.array(array[full(selection, self._shape)])

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return the order of the axes and the type of numbers in words."""
        return f"contiguous, {'column' if self._is_fortran else 'row'}-major, {self._dtype}"

    def close(self) -> None:
        """Do nothing: no slice leaves a mapping behind."""


class NpzContainer(ArraysAlone):
    """A zip file of arrays.

    Members that are stored as they are get mapped into memory. Compressed ones are inflated in a stream, from
    their beginning to the last row that is asked for and no further; their CRC-32 is compared where the stream
    reaches the end. `verify` compares all of them. Members that hold Python objects are never read.
    """

    kind = "npz"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = zipfile.ZipFile(path)
        self._headers: dict[str, tuple[tuple[int, ...], bool, np.dtype, int]] = {}
        for info in self._zip.infolist():
            if info.filename.endswith(".npy"):
                with self._zip.open(info) as member:
                    shape, is_fortran, dtype = _header(member)
                    begin = member.tell()
                if dtype.kind in "biuf":
                    self._headers[info.filename[:-4]] = (shape, is_fortran, dtype, begin)

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every array of numbers by name."""
        return {name: header[0] for name, header in self._headers.items()}

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of an array."""
        shape, is_fortran, dtype, begin = self._headers[name]
        chosen = full(selection, shape)
        info = self._zip.getinfo(name + ".npy")
        if info.compress_type == zipfile.ZIP_STORED:
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            if begin + size > info.file_size:
                raise ValueError(f"{name} has {info.file_size - begin} bytes of {size}")
            where = member_offset(self.path, info) + begin
            return np.array(_mapped(self.path, where, shape, dtype, is_fortran)[chosen])
        if not shape or is_fortran:
            numbers = self._rows(name, 0, None)
            return np.array(numbers.reshape(shape, order="F" if is_fortran else "C")[chosen])
        first = chosen[0]
        start, stop, step = (first, first + 1, 1) if isinstance(first, int) else first.indices(shape[0])
        if isinstance(first, int) and not 0 <= first < shape[0]:
            raise IndexError(f"row {first} of {shape[0]}")
        rows = self._rows(name, start, stop)[::step]
        inner = rows[(slice(None), *chosen[1:])]
        return inner[0] if isinstance(first, int) else inner

    def verify(self) -> None:
        """Compare the CRC-32 of every member.

        Raises:
            ValueError: naming the member that was damaged.
        """
        damaged = self._zip.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of its member {damaged} does not fit")

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return compression and type of numbers in words."""
        is_stored = self._zip.getinfo(name + ".npy").compress_type == zipfile.ZIP_STORED
        return f"{'stored' if is_stored else 'deflated'}, {self._headers[name][2]}"

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        """Inflate the rows ``start`` to ``stop - 1`` of an array's first axis; all numbers, flat, without a stop."""
        shape, _, dtype, begin = self._headers[name]
        count = int(np.prod(shape, dtype=np.int64)) if stop is None else 0
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        skipped = begin + start * row_bytes
        wanted = count * dtype.itemsize if stop is None else (stop - start) * row_bytes
        info = self._zip.getinfo(name + ".npy")
        if skipped + wanted > info.file_size:
            raise ValueError(f"{name} has {info.file_size} bytes of {skipped + wanted}")
        with self._zip.open(info) as member:
            while skipped:
                got = len(member.read(min(skipped, STREAM_BYTES)))
                if not got:
                    raise EOFError(f"{name} ends too early")
                skipped -= got
            content = member.read(wanted)
            if len(content) < wanted:
                raise EOFError(f"{name} ends too early")
            if member.tell() == info.file_size:
                member.read(1)  # the end of the stream, where the checksum is compared
        numbers = np.frombuffer(content, dtype)
        return numbers if stop is None else numbers.reshape(stop - start, *shape[1:])


def _mapped(path: Path, begin: int, shape: tuple[int, ...], dtype: np.dtype, is_fortran: bool) -> np.ndarray:
    """Return an array in a file, mapped into memory."""
    if not all(shape):
        return np.zeros(shape, dtype)
    array = np.memmap(path, dtype, "r", begin, shape or (1,), "F" if is_fortran else "C")
    return np.asarray(array).reshape(shape, order="F" if is_fortran else "C")


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(member)
    if version == (1, 0):
        return npy.read_array_header_1_0(member)
    if version in ((2, 0), (3, 0)):
        return npy.read_array_header_2_0(member)
    raise ValueError(f"unknown .npy version {version}")
