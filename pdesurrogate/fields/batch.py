"""A batch of windows cut from trajectories: what flows from the loader to the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Windows in physical units.

    Attributes:
        history: input frames ``(batch, history, channel, *space)``.
        future: the frames that follow, ``(batch, horizon, channel, *space)``.
        parameters: PDE parameters of each trajectory, ``(batch, parameter)``; width 0 if none.
        trajectory: which trajectory each window comes from, ``(batch,)``.
        start: index of the first history frame in its trajectory, ``(batch,)``.

    Raises:
        ValueError: if the parts are not of the same windows.
    """

    history: Float[Tensor, "batch history channel *space"]
    future: Float[Tensor, "batch horizon channel *space"]
    parameters: Float[Tensor, "batch parameter"]
    trajectory: Int[Tensor, " batch"]
    start: Int[Tensor, " batch"]

    def __post_init__(self) -> None:
        for name in ("future", "parameters", "trajectory", "start"):
            windows = getattr(self, name).shape[0]
            if windows != len(self):
                raise ValueError(
                    f"{name} of a Batch holds {windows} windows and history {len(self)}; "
                    "all parts must be of the same windows."
                )
        if self.history.shape[2:] != self.future.shape[2:]:
            raise ValueError(
                f"history {tuple(self.history.shape)} and future {tuple(self.future.shape)} differ in channels "
                "or grid; both are (batch, time, channel, *space) of the same fields."
            )

    def __len__(self) -> int:
        return self.history.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        return Batch(*(t.to(device, non_blocking=non_blocking) for t in self.tensors()))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, for asynchronous copies to a GPU."""
        return Batch(*(t.pin_memory() for t in self.tensors()))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the parts in the order of the attributes."""
        return (self.history, self.future, self.parameters, self.trajectory, self.start)
