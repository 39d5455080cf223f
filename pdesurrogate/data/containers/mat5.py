"""MATLAB files of version 5, read lazily: a slice touches only its part of the file.

An element of the file is a matrix as it is, which is mapped into memory, or a deflated one, which is inflated once
into an unnamed temporary file and mapped from there; the checksum of the deflated stream is compared then. Numbers
lie in column-major order, so the last axis is the slowest.

Source: MathWorks, "MAT-File Format", version 5.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .interface import ArraysAlone, Selection, full, refuses_damage

HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
COMPLEX_FLAG = 0x0800
NUMBERS = range(6, 16)  # classes double to uint64
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
HEAD_BYTES = 4096
STREAM_BYTES = 2**20


@dataclass(frozen=True)
class _Matrix:
    """A matrix of numbers: where its element begins, how long it is, and what its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    begin: int  # first byte of the numbers, in the file or in the inflated element
    element: int  # first byte of the deflated stream, 0 if there is none
    element_bytes: int


class Mat5Container(ArraysAlone):
    """The real matrices of a MATLAB file of version 5; cells, structures and text are left alone."""

    kind = "mat5"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._matrices: dict[str, _Matrix] = {}
        self._inflated: dict[str, IO[bytes]] = {}
        with path.open("rb") as file:
            self._order = {b"IM": "<", b"MI": ">"}[file.read(HEADER_BYTES)[126:128]]
            size = file.seek(0, 2)
            position = HEADER_BYTES
            while position + 8 <= size:
                file.seek(position)
                kind, length = struct.unpack(self._order + "II", file.read(8))
                if kind not in (MATRIX, COMPRESSED) or position + 8 + length > size:
                    raise ValueError(
                        f"the element at byte {position} has type {kind} and {length} bytes; the file has {size}"
                    )
                self._note(file, kind, position + 8, length)
                position += 8 + length
            if position != size:
                raise ValueError(f"it ends inside an element, at byte {size}")

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every matrix in MATLAB's order of axes."""
        return {name: matrix.shape for name, matrix in self._matrices.items()}

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of a matrix."""
        matrix = self._matrices[name]
        if not all(matrix.shape):
            return np.zeros(matrix.shape, matrix.dtype)[full(selection, matrix.shape)]
        source: Any = self._inflate(name) if matrix.element else self.path
        mapped = np.memmap(source, matrix.dtype, "r", matrix.begin, matrix.shape, "F")
        part = np.array(mapped[full(selection, matrix.shape)])
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return compression and type of numbers in words."""
        matrix = self._matrices[name]
        return f"{'deflated' if matrix.element else 'contiguous'}, column-major, {matrix.dtype}"

    def close(self) -> None:
        """Remove what was inflated."""
        for file in self._inflated.values():
            file.close()
        self._inflated = {}

    def _note(self, file: IO[bytes], kind: int, begin: int, length: int) -> None:
        """Read the header of an element and keep it if it is a matrix of real numbers."""
        if kind == MATRIX:
            head = file.read(min(length, HEAD_BYTES))
            found = self._header(head, length)
        else:
            stream = zlib.decompressobj()
            head = stream.decompress(file.read(min(length, HEAD_BYTES)), HEAD_BYTES)
            inner, inner_length = struct.unpack(self._order + "II", head[:8])
            if inner != MATRIX:
                return
            found = self._header(head[8:], inner_length)
        if found is not None:
            name, shape, dtype, data = found
            is_deflated = kind == COMPRESSED
            self._matrices[name] = _Matrix(
                shape, dtype, 8 + data if is_deflated else begin + data, begin if is_deflated else 0, length
            )

    def _header(self, head: bytes, length: int) -> tuple[str, tuple[int, ...], np.dtype, int] | None:
        """Return name, shape, type of the stored numbers and their offset; None if they are no real numbers."""
        parts = self._parts(head)
        _, offset, _ = next(parts)
        (flags,) = struct.unpack_from(self._order + "I", head, offset)
        if flags & 0xFF not in NUMBERS or flags & COMPLEX_FLAG:
            return None
        _, offset, size = next(parts)
        shape = struct.unpack_from(f"{self._order}{size // 4}i", head, offset)
        _, offset, size = next(parts)
        name = head[offset : offset + size].decode("latin-1")
        stored, offset, size = next(parts)
        dtype = np.dtype(self._order + STORED[stored])
        wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if min(shape) < 0 or wanted != size or offset + size > length:
            raise ValueError(f"{name} {shape} needs {wanted} bytes and has {size}")
        return name, shape, dtype, offset

    def _parts(self, head: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield type, offset and bytes of each part of a matrix; short ones stand inside their tag."""
        position = 0
        while True:
            kind, size = struct.unpack_from(self._order + "II", head, position)
            if kind >> 16:
                yield kind & 0xFFFF, position + 4, kind >> 16
                position += 8
            else:
                yield kind, position + 8, size
                position += 8 + -(-size // 8) * 8

    def _inflate(self, name: str) -> IO[bytes]:
        """Inflate an element into a temporary file, once, in pieces."""
        if name not in self._inflated:
            matrix = self._matrices[name]
            inflated = tempfile.TemporaryFile()  # noqa: SIM115 (it stays until this container is closed)
            try:
                self._inflate_into(inflated, matrix)
            except BaseException:
                inflated.close()
                raise
            self._inflated[name] = inflated
        return self._inflated[name]

    def _inflate_into(self, inflated: IO[bytes], matrix: _Matrix) -> None:
        stream = zlib.decompressobj()
        with self.path.open("rb") as file:
            file.seek(matrix.element)
            left = matrix.element_bytes
            while left and not stream.eof:
                piece = file.read(min(left, STREAM_BYTES))
                left -= len(piece)
                while piece:
                    inflated.write(stream.decompress(piece, STREAM_BYTES))
                    piece = stream.unconsumed_tail
        if not stream.eof:
            raise EOFError("the deflated stream ends too early")
        inflated.flush()
