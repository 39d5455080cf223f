"""Optimisers and learning-rate schedules over the whole run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..registry import did_you_mean

_OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}


@dataclass(frozen=True)
class Optimisation:
    """An Adam optimiser and a schedule that multiplies its learning rate.

    With ``s`` the share of the run that lies behind (after the warm-up), the factor is
    ``constant``: 1; ``cosine``: ``f + (1-f)(1 + cos πs)/2``; ``linear``: ``1 - (1-f)s``;
    ``step``: ``step_factor ** floor(s / step_every)``; ``one_cycle``: Smith and Topin's (2018, arXiv
    1708.07120) rise from 1/25 to 1 over the first 30 % and cosine fall to ``f`` over the rest.

    Attributes:
        kind: ``"adamw"`` (decoupled decay) or ``"adam"`` (L2 penalty).
        lr: peak learning rate.
        weight_decay, betas: as in torch.
        schedule: name of the schedule.
        warmup: share of the run with a linear rise from 0.
        final: ``f``, the last factor.
        step_every, step_factor: of the step schedule.
        ema: decay of the average of the weights that is validated and kept, see
            `pdesurrogate.training.weight_average`; None for the weights themselves.
        max_skipped: steps that may be left out for a gradient that is not finite before training ends.
    """

    kind: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    betas: Sequence[float] = (0.9, 0.999)
    schedule: str = "cosine"
    warmup: float = 0.05
    final: float = 0.01
    step_every: float = 0.25
    step_factor: float = 0.5
    ema: float | None = None
    max_skipped: int = 10

    def __post_init__(self) -> None:
        for what, name, allowed in (
            ("kind", self.kind, _OPTIMISERS),
            ("schedule", self.schedule, _SCHEDULES),
        ):
            if name not in allowed:
                raise ValueError(
                    f"optim.{what} is {name!r}.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}."
                )
        if not self.lr > 0:
            raise ValueError(f"optim.lr is {self.lr}; the learning rate must be positive.")
        if not 0 <= self.warmup < 1:
            raise ValueError(
                f"optim.warmup is {self.warmup}; it is a share of the run, from 0 up to below 1."
            )
        if self.step_every <= 0:
            raise ValueError(f"optim.step_every is {self.step_every}; it must be positive.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(
                f"optim.ema is {self.ema}; give a decay between 0 and 1, such as 0.999, or null for none."
            )
        if self.max_skipped < 0:
            raise ValueError(f"optim.max_skipped is {self.max_skipped}; give 0 or more steps.")

    def build(
        self, parameters: Iterable[nn.Parameter], num_steps: int
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return the optimiser and its schedule for a run of ``num_steps`` optimiser steps.

        The update is fused into one kernel where all weights are real (complex ones are not supported).
        """
        weights = list(parameters)
        real = not any(w.is_complex() for w in weights)
        options: dict[str, Any] = {
            "lr": self.lr,
            "betas": tuple(self.betas),
            "weight_decay": self.weight_decay,
            "fused": real,
        }
        optimiser = _OPTIMISERS[self.kind](weights, **options)
        return optimiser, LambdaLR(optimiser, partial(self.factor, num_steps=num_steps))

    def factor(self, step: int, num_steps: int) -> float:
        """Return the factor on the learning rate at optimiser step ``step`` of ``num_steps``."""
        warmup_steps = round(self.warmup * num_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        share = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return _SCHEDULES[self.schedule](self, min(1.0, share))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(settings: Optimisation, share: float) -> float:
    if share < 0.3:
        return _cosine(1 / 25, 1.0, share / 0.3)
    return _cosine(1.0, settings.final, (share - 0.3) / 0.7)


_SCHEDULES: dict[str, Callable[[Optimisation, float], float]] = {
    "constant": lambda settings, share: 1.0,
    "cosine": lambda settings, share: _cosine(1.0, settings.final, share),
    "linear": lambda settings, share: 1.0 - (1.0 - settings.final) * share,
    "step": lambda settings, share: settings.step_factor ** math.floor(share / settings.step_every + 1e-9),
    "one_cycle": _one_cycle,
}
