"""What every solver is: an equation with its parameters, from an initial state to frames at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Inexact
from torch import Tensor

from pdesurrogate.fields import Axis, Field


@runtime_checkable
class Equation(Protocol):
    """A partial differential equation with its parameters and its discretisation, a frozen dataclass.

    States are ``(batch, channel, *space)`` in physical units, channels and axes in the order of ``fields``
    and ``axes``. Computation follows the dtype (float32 or float64) and device of the state. No trajectory of a
    batch depends on another.

    Attributes:
        fields: what the channels are.
        axes: lengths and boundaries of the domain, in array order.
    """

    @property
    def fields(self) -> tuple[Field, ...]: ...  # noqa: D102
    @property
    def axes(self) -> tuple[Axis, ...]: ...  # noqa: D102

    def frames(
        self,
        state: Float[Tensor, "batch channel *space"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the state at one time after the other, with the memory of one state.

        Args:
            state: at time 0.
            times: increasing, from 0 on.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for a state, grid, times or a time step that the equation cannot take, and, naming
                trajectory and time, as soon as the state is not finite any more.
        """
        ...


def check_state(state: Tensor, names: Sequence[str] | None = None) -> None:
    """Refuse an initial state that solvers cannot compute with.

    Raises:
        ValueError: unless it is float32 or float64; naming the first trajectory with values that are not finite.
    """
    if state.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the initial state is {state.dtype}; allowed: float32 and float64.")
    is_bad = ~torch.isfinite(state).flatten(1).all(1)
    refuse(is_bad, names, ": the initial state has values that are not finite.")


def refuse(
    is_bad: Bool[Tensor, " batch"],
    names: Sequence[str] | None,
    what: str,
    **values: Inexact[Tensor, " batch"],
) -> None:
    """Refuse a batch of which some are bad.

    Args:
        is_bad: which are.
        names: what the message calls the trajectories; None for their numbers.
        what: what is bad about it, after the words ``trajectory NAME``; ``{key}`` stands for the value of ``key``.
        values: numbers of each trajectory that the message names.

    Raises:
        ValueError: about the first that is bad.
    """
    if is_bad.any():
        first = int(is_bad.to(torch.int8).argmax())
        name = first if names is None else names[first]
        raise ValueError(
            f"trajectory {name}{what.format(**{key: float(v[first]) for key, v in values.items()})}"
        )
