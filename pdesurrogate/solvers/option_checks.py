"""Checks of options that equations and generators share; each names the option and says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def solver_dtype(name: str) -> torch.dtype:
    """Return the dtype that a solver computes in.

    Raises:
        ValueError: unless it is ``"float32"`` or ``"float64"``.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; allowed: {', '.join(DTYPES)}.")
    return DTYPES[name]


def check_numbers(**values: Any) -> None:
    """Refuse what is no finite number.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not _is_finite(value):
            raise ValueError(f"{name} is {value!r}; it must be a finite number.")


def check_positive(**values: Any) -> None:
    """Refuse what is no finite number above 0.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not (_is_finite(value) and value > 0):
            raise ValueError(f"{name} is {value!r}; it must be finite and positive.")


def check_not_negative(**values: Any) -> None:
    """Refuse what is no finite number from 0 on.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not (_is_finite(value) and value >= 0):
            raise ValueError(f"{name} is {value!r}; it must be finite and not negative.")


def check_lengths(lengths: Any, axes: str, fewest: int) -> None:
    """Refuse what are not the sides of a box, one positive number for each axis.

    Args:
        lengths: the sides.
        axes: names of the axes that a box may have; one with fewer has the last of them.
        fewest: how many it must have.

    Raises:
        ValueError: naming the axes, or the first side that is not.
    """
    num = len(lengths) if isinstance(lengths, Sequence) and not isinstance(lengths, str) else 0
    if not fewest <= num <= len(axes):
        allowed = [f"({', '.join(axes[-n:])})" for n in range(fewest, len(axes) + 1)]
        raise ValueError(f"lengths are {lengths!r}; give one for each axis: {' or '.join(allowed)}.")
    check_positive(**{f"L_{axis}": length for axis, length in zip(axes[-num:], lengths, strict=True)})


def check_counts(**values: tuple[int, int]) -> None:
    """Refuse what is no integer or below its smallest value; each is given as ``(value, smallest)``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, (value, smallest) in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
            raise ValueError(f"{name} is {value!r}; it must be an integer from {smallest} upwards.")


def check_grids(grid: int, solve_grid: int) -> None:
    """Refuse frames on a finer grid than the solver's.

    Raises:
        ValueError: with both.
    """
    if grid > solve_grid:
        raise ValueError(
            f"grid = {grid} is finer than solve_grid = {solve_grid}: the file would claim detail that was never "
            "solved for. Use a solve_grid at least as fine, or a coarser grid."
        )


def number_range(
    name: str, given: float | Sequence[float], smallest: float = -math.inf, largest: float = math.inf
) -> tuple[float, float]:
    """Return ``(low, high)`` of one number or of ``[low, high]``.

    Raises:
        ValueError: naming the option, unless the numbers are finite, ascending and within the limits.
    """
    both = list(given) if isinstance(given, Sequence) else [given, given]
    values = [float(v) for v in both if _is_finite(v)]
    if len(both) != 2 or len(values) != 2 or not smallest <= values[0] <= values[1] <= largest:
        within = f" from {smallest:g}" * math.isfinite(smallest) + f" to {largest:g}" * math.isfinite(largest)
        raise ValueError(f"{name} is {given}; give one number{within}, or [low, high] with low <= high.")
    return values[0], values[1]


def numbers_of_each(name: str, given: Any) -> Float[Tensor, "*batch"]:
    """Return one finite number for all trajectories, or a tensor with one a trajectory.

    Raises:
        ValueError: naming the option, if it is neither.
    """
    if (
        not (isinstance(given, Tensor) or _is_finite(given))
        or not torch.isfinite(torch.as_tensor(given)).all()
    ):
        raise ValueError(
            f"{name} is {given!r}; it must be a finite number, or a tensor with one for each trajectory."
        )
    return torch.as_tensor(given)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
