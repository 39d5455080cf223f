"""Classic netCDF files (version 3), mapped into memory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from .interface import Selection, full, plain, refuses_damage


class Netcdf3Container:
    """A classic netCDF file read with SciPy."""

    kind = "netcdf3"

    def __init__(self, path: Path) -> None:
        self.path = path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._file = scipy.io.netcdf_file(path, "r", mmap=True)

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every variable of numbers by name."""
        variables = self._file.variables.items()
        return {name: v.shape for name, v in variables if v.data.dtype.kind in "biuf"}

    @refuses_damage
    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of a variable, of the file by default."""
        owner = self._file.variables[name] if name else self._file
        return {key: plain(value) for key, value in owner._attributes.items()}

    @refuses_damage
    def dimensions(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a variable's dimensions."""
        return tuple(self._file.variables[name].dimensions)

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of a variable."""
        data = self._file.variables[name].data
        part = np.array(data[full(selection, data.shape)])
        return part.astype(part.dtype.newbyteorder("="))

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return the type of numbers in words."""
        return f"contiguous, {self._file.variables[name].data.dtype}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()
