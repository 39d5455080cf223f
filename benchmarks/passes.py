"""What is timed of a model: a pass forward and backward, and the optimiser's step after it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def gradients_of(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a forward and backward pass from gradients that are not there, which is how a training step begins."""

    def run() -> None:
        module.zero_grad(set_to_none=True)
        loss().backward()

    return run


def step_of(gradients: Callable[[], object], optimiser: torch.optim.Optimizer) -> Callable[[], None]:
    """Return a forward and backward pass with the optimiser's step."""

    def run() -> None:
        gradients()
        optimiser.step()

    return run
