"""Random symmetries of the equation as new training windows: rotations, reflections and shifts of whole windows.

A window and its transformed copy are solutions alike where equation, boundaries and forcing have the symmetry; whether
the forcing has is the user's to know. Fields are transformed as what they are: reflections change the sign of vorticity
and of a component of velocity. Static fields of the window, a forcing among them, are transformed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdesurrogate.fields import Batch, DataSpec
from pdesurrogate.fields.point_group import (
    channel_action,
    point_group,
    require_square,
    transform,
    unlike_boundaries,
)


class Augmentation:
    """Transforms every window by an element of a point group and by a shift, both drawn uniformly.

    What is drawn depends on the seed, the epoch and the window (its trajectory and start) alone: not on the batch that
    it comes in, on the number of ranks, or on an interruption.

    Args:
        spec: of the data.
        grid: points along each axis.
        group: name of the point group, see `pdesurrogate.fields.point_group`.
        shift: whether windows are shifted by whole points along the periodic axes.
        seed: of the draws.

    Raises:
        ValueError: if the group does not map the box onto itself, exchanges axes with unlike boundaries, or a field has
            no action of it; if there is no periodic axis to shift along.
    """

    def __init__(
        self, spec: DataSpec, grid: Sequence[int], *, group: str = "p1", shift: bool = False, seed: int = 0
    ) -> None:
        self.group = point_group(group)
        require_square("augment", self.group, spec, grid)
        unlike = unlike_boundaries(self.group, spec)
        if unlike is not None:
            first, second = spec.axis_names[-2:]
            raise ValueError(
                f"augment: quarter turns of the group {group!r} exchange the axes {first} ({unlike[0]}) and {second} "
                f"({unlike[1]}): what they make of a solution is none. Use augment.group=pmm, pm, p2 or p1."
            )
        self.action = channel_action(self.group, spec)
        self.periodic = [d for d, boundary in enumerate(spec.boundaries) if boundary == "periodic"]
        if shift and not self.periodic:
            raise ValueError(
                f"augment: shift is true and no axis is periodic ({', '.join(spec.axis_names)}: "
                f"{', '.join(spec.boundaries)}). Set augment.shift=false."
            )
        if not shift:
            self.periodic = []
        self.spec, self.grid, self.seed = spec, tuple(grid), seed

    @property
    def settings(self) -> dict[str, Any]:
        """What the draws depend on beside epoch and window, plain types."""
        return {
            "augment.group": self.group.name,
            "augment.shift": bool(self.periodic),
            "augment.seed": self.seed,
        }

    @property
    def changes_windows(self) -> bool:
        """Whether there is more than the identity to draw."""
        return len(self.group) > 1 or bool(self.periodic)

    def __call__(
        self, batch: Batch, epoch: int, places: tuple[np.ndarray, np.ndarray] | None = None
    ) -> Batch:
        """Return the batch with every window transformed, on its device.

        Args:
            batch: windows.
            epoch: number of the epoch.
            places: trajectory and first frame of each window; None to ask the batch, which waits for a GPU.
        """
        trajectory, start = places or (batch.trajectory.cpu().numpy(), batch.start.cpu().numpy())
        draws = [self._draw(epoch, *place) for place in zip(trajectory.tolist(), start.tolist(), strict=True)]
        elements = np.array([element for element, _ in draws])
        shifts = np.array([shift for _, shift in draws]).reshape(len(draws), len(self.periodic))
        history, future = (self._transform(u, elements, shifts) for u in (batch.history, batch.future))
        return Batch(history, future, batch.parameters, batch.trajectory, batch.start)

    def _draw(self, epoch: int, trajectory: int, start: int) -> tuple[int, list[int]]:
        """Return the element and the points of shift along each periodic axis."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, trajectory, start]))
        element = int(rng.integers(len(self.group)))
        return element, [int(rng.integers(self.grid[axis])) for axis in self.periodic]

    def _transform(self, u: Tensor, elements: np.ndarray, shifts: np.ndarray) -> Tensor:
        """Transform windows by their elements, all windows of one element together, and move them along the axes."""
        if len(self.group) > 1:
            order = np.argsort(elements, kind="stable")
            sorted_elements = elements[order]
            pieces = [
                transform(
                    u.index_select(0, _there(order[sorted_elements == g], u)),
                    self.group.elements[g],
                    self.action[g],
                    self.spec.axes,
                )
                for g in np.unique(elements)
            ]
            u = torch.cat(pieces).index_select(0, _there(np.argsort(order), u))
        for column, axis in enumerate(self.periodic):
            u = _rolled(u, shifts[:, column], axis - self.spec.ndim)
        return u


def _rolled(u: Tensor, shifts: np.ndarray, dim: int) -> Tensor:
    """Return windows moved along an axis, each by its own number of points."""
    size = u.shape[dim]
    sources = (torch.arange(size, device=u.device) - _there(shifts, u)[:, None]) % size
    shape = [len(u), *[1] * (u.ndim - 1)]
    shape[dim] = size
    return u.gather(dim, sources.view(shape).expand(u.shape))


def _there(numbers: np.ndarray, u: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(u.device, non_blocking=True)
