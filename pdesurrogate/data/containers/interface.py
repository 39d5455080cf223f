"""What every container of arrays can do, and how its damage is told."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

Selection = tuple[int | slice, ...]

UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    AssertionError,
    SyntaxError,
    SystemError,
    ImportError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)
"""Everything that the libraries below raise for files that are damaged."""


@runtime_checkable
class Container(Protocol):
    """An open file of named arrays.

    Attributes:
        path: the file, or the folder of a zarr store.
        kind: ``"hdf5"``, ``"netcdf3"``, ``"mat5"``, ``"mat7.3"``, ``"npy"``, ``"npz"``, ``"torch"`` or ``"zarr"``.
    """

    path: Path
    kind: str

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every array of numbers by name; those in groups as ``"group/name"``."""
        ...

    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of an array or group, of the file by default; plain types."""
        ...

    def dimensions(self, name: str) -> tuple[str, ...] | None:
        """Return the names of an array's axes where the format keeps them."""
        ...

    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of an array: an integer or a slice with a positive step for each axis, or all of it."""
        ...

    def layout(self, name: str) -> str:
        """Return in words how an array lies on disk: chunks and compression."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def unreadable(path: Path, what: str, error: BaseException) -> ValueError:
    """Return the refusal of a file that cannot be read."""
    said = str(error).strip().splitlines()
    return ValueError(
        f"{path} ({what}) cannot be read: {said[0] if said else type(error).__name__}. It is truncated or damaged; "
        "copy or download it again."
    )


def plain(value: Any) -> Any:
    """Return an attribute as text, number, bool or list of those."""
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.shape == (1,) and value.dtype.kind in "iuf":
        return plain(value[0])  # netCDF keeps numbers as lists of one
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()] if value.ndim else plain(value[()])
    if isinstance(value, np.generic):
        return plain(value.item()) if not isinstance(value, np.void) else str(value)
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)


def full(selection: Selection, shape: tuple[int, ...]) -> Selection:
    """Return the selection with one entry an axis."""
    return selection or (slice(None),) * len(shape)
