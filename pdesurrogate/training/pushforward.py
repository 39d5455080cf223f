"""The pushforward trick: a surrogate is fed its own frames, and learns from the last step alone.

Brandstetter, Worrall, Welling, "Message Passing Neural PDE Solvers", ICLR 2022, arXiv:2202.03376, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch
from ..surrogate import Surrogate
from . import UNROLLS
from .unrolls import KStep, grown, pushed, require_count


@UNROLLS.register("pushforward")
@dataclass(frozen=True)
class Pushforward:
    """Minimise ``loss(S(u + ε), u_next)`` with ``u + ε = S^n(u_before)``, the surrogate's own frames, held fixed.

    The distribution of inputs is moved to that of rollouts, at the cost of one step's gradient: ``n`` steps are taken
    without it. With ``random`` the number ``n`` is drawn from 0, .., ``pushes`` with equal chances, one number for a
    batch, as in the authors' code: on average that is the sum of the paper's one-step and stability losses. The draw
    depends on seed and optimiser step alone. As there, the most pushes may grow from 0, see `grown`.

    Validation compares all frames of ``1 + pushes`` steps in a row, as a rollout makes them.

    Attributes:
        pushes: most steps without gradient before the one with it.
        random: whether their number is drawn anew for every batch; otherwise it is always the most.
        curriculum_steps: optimiser steps until all pushes are taken; 0: from the beginning.
        seed: of the draws.
    """

    pushes: int = 1
    random: bool = True
    curriculum_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_count("pushforward", "pushes", self.pushes, 1)
        require_count("pushforward", "curriculum_steps", self.curriculum_steps, 0)
        require_count("pushforward", "seed", self.seed, 0)

    @property
    def num_steps(self) -> int:
        """Model steps whose truth a sample carries."""
        return 1 + self.pushes

    def num_pushes(self, step: int) -> int:
        """Return how often the surrogate is pushed at an optimiser step."""
        most = grown(step, 0, self.pushes, self.curriculum_steps)
        if not self.random:
            return most
        return int(np.random.default_rng([self.seed, step]).integers(most + 1))

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return ``1 + pushes`` model steps in a row."""
        return KStep(self.num_steps)(surrogate, batch)

    def learn(self, surrogate: Surrogate, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return the step after the pushes, with its gradient, and the truth that it is compared with."""
        pushes, horizon = self.num_pushes(step), surrogate.horizon
        prediction = surrogate.step(pushed(surrogate, batch, pushes), batch.parameters)
        return prediction, batch.future[:, pushes * horizon : (pushes + 1) * horizon]
