"""An ``xarray.Dataset`` as trajectories, without a file in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdesurrogate.fields import DataSpec

from .array_trajectories import SAMPLE, TIME, ArrayTrajectories, Place, Slot
from .containers import Container, ContainerPool
from .containers.interface import Selection, full, plain
from .custom import open_with_layout
from .custom_layout import read_layout
from .splits import by_trajectory, divided
from .trajectories import DataSet

if TYPE_CHECKING:
    import xarray

SOURCE = Path("xarray.Dataset")


def from_xarray(
    dataset: xarray.Dataset,
    layout: Mapping[str, Any] | str | None = None,
    *,
    split: Mapping[str, Any] | None = None,
    name: str = "xarray",
) -> DataSet:
    """Return a data set of the variables of an ``xarray.Dataset``; variables are read when their frames are.

    A dataset of a file of the store needs no layout: it carries its spec.

    Args:
        dataset: with the dimensions ``sample`` (or ``trajectory``), ``time`` and those of space.
        layout: which variables are which fields, see `custom_layout`; dimensions have names here, so that ``fields``
            and the
            boundaries in ``space`` are enough.
        split: a rule of `splits.divided`; by default shares of 80, 10 and 10 %.
        name: of the data set.

    Raises:
        ValueError: if the layout does not fit the variables.
    """
    container = XarrayContainer(dataset)
    pool = _OnePool(container)
    if layout is None:
        whole = _of_store(container, pool)
    else:
        whole = open_with_layout([SOURCE], read_layout(layout), pool, XarrayTrajectories)
    return divided(
        name, whole, split, lambda total: by_trajectory(total, 0.8, 0.1, 0.1), {"format": "xarray.Dataset"}
    )


class XarrayTrajectories(ArrayTrajectories):
    """Trajectories in the variables of an ``xarray.Dataset``."""

    def checksum(self) -> str:
        """Return a digest of all frames and parameters, hexadecimal."""
        digest = hashlib.sha256(self._parameters.tobytes())
        for trajectory in range(self.num_trajectories):
            digest.update(self.frames(trajectory, 0, self.num_frames).tobytes())
        return digest.hexdigest()


class XarrayContainer:
    """The variables of an ``xarray.Dataset`` as a container of arrays."""

    kind = "xarray"

    def __init__(self, dataset: xarray.Dataset) -> None:
        self.path = SOURCE
        self._dataset = dataset

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every variable of numbers or times."""
        variables = self._dataset.variables.items()
        return {str(name): tuple(v.shape) for name, v in variables if v.dtype.kind in "biufmM"}

    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of a variable, of the dataset by default."""
        owner = self._dataset[name] if name else self._dataset
        return {str(key): plain(value) for key, value in owner.attrs.items()}

    def dimensions(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a variable's dimensions."""
        return tuple(map(str, self._dataset[name].dims))

    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of a variable."""
        variable = self._dataset[name].variable
        return np.asarray(variable[full(selection, variable.shape)].values)

    def layout(self, name: str) -> str:
        """Return the type of numbers in words."""
        return str(self._dataset[name].dtype)

    def close(self) -> None:
        """Do nothing: the dataset belongs to whoever made it."""


class _OnePool(ContainerPool):
    """A pool of one container, which travels with it."""

    def __init__(self, container: XarrayContainer) -> None:
        super().__init__()
        self._container = container

    def get(self, path: Path) -> Container:
        return self._container

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_container": self._container}


def _of_store(container: XarrayContainer, pool: ContainerPool) -> ArrayTrajectories:
    """Return the trajectories of a dataset that was opened from a file of the store."""
    text = container.attributes().get("spec")
    if text is None:
        raise ValueError(
            "this xarray.Dataset does not say what its fields are; give a layout: {fields: [...], space: {x: "
            f"{{boundary: periodic}}, ...}}}}. It has the variables {', '.join(container.shapes())}."
        )
    spec = DataSpec.from_dict(json.loads(text))
    shape = container.shapes()[spec.channel_names[0]]
    slots = [Slot(name, (SAMPLE, TIME, *spec.axis_names)) for name in spec.channel_names]
    columns = [container.read(name) for name in spec.parameter_names]
    return XarrayTrajectories(
        spec,
        shape[2:],
        container.read("time"),
        slots,
        [Place((SOURCE,), i) for i in range(shape[0])],
        parameters=np.stack(columns, axis=1) if columns else None,
        pool=pool,
    )
