"""zarr stores, folders of chunks, read with the package zarr where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .interface import Selection, full, plain, refuses_damage


class ZarrContainer:
    """A zarr group or array of format 2 or 3.

    Raises:
        ValueError: if the package zarr is not installed.
    """

    kind = "zarr"

    def __init__(self, path: Path) -> None:
        try:
            import zarr
        except ImportError as error:
            raise ValueError(
                f"{path} is a zarr store and the package zarr is not installed: pip install 'pdesurrogate[zarr]'."
            ) from error
        self.path = path
        self._node: Any = zarr.open(str(path), mode="r")
        self._arrays: dict[str, Any] = {}
        self._collect("", self._node)

    def _collect(self, name: str, node: Any) -> None:
        if hasattr(node, "shape"):
            if np.dtype(node.dtype).kind in "biuf":
                self._arrays[name] = node
            return
        for key, item in node.members():
            self._collect(f"{name}/{key}" if name else key, item)

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every array of numbers by name."""
        return {name: tuple(array.shape) for name, array in self._arrays.items()}

    @refuses_damage
    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of an array or group, of the store by default."""
        node = self._arrays[name] if name in self._arrays else (self._node[name] if name else self._node)
        return {key: plain(value) for key, value in dict(node.attrs).items() if key != "_ARRAY_DIMENSIONS"}

    @refuses_damage
    def dimensions(self, name: str) -> tuple[str, ...] | None:
        """Return the names of an array's axes, as xarray keeps them."""
        array = self._arrays[name]
        names = dict(array.attrs).get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None)
        return tuple(names) if names and all(names) else None

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of an array."""
        array = self._arrays[name]
        return np.asarray(array[full(selection, tuple(array.shape))])

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return chunks and type of numbers in words."""
        array = self._arrays[name]
        return f"chunks {' x '.join(map(str, array.chunks))}, {array.dtype}"

    def close(self) -> None:
        """Drop the store."""
        self._arrays = {}
