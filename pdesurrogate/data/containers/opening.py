"""Which container a file is, told by its first bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ..files import require_path
from .interface import UNREADABLE, Container, unreadable

HDF5 = b"\x89HDF\r\n\x1a\n"
NAMES: Mapping[str, str] = {
    "hdf5": "HDF5",
    "netcdf3": "classic netCDF",
    "mat5": "MATLAB version 5",
    "mat7.3": "MATLAB version 7.3",
    "npy": "NumPy array",
    "npz": "NumPy archive",
    "torch": "PyTorch",
    "zarr": "zarr",
}


def container_kind(path: Path) -> str:
    """Return what a file is: a key of `CONTAINERS`.

    Raises:
        ValueError: if the path does not exist or its content is none of them; a hint where it looks familiar.
    """
    require_path(path)
    if path.is_dir():
        if any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray")):
            return "zarr"
        raise ValueError(f"{path} is a folder and no zarr store; name a file in it.")
    with path.open("rb") as file:
        head = file.read(2048 + 8)
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head[:3] == b"CDF" and head[3:4] in (b"\x01", b"\x02", b"\x05"):
        return "netcdf3"
    if head[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return "mat5"
    if head[124:128] in (b"\x00\x02IM", b"\x02\x00MI") and head[512:520] == HDF5:
        return "mat7.3"
    if any(head[at : at + 8] == HDF5 for at in (0, 512, 1024, 2048)):
        return "hdf5"
    if head[:2] == b"PK":
        return _kind_of_zip(path)
    if head[:1] == b"\x80":
        return "torch"  # the format before PyTorch 1.6, a pickle; weights_only refuses anything else
    hint = _hint(head)
    raise ValueError(f"{path} is in no format that is known ({', '.join(NAMES.values())}): {hint}")


def open_container(path: Path) -> Container:
    """Open a file of arrays.

    Raises:
        ValueError: if it does not exist, is damaged, carries code or is in no known format.
    """
    kind = container_kind(path)
    try:
        return CONTAINERS[kind](path)
    except UNREADABLE as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise unreadable(path, NAMES[kind], error) from error


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except UNREADABLE as error:
        raise unreadable(path, "zip file", error) from error
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    raise ValueError(f"{path} is a zip file without arrays ({', '.join(names[:4])}); unpack it first.")


def _hint(head: bytes) -> str:
    if not head:
        return "it is empty."
    start = head.lstrip()[:256].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, saved under the name of a file. Download it again."
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; run `git lfs pull`."
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        return "it is a compressed archive; unpack it first."
    return f"it begins with {head[:8]!r}. A truncated download looks like this."


def _hdf5(path: Path) -> Container:
    from .hdf5 import Hdf5Container

    return Hdf5Container(path)


def _mat73(path: Path) -> Container:
    from .hdf5 import Hdf5Container

    return Hdf5Container(path, is_matlab=True)


def _mat5(path: Path) -> Container:
    from .mat5 import Mat5Container

    return Mat5Container(path)


def _netcdf3(path: Path) -> Container:
    from .netcdf3 import Netcdf3Container

    return Netcdf3Container(path)


def _npy(path: Path) -> Container:
    from .numpy_files import NpyContainer

    return NpyContainer(path)


def _npz(path: Path) -> Container:
    from .numpy_files import NpzContainer

    return NpzContainer(path)


def _torch(path: Path) -> Container:
    from .torch_file import TorchContainer

    return TorchContainer(path)


def _zarr(path: Path) -> Container:
    from .zarr_store import ZarrContainer

    return ZarrContainer(path)


CONTAINERS: Mapping[str, Callable[[Path], Container]] = {
    "hdf5": _hdf5,
    "netcdf3": _netcdf3,
    "mat5": _mat5,
    "mat7.3": _mat73,
    "npy": _npy,
    "npz": _npz,
    "torch": _torch,
    "zarr": _zarr,
}
