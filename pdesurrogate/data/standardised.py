"""Trajectories less their mean and over their standard deviation at each grid point, as some sources train on them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from .containers import open_container
from .trajectories import Trajectories


class Standardised:
    """``(value - mean) / std`` of each grid point for some fields; their units become 1.

    Args:
        base: where the trajectories come from, in physical units.
        statistics: mean and standard deviation ``(*space)`` by name of a field of one channel.

    Raises:
        ValueError: if a field is unknown, or statistics do not fit the grid or are not positive.
    """

    def __init__(self, base: Trajectories, statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.base = base
        self.grid, self.times = base.grid, base.times
        self.num_trajectories, self.num_frames = base.num_trajectories, base.num_frames
        names = base.spec.channel_names
        unknown = sorted(set(statistics) - set(names))
        if unknown:
            raise ValueError(
                f"there are statistics of {', '.join(unknown)}; the channels are {', '.join(names)}."
            )
        shape = (len(names), *base.grid)
        self._mean, self._std = np.zeros(shape), np.ones(shape)
        for name, (mean, std) in statistics.items():
            if mean.shape != base.grid or std.shape != base.grid or not (std > 0).all():
                raise ValueError(
                    f"the statistics of {name} have the shape {mean.shape} and a smallest deviation of "
                    f"{std.min():g}; needed are {base.grid} and positive ones."
                )
            self._mean[names.index(name)], self._std[names.index(name)] = mean, std
        self.spec = base.spec.replace(
            fields=tuple(
                dataclasses.replace(f, units="1") if f.name in statistics else f for f in base.spec.fields
            )
        )

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        frames = self.base.frames(trajectory, start, stop)
        return ((frames - self._mean) / self._std).astype(np.float32)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(trajectory)

    def checksum(self) -> str:
        """Return a digest of the base's content and of the statistics."""
        digest = hashlib.sha256(self.base.checksum().encode())
        digest.update(self._mean.tobytes() + self._std.tobytes())
        return digest.hexdigest()


def read_statistics(file: Path, names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and standard deviation of each grid point from a ``normstats.pt``: name -> mean, std.

    Raises:
        ValueError: if the file is missing, carries code, or lacks a name.
    """
    container = open_container(file)
    shapes = container.shapes()
    missing = [
        f"{name}/{what}" for name in names for what in ("mean", "std") if f"{name}/{what}" not in shapes
    ]
    if missing:
        raise ValueError(
            f"{file} lacks {', '.join(missing)}; it holds {', '.join(sorted(shapes)) or 'nothing'}."
        )

    def squeezed(name: str) -> np.ndarray:
        values = container.read(name).astype(np.float64)
        return values[0] if values.ndim == 3 and values.shape[0] == 1 else values

    return {name: (squeezed(f"{name}/mean"), squeezed(f"{name}/std")) for name in names}
