"""Models of equal size: the value of an option at which one has as many parameters as another.

A comparison of two architectures says little if one of them is larger. Widening the smaller one until the numbers
of real degrees of freedom agree takes the size out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..fields import DataSpec
from . import MODELS


@dataclass(frozen=True)
class Match:
    """What `match_parameters` found.

    Attributes:
        value: of the option.
        parameters: real degrees of freedom of the model that has it.
        target: that were asked for.
    """

    value: int
    parameters: int
    target: int

    @property
    def ratio(self) -> float:
        """Parameters over the target; 1 is an exact match."""
        return self.parameters / self.target


def num_real_parameters(module: nn.Module) -> int:
    """Return the number of real degrees of freedom of a module's parameters; a complex one counts twice."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters())


def match_parameters(
    kind: str,
    spec: DataSpec,
    history: int,
    horizon: int,
    options: Mapping[str, Any],
    target: int,
    option: str = "width",
    *,
    multiple_of: int = 1,
) -> Match:
    """Return the value of a whole-number option that brings a model's parameters nearest to a target.

    The number of parameters must grow with the option. Models are built to be counted, at most about twice as many
    as the value has binary digits, none with more than a few times the target's parameters; the state of the random
    numbers is left as it was. How near a match comes depends on the model: a width changes the parameters in steps of
    about 2 / width.

    Args:
        kind: registered name of the model.
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        options: the model's other options; a value of ``option`` among them is ignored.
        target: real degrees of freedom that are wanted, such as `num_real_parameters` of the other model.
        option: which option to choose: ``"width"``, ``"depth"``, ``"num_modes"``, ..
        multiple_of: the value is a multiple of this, for models whose widths are divided into groups or heads.

    Raises:
        ValueError: if the model or an option does not exist, the target or ``multiple_of`` is not positive, or the
            number of parameters does not grow with the option.
    """
    for name, value in (("target", target), ("multiple_of", multiple_of)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    others = {key: value for key, value in options.items() if key != option}
    counts: dict[int, int] = {}

    def count(steps: int) -> int:
        if steps not in counts:
            with torch.random.fork_rng(devices=[]):
                chosen = {**others, option: steps * multiple_of}
                counts[steps] = num_real_parameters(MODELS.build(kind, spec, history, horizon, **chosen))
        return counts[steps]

    low, high = 0, 1
    while count(high) < target:
        if low and count(high) <= count(low):
            raise ValueError(
                f"{kind} has {count(low):,} parameters with {option}={low * multiple_of} and {count(high):,} with "
                f"{option}={high * multiple_of}: they do not grow with it. Choose another option to match by."
            )
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    nearest = min((n for n in (low, high) if n), key=lambda n: (abs(count(n) - target), n))
    return Match(nearest * multiple_of, count(nearest), target)
