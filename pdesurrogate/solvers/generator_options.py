"""Checks of the options that generators share; each names the option and says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def solver_dtype(name: str) -> torch.dtype:
    """Return the dtype that a solver computes in.

    Raises:
        ValueError: unless it is ``"float32"`` or ``"float64"``.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; allowed: {', '.join(DTYPES)}.")
    return DTYPES[name]


def check_numbers(**values: float) -> None:
    """Refuse what is no finite number.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}; it must be a finite number.")


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
    both = [given, given] if isinstance(given, int | float) else list(given)
    values = [float(v) for v in both if isinstance(v, int | float) and math.isfinite(v)]
    if len(both) != 2 or len(values) != 2 or not smallest <= values[0] <= values[1] <= largest:
        within = "" if math.isinf(smallest) and math.isinf(largest) else f" from {smallest:g} to {largest:g}"
        raise ValueError(f"{name} is {given}; give one number{within}, or [low, high] with low <= high.")
    return values[0], values[1]
