"""Unrolls: how a batch of windows becomes predictions to be compared with the truth.

An unroll asks the data for ``num_steps`` times the model's horizon and returns that many frames, with
gradients. It works with every model that maps a history to a future.

Temporal bundling (Brandstetter, Worrall, Welling 2022, arXiv:2202.03376, section 3.1) is no unroll of its own but the
shape of the windows: with ``data.horizon=K`` a model step ``S`` predicts K frames at once, so that a rollout of T
frames feeds back ``⌈T/K⌉ - 1`` times, and with ``data.history`` it reads as many frames as one likes. A step of an
unroll is a step of ``S``: K frames.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch
from ..surrogate import Surrogate
from . import UNROLLS


@runtime_checkable
class Unroll(Protocol):
    """What every unroll offers."""

    @property
    def num_steps(self) -> int:
        """Model steps whose truth a sample carries."""
        ...

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Tensor:
        """Return predictions for all of ``batch.future``; validation compares these, whatever training does."""
        ...


@runtime_checkable
class ChangingUnroll(Unroll, Protocol):
    """What unrolls offer whose training changes from one optimiser step to another.

    What they do depends on the options, the optimiser step and the windows alone, so that a resumed run goes on as if
    it had not been interrupted, and any number of processes trains on the same.
    """

    def learn(self, surrogate: Surrogate, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return predictions and the part of ``batch.future`` that they are compared with, at an optimiser step."""
        ...


@runtime_checkable
class OfHorizon(Unroll, Protocol):
    """What unrolls offer that do not suit every number of frames a step."""

    def check_horizon(self, horizon: int) -> None:
        """Refuse a number of frames a step.

        Raises:
            ValueError: saying what is allowed.
        """
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
        require_count("k_step", "num_steps", self.num_steps, 1)

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return ``num_steps`` model steps in a row."""
        window, frames = batch.history, []
        for _ in range(self.num_steps):
            future = surrogate.step(window, batch.parameters)
            frames.append(future)
            window = surrogate.next_history(window, future.detach() if self.detach else future)
        return torch.cat(frames, dim=1)


@dataclass(frozen=True)
class GrowingChain:
    """A chain of one step at first and of ``last.num_steps`` after ``curriculum_steps``, see `grown`.

    Long chains of an untrained model have large and useless gradients; GraphCast (Lam et al. 2023, arXiv:2212.12794,
    "curriculum training") lets them grow at the end of its training, one model step a thousand optimiser steps.
    Validation compares all steps of ``last``, so that its numbers can be compared over the whole training.

    Attributes:
        last: the chain at the end.
        curriculum_steps: optimiser steps until then.
    """

    last: KStep
    curriculum_steps: int

    @property
    def num_steps(self) -> int:
        """Model steps whose truth a sample carries."""
        return self.last.num_steps

    def at(self, step: int) -> KStep:
        """Return the chain that is learnt at an optimiser step."""
        return KStep(grown(step, 1, self.last.num_steps, self.curriculum_steps), self.last.detach)

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the whole chain."""
        return self.last(surrogate, batch)

    def learn(self, surrogate: Surrogate, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return the chain of an optimiser step, with gradients, and the truth that it is compared with."""
        prediction = self.at(step)(surrogate, batch)
        return prediction, batch.future[:, : prediction.shape[1]]


@UNROLLS.register("k_step")
def k_step(num_steps: int = 3, detach: bool = False, curriculum_steps: int = 0) -> Unroll:
    """Return the chain `KStep`, or with ``curriculum_steps`` the one that grows to it, `GrowingChain`."""
    require_count("k_step", "curriculum_steps", curriculum_steps, 0)
    chain = KStep(num_steps, detach)
    return GrowingChain(chain, curriculum_steps) if curriculum_steps else chain


def grown(step: int, first: int, last: int, curriculum_steps: int) -> int:
    """Return a number that grows evenly from ``first`` to ``last`` over the optimiser steps of a curriculum.

    At step ``t`` of ``T`` it is ``first + ⌊(last - first) t / T⌋``, and ``last`` from ``T`` on.
    """
    if step >= curriculum_steps:
        return last
    return first + (last - first) * step // curriculum_steps


def build_unroll(section: Mapping[str, Any], horizon: int) -> Unroll:
    """Return the unroll that a configuration's section ``unroll`` asks for, for a number of frames a step.

    Raises:
        ValueError: for options that do not exist, wrong values, or a horizon that the unroll has no use for.
    """
    options = dict(section)
    unroll: Unroll = UNROLLS.build(options.pop("kind"), **options)
    if isinstance(unroll, OfHorizon):
        unroll.check_horizon(horizon)
    return unroll


def unreached(unroll: Unroll, num_steps: int) -> list[str]:
    """Return what of an unroll a run of so many optimiser steps does not come to, one sentence each."""
    found, last = [], num_steps - 1
    curriculum: int = getattr(unroll, "curriculum_steps", 0)
    if curriculum > last:
        found.append(
            f"unroll.curriculum_steps is {curriculum} and this run has {num_steps} optimiser steps: it ends with "
            f"{100 * last / curriculum:.2g} % of the curriculum done, while validation compares what its end teaches. "
            f"Set unroll.curriculum_steps to at most {last}, or train longer."
        )
    push_after: int = getattr(unroll, "push_after", 0)
    if getattr(unroll, "pushes", 0) and push_after >= last:
        found.append(
            f"unroll.push_after is {push_after} and this run has {num_steps} optimiser steps: none is pushed. Lower "
            "it, or set unroll.pushes=0, which needs shorter windows."
        )
    return found


@torch.no_grad()
def pushed(surrogate: Surrogate, batch: Batch, pushes: int) -> Tensor:
    """Return the history after ``pushes`` steps of the surrogate on its own frames, without gradient."""
    window = batch.history
    for _ in range(pushes):
        window = surrogate.next_history(window, surrogate.step(window, batch.parameters))
    return window


def steps_option(kind: str) -> str:
    """Return the option of a configuration that sets how many model steps an unroll takes."""
    options = inspect.signature(UNROLLS.get(kind)).parameters
    return next(
        (f"unroll.{name}" for name in ("num_steps", "pushes") if name in options), "the unroll's steps"
    )


def require_count(kind: str, name: str, value: object, minimum: int) -> None:
    """Refuse an option of an unroll that is no whole number of at least ``minimum``.

    Raises:
        ValueError: naming it and what is allowed.
    """
    if type(value) is not int or value < minimum:
        raise ValueError(
            f"{name} of unroll {kind} is {value!r}; it must be a whole number and at least {minimum}."
        )
