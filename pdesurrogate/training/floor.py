"""The error below which no weights can bring a model that cannot predict every field, on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.datamodule import TrajectoryDataModule
from ..metrics import relative_l2
from ..surrogate import Surrogate

MOST_WINDOWS = 32
"""So many are looked at, of a split that has more."""


@dataclass(frozen=True)
class Floor:
    """The mean relative L2 error of the frames that a model can predict nearest to the truth.

    Attributes:
        error: the mean over windows, frames and fields, as validation's ``valid/relative_l2``.
        windows: how many were looked at.
        of: how many the split has.
    """

    error: float
    windows: int
    of: int

    def __str__(self) -> str:
        """In percent, with the windows where they are not all."""
        part = "" if self.windows == self.of else f" (of {self.windows} of {self.of} validation windows)"
        return f"{100 * self.error:.3g} %{part}"


@torch.no_grad()
def validation_floor(surrogate: Surrogate, data: TrajectoryDataModule) -> Floor | None:
    """Return the floor of the validation error, of at most `MOST_WINDOWS` windows spread evenly over the split.

    Args:
        surrogate: on the CPU.
        data: with a validation split.

    Returns:
        The floor; None for a model that knows none, see `Surrogate.nearest`.

    Raises:
        ValueError: if the data hold NaN or cannot be read.
    """
    if not hasattr(surrogate.model, "nearest"):
        return None
    windows = data.windows("valid")
    chosen = np.unique(np.linspace(0, len(windows) - 1, min(MOST_WINDOWS, len(windows))).round().astype(int))
    errors: list[Tensor] = []
    for window in chosen.tolist():  # one by one: they may be large
        batch = windows.batch([window])
        nearest = surrogate.nearest(batch.history, batch.future)
        if nearest is not None:
            errors.append(relative_l2(nearest, batch.future, surrogate.spec).double().mean())
    return Floor(float(torch.stack(errors).mean()), len(chosen), len(windows))
