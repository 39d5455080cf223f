"""Latent marching: training on ever more frames of a step, with pushes that show a model its own errors.

Li, Shu, Barati Farimani, "Scalable Transformer for PDE Surrogate Modeling", NeurIPS 2023, arXiv:2305.17560, with the
pushforward of Brandstetter, Worrall, Welling, "Message Passing Neural PDE Solvers", ICLR 2022, arXiv:2202.03376.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..fields import Batch
from ..surrogate import Surrogate
from . import UNROLLS
from .unrolls import KStep, grown, pushed, require_count


@UNROLLS.register("latent_marching")
@dataclass(frozen=True)
class LatentMarching:
    """Learn the first frames of a step, at the beginning one and after ``curriculum_steps`` all ``H`` of the horizon.

    At optimiser step ``t`` these are ``1 + ⌊(H - 1) t / curriculum_steps⌋`` frames. Later than ``push_after``, at every
    ``push_every``-th step, the surrogate is first fed its own frames ``pushes`` times without gradient, and what it
    makes of them is compared with the frames that then follow. Validation compares all frames of ``1 + pushes`` steps,
    as a rollout makes them. It suits every model that predicts several frames a step.

    Attributes:
        curriculum_steps: optimiser steps until all frames are learnt; 0: from the beginning.
        pushes: steps without gradient before the one with it; 0: never.
        push_after: optimiser step after which pushes begin.
        push_every: optimiser steps from one push to the next.
    """

    curriculum_steps: int = 6000
    pushes: int = 1
    push_after: int = 8000
    push_every: int = 3

    def __post_init__(self) -> None:
        for name, minimum in {"curriculum_steps": 0, "pushes": 0, "push_after": 0, "push_every": 1}.items():
            require_count("latent_marching", name, getattr(self, name), minimum)

    @property
    def num_steps(self) -> int:
        """Model steps whose truth a sample carries."""
        return 1 + self.pushes

    def check_horizon(self, horizon: int) -> None:
        """Refuse a step of a single frame, which has nowhere to march.

        Raises:
            ValueError: naming the option and what trains single frames.
        """
        if horizon < 2:
            raise ValueError(
                f"unroll=latent_marching learns ever more frames of a step, and data.horizon is {horizon}. Set "
                "data.horizon to at least 2, or use unroll=pushforward or k_step, which feed single frames back."
            )

    def num_frames(self, step: int, horizon: int) -> int:
        """Return how many frames of the horizon are learnt at an optimiser step."""
        return grown(step, 1, horizon, self.curriculum_steps)

    def num_pushes(self, step: int) -> int:
        """Return how often the surrogate is pushed at an optimiser step."""
        return self.pushes if step > self.push_after and step % self.push_every == 0 else 0

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return ``1 + pushes`` model steps in a row."""
        return KStep(self.num_steps)(surrogate, batch)

    def learn(self, surrogate: Surrogate, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return predictions with gradients and the truth that they are compared with, at an optimiser step."""
        pushes, horizon = self.num_pushes(step), surrogate.horizon
        prediction = surrogate.step(pushed(surrogate, batch, pushes), batch.parameters)
        truth = batch.future[:, pushes * horizon : (pushes + 1) * horizon]
        frames = slice(0, self.num_frames(step, horizon))
        return prediction[:, frames], truth[:, frames]
