"""Views of trajectories: averages over blocks of cells, and the first frames alone."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float32

from .trajectories import Trajectories, check_frames


class Pooled:
    """Averages over blocks of ``size`` cells along every axis of space: the cells of a coarser grid.

    Args:
        base: where the trajectories come from; its points are centres of cells.
        size: cells a side of a block.

    Raises:
        ValueError: if the grid is no multiple of the size.
    """

    def __init__(self, base: Trajectories, size: int) -> None:
        if size < 1 or any(n % size for n in base.grid):
            raise ValueError(f"blocks of {size} cells do not fill the grid {base.grid}; choose a divisor.")
        self.base = base
        self.size = size
        self.spec = base.spec
        self.grid = tuple(n // size for n in base.grid)
        self.num_trajectories = base.num_trajectories
        self.num_frames = base.num_frames
        self.times = base.times

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        frames = self.base.frames(trajectory, start, stop)
        for axis, coarse in enumerate(self.grid, start=2):
            shape = (*frames.shape[:axis], coarse, self.size, *frames.shape[axis + 1 :])
            frames = frames.reshape(shape).mean(axis=axis + 1, dtype=np.float64)
        return frames.astype(np.float32)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(trajectory)

    def checksum(self) -> str:
        """Return a digest of the base's content and of the size."""
        return hashlib.sha256(f"{self.base.checksum()} pooled {self.size}".encode()).hexdigest()


class Shortened:
    """The first frames of other trajectories.

    Args:
        base: where the trajectories come from.
        num_frames: how many.
    """

    def __init__(self, base: Trajectories, num_frames: int) -> None:
        if not 1 <= num_frames <= base.num_frames:
            raise ValueError(f"num_frames is {num_frames}; there are {base.num_frames}.")
        self.base = base
        self.spec = base.spec
        self.grid = base.grid
        self.num_trajectories = base.num_trajectories
        self.num_frames = num_frames
        self.times = base.times[:num_frames]

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the frames ``start`` to ``stop - 1`` of one trajectory."""
        check_frames("shortened trajectories", self, trajectory, start, stop)
        return self.base.frames(trajectory, start, stop)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return the PDE parameters of one trajectory."""
        return self.base.parameters(trajectory)

    def checksum(self) -> str:
        """Return a digest of the base's content and of the number of frames."""
        return hashlib.sha256(f"{self.base.checksum()} first {self.num_frames}".encode()).hexdigest()
