"""Units as text: whether two spellings mean the same unit, and units of time in seconds."""

from __future__ import annotations

import re

_SPELLINGS = {
    "dimensionless": "1",
    "none": "1",
    "-": "1",
    "meter": "m",
    "metre": "m",
    "second": "s",
    "sec": "s",
    "kelvin": "K",
    "pascal": "Pa",
    "degree_north": "degrees_north",
    "degree_east": "degrees_east",
    "degree": "degrees",
    "deg": "degrees",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "day": "d",
}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_FACTOR = re.compile(r"([^\d\s^*/.·()+-][^\d\s^*/.·()+-]*)(?:\^|\*\*)?([+-]?\d+)?")


def same_units(one: str, other: str) -> bool:
    """Return whether two texts are spellings of one unit: ``"m s-1"``, ``"m/s"`` and ``"m*s**-1"`` are.

    Nothing is converted: ``"km"`` and ``"1000 m"`` are different units here.
    """
    return _factors(one) == _factors(other)


def seconds(units: str) -> float | None:
    """Return how many seconds a unit of time has, None for other units and for ``"1"``."""
    return _SECONDS.get(_spelled(units.strip()))


def _factors(text: str) -> dict[str, int] | str:
    """Return the exponent of each unit in a product, or the text itself where it is none."""
    words = text.strip() or "1"
    powers: dict[str, int] = {}
    sign = 1
    for part in re.split(r"\s*(/|(?<!\*)\*(?!\*)|·|\.|\s)\s*", re.sub(r"\s+", " ", words)):
        if part == "/":
            sign = -1
        elif part not in ("*", "·", ".", " ", "", "1"):
            if not (found := _FACTOR.fullmatch(part)) and _spelled(part) != "1":
                return words
            name, power = (_spelled(found[1]), int(found[2] or 1)) if found else ("1", 1)
            if name != "1":
                powers[name] = powers.get(name, 0) + sign * power
            sign = 1
    return {name: power for name, power in powers.items() if power}


def _spelled(name: str) -> str:
    for known in (name, name.removesuffix("s")):
        if known in _SECONDS:
            return known
        if known in _SPELLINGS:
            return _SPELLINGS[known]
    return name


def with_space(units: str) -> str:
    """Return units as they stand after a number in a sentence, ``" m"``; nothing for pure numbers."""
    return "" if units == "1" else f" {units}"
