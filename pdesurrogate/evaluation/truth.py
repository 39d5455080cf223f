"""The truth on one grid, frame after frame: what rollouts start from and are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.trajectories import Trajectories

_FRAMES_PER_READ = 8


@dataclass(frozen=True)
class Truth:
    """Test trajectories on one grid.

    Attributes:
        trajectories: the test split on this grid.
        indices: which of its trajectories are used.
        lead_in: frames before the first forecast, the longest history of all contenders, so that everyone
            forecasts the same frames.
        device: where tensors go.
    """

    trajectories: Trajectories
    indices: tuple[int, ...]
    lead_in: int
    device: torch.device

    @property
    def grid(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(self.trajectories.grid)

    @property
    def num_frames(self) -> int:
        """Frames of each trajectory."""
        return int(self.trajectories.num_frames)

    @property
    def regridding(self) -> str:
        """How the stored fields came to this grid: "native", "stride", "cells" or "spectral"."""
        source: Any = self.trajectories
        while not hasattr(source, "method") and hasattr(source, "base"):
            source = source.base
        return str(getattr(source, "method", "native"))

    def parameters(self, trajectories: Sequence[int]) -> Float[Tensor, "batch parameter"]:
        """Return the PDE parameters of some trajectories."""
        stacked = np.stack([self.trajectories.parameters(i) for i in trajectories])
        return torch.from_numpy(stacked).to(self.device)

    def frames(
        self, trajectories: Sequence[int], start: int, stop: int
    ) -> Float[Tensor, "batch time channel *space"]:
        """Return frames ``start`` to ``stop - 1`` of some trajectories.

        Raises:
            ValueError: naming the trajectory, if a value is NaN or infinite.
        """
        parts = []
        for i in trajectories:
            part = self.trajectories.frames(i, start, stop)
            if not np.isfinite(part).all():
                raise ValueError(
                    f"test trajectory {i} has NaN or infinite values in frames {start} to {stop - 1}. Repair "
                    "the file or generate it again; errors against it would mean nothing."
                )
            parts.append(part)
        return torch.from_numpy(np.stack(parts)).to(self.device)

    def after_lead_in(
        self, trajectories: Sequence[int], horizon: int
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the ``horizon`` frames that a rollout from the start is compared with."""
        stop = self.lead_in + horizon
        for start in range(self.lead_in, stop, _FRAMES_PER_READ):
            yield from self.frames(trajectories, start, min(start + _FRAMES_PER_READ, stop)).unbind(1)
