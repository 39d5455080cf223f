"""Checks of what every model's constructor is given."""

from __future__ import annotations

from ..fields import DataSpec


def require_at_least(model: str, minimum: float, **options: float) -> None:
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
