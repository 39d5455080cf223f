"""What every solver is: an equation with its parameters, from an initial state to frames at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
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
