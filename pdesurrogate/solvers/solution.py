"""Solve an equation from an initial state: tensors in, tensors out; labelled data in, labelled data out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from . import EQUATIONS
from .equation import Equation

State = TypeVar("State")


def solve(equation: Equation | str, initial_state: State, times: Iterable[float], **options: Any) -> State:
    """Return the solution of an equation at the given times.

    Args:
        equation: an equation of this package, or its registered name (``"navier_stokes"``).
        initial_state: the state at time 0, physical units, in one of three forms:

            - a tensor ``(batch, channel, *space)``: the solution is ``(batch, time, channel, *space)``;
            - a tensor ``(channel, *space)``, one state: the solution is ``(time, channel, *space)``;
            - an ``xarray.Dataset`` with one variable a channel over the axes of space, and ``trajectory`` before them
              for several states: the solution is a Dataset with the dimension ``time`` added.

            The solver computes on the state's device in its dtype, float32 or float64.
        times: increasing, from 0 on, in the equation's units of time; a sequence or an array.
        **options: parameters of the equation if it is given by name: ``viscosity=1e-3, dt=0.01, ...``.

    Returns:
        The solution in the form of the initial state. `Equation.frames` yields one time after the other
        instead, for solutions that should not be held in memory.

    Raises:
        TypeError: for a state that is neither a tensor nor a Dataset, what is no equation, or times that are no
            sequence of numbers.
        ValueError: for an unknown name or option; for a state whose channels, dimensions, coordinates, units or
            parameters are not the equation's; for no times; and as `Equation.frames`.
    """
    chosen = _choose_equation(equation, options)
    try:
        moments = [float(time) for time in times]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"times is {times!r}; give a sequence of numbers, such as [0.0, 0.5, 1.0]."
        ) from error
    if not moments:
        raise ValueError("times is empty; give at least one time to solve up to.")
    if isinstance(initial_state, Tensor):
        return _solve_tensor(chosen, initial_state, moments)  # type: ignore[return-value]
    xarray = sys.modules.get("xarray")  # whoever holds a Dataset has imported it
    if xarray is not None and isinstance(initial_state, xarray.Dataset):
        from .labelled import state_of, to_dataset

        state, names = state_of(chosen, initial_state)
        frames = list(chosen.frames(state, moments, names))
        return to_dataset(chosen, torch.stack(frames, dim=1), moments, initial_state)
    raise TypeError(
        f"the initial state is a {type(initial_state).__name__}; give a torch.Tensor (batch, channel, *space) or an "
        "xarray.Dataset with one variable a channel."
    )


def _choose_equation(equation: Equation | str, options: dict[str, Any]) -> Equation:
    if isinstance(equation, str):
        built: Equation = EQUATIONS.build(equation, **options)
        return built
    if not isinstance(equation, Equation):
        raise TypeError(
            f"the equation is a {type(equation).__name__}; give an equation of pdesurrogate.solvers or its name: "
            f"{', '.join(EQUATIONS.names())}."
        )
    if options:
        raise ValueError(
            f"the options {', '.join(options)} were given beside a finished equation. Put them into it, or give its "
            "name."
        )
    return equation


def _solve_tensor(
    equation: Equation, state: Float[Tensor, "*any_state"], times: Sequence[float]
) -> Float[Tensor, "*any_solution"]:
    channels = [name for field in equation.fields for name in field.channel_names]
    axes = [axis.name for axis in equation.axes]
    is_single = state.ndim == 1 + len(axes)
    batched = state[None] if is_single else state
    if batched.ndim != 2 + len(axes) or batched.shape[1] != len(channels):
        raise ValueError(
            f"the initial state has the shape {tuple(state.shape)}. {type(equation).__name__} needs (batch, channel, "
            f"{', '.join(axes)}) or one state (channel, {', '.join(axes)}) with the {len(channels)} channel(s) "
            f"{', '.join(channels)}."
        )
    if len(batched) == 0:
        raise ValueError("the initial state holds no trajectory: its batch axis has the length 0.")
    solution = torch.stack(list(equation.frames(batched, times)), dim=1)
    return solution[0] if is_single else solution
