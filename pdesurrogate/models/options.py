"""Checks of what every model's constructor is given, and of the grid that a model is to work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..fields import DataSpec


def require_at_least(model: str, minimum: int | float, **options: int | float) -> None:
    """Refuse numbers below ``minimum``.

    Raises:
        ValueError: naming the model, the option, its value and the minimum.
    """
    for name, value in options.items():
        if value < minimum:
            raise ValueError(f"{model}: {name} is {value}; it must be at least {minimum}.")


def require_geometry(model: str, spec: DataSpec, geometries: frozenset[str]) -> None:
    """Refuse data on a geometry that the model was not made for.

    Raises:
        ValueError: naming both.
    """
    if spec.geometry not in geometries:
        raise ValueError(
            f"{model} works on the geometries {sorted(geometries)} and the data live on a {spec.geometry!r}. "
            "Choose a model that declares this geometry."
        )


def require_grid(model: nn.Module, grid: tuple[int, ...]) -> None:
    """Refuse a grid that a model cannot work on; one without ``check_grid`` works on all.

    Raises:
        ValueError: in the words of the model.
    """
    check: Callable[[tuple[int, ...]], None] | None = getattr(model, "check_grid", None)
    if check is not None:
        check(grid)


def require_dimension(model: str, axis_names: Sequence[str], grid: Sequence[int]) -> None:
    """Refuse a grid of another dimension than the data that the model was built for.

    Raises:
        ValueError: naming the axes and the grid.
    """
    if len(grid) != len(axis_names):
        raise ValueError(
            f"{model} was built for {len(axis_names)} axes of space ({', '.join(axis_names)}); the grid "
            f"{tuple(grid)} has {len(grid)}."
        )
