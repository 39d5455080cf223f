"""Persistence: tomorrow is like today, the forecast that every model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from . import MODELS
from .options import require_at_least, require_dimension


@MODELS.register("persistence")
class Persistence(nn.Module):
    """``u(t + n dt) = u(t)`` for all lead times. It has no parameters and nothing to train.

    Args:
        spec: the data.
        history: number of input frames, of which the last one counts.
        horizon: number of output frames.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane", "sphere"})
    symmetries: ClassVar[frozenset[str]] = frozenset({"shift", "rotation", "reflection"})
    grids: str = "any"

    def __init__(self, spec: DataSpec, history: int, horizon: int) -> None:
        super().__init__()
        require_at_least("persistence", 1, history=history, horizon=horizon)
        self.axis_names = spec.axis_names
        self.horizon = horizon

    def check_grid(self, grid: Sequence[int]) -> None:
        """Accept every grid of the data's dimension.

        Raises:
            ValueError: for another dimension.
        """
        require_dimension("persistence", self.axis_names, grid)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the last frame, ``horizon`` times."""
        return history[:, -1:].repeat_interleave(self.horizon, dim=1)
