"""What every container of arrays can do, and how its damage is told."""

from __future__ import annotations

import functools
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

Selection = tuple[int | slice, ...]
Function = TypeVar("Function", bound=Callable[..., Any])

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
    tokenize.TokenError,
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


class ArraysAlone:
    """What a container answers whose format keeps nothing beside its arrays."""

    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return nothing: the format has no attributes."""
        return {}

    def dimensions(self, name: str) -> tuple[str, ...] | None:
        """Return None: the format names no axes."""
        return None


class UnreadableError(ValueError):
    """A file that cannot be read; ``reason`` is what the library below said."""

    def __init__(self, path: Path, what: str, reason: str) -> None:
        super().__init__(
            f"{path} ({what}) cannot be read: {reason}. It is truncated or damaged; copy or download it again."
        )
        self.reason = reason


def unreadable(path: Path, what: str, error: BaseException) -> ValueError:
    """Return the refusal of a file that cannot be read; a refusal that names the file already stays as it is."""
    if isinstance(error, UnreadableError):
        return UnreadableError(path, what, error.reason)
    if isinstance(error, ValueError) and str(error).startswith(str(path)):
        return error
    said = str(error).strip().splitlines()
    return UnreadableError(path, what, said[0].rstrip(".") if said else type(error).__name__)


def refuses_damage(function: Function) -> Function:
    """Turn whatever libraries raise for a damaged file into the refusal of that file.

    The function's first argument is the file's path, or an object with a ``path`` and a ``kind``.
    """

    @functools.wraps(function)
    def guarded(*given: Any, **options: Any) -> Any:
        try:
            return function(*given, **options)
        except UNREADABLE as error:
            owner = given[0] if given else next(iter(options.values()))
            path, kind = getattr(owner, "path", owner), getattr(owner, "kind", "")
            if isinstance(error, ValueError) and (not kind or str(error).startswith(str(path))):
                raise
            raise unreadable(Path(path), kind or "its layout", error) from error

    return guarded  # type: ignore[return-value]


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
