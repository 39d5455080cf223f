"""Unrolls: how a batch of windows becomes predictions to be compared with the truth.

An unroll asks the data for ``num_steps`` times the model's horizon and returns that many frames, with
gradients. It works with every model that maps a history to a future.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch
from ..surrogate import Surrogate
from . import UNROLLS


@runtime_checkable
class Unroll(Protocol):
    """What every unroll offers."""

    num_steps: int

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Tensor:
        """Return predictions for all of ``batch.future``."""
        ...


@runtime_checkable
class ChangingUnroll(Unroll, Protocol):
    """What unrolls offer whose training changes from one optimiser step to another."""

    def learn(self, surrogate: Surrogate, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return predictions and the part of ``batch.future`` that they are compared with, at an optimiser step."""
        ...


@UNROLLS.register("one_step")
@dataclass(frozen=True)
class OneStep:
    """Predict the future directly from the true history: ``û = S(u_history)``.

    The Markov training of Li et al. (2021, arXiv 2010.08895, section 5.3) for one model step.
    """

    num_steps: int = 1

    def __post_init__(self) -> None:
        if self.num_steps != 1:
            raise ValueError(f"one_step has num_steps 1, given {self.num_steps}; use unroll=k_step for more.")

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return one model step."""
        return surrogate.step(batch.history, batch.parameters)


@UNROLLS.register("k_step")
@dataclass(frozen=True)
class KStep:
    """Feed predictions back ``num_steps`` times and compare every frame: training as in a rollout.

    Back-propagation runs through the whole chain, or stops between steps with ``detach``. See Um et al.
    (2020, arXiv 2007.00016, section 3) for why unrolled training steadies long rollouts, and List et al.
    (2024, arXiv 2402.12971) for the effect of cutting the gradient.

    Attributes:
        num_steps: model steps in the chain.
        detach: whether the gradient is cut between steps.
    """

    num_steps: int = 3
    detach: bool = False

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps of unroll k_step is {self.num_steps}; it must be at least 1.")

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return ``num_steps`` model steps in a row."""
        window, frames = batch.history, []
        for _ in range(self.num_steps):
            future = surrogate.step(window, batch.parameters)
            frames.append(future)
            fed_back = future.detach() if self.detach else future
            window = torch.cat([window, fed_back], dim=1)[:, -surrogate.history :]
        return torch.cat(frames, dim=1)
