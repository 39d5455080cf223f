"""How grids, errors, intervals and lists are written for people."""

from __future__ import annotations

import html
import math

from .results import Estimate

SMALL = 1e-5
"""Relative error below which a percentage says nothing any more: single precision ends there."""


def on_grid(grid: tuple[int, ...]) -> str:
    """Return ``"64 × 64"``."""
    return " × ".join(map(str, grid))


def error_text(value: float, *, undefined: bool = False) -> str:
    """Return an error as a percentage with three digits, below 0.001 % as ``"2.0 × 10⁻⁷"``, or why it is infinite.

    Args:
        value: 0.01 is one percent.
        undefined: whether an infinite value comes from a truth that vanishes, not from the forecast.
    """
    if math.isfinite(value):
        return scientific(value) if 0 < value < SMALL else f"{three_digits(100 * value)} %"
    return "undefined" if undefined else "diverged"


def estimate_text(estimate: Estimate) -> str:
    """Return the mean of an estimate as `error_text` writes it."""
    return error_text(estimate.mean, undefined=estimate.undefined)


def interval_text(estimate: Estimate) -> str:
    """Return ``"2.9–3.4 %"``; empty where there is no interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return range_text(estimate.low, estimate.high)


def range_text(low: float, high: float) -> str:
    """Return ``"2.9–3.4 %"``, below 0.001 % as `error_text` writes each end."""
    if 0 < high < SMALL:
        return f"{error_text(low)}–{error_text(high)}"
    return f"{three_digits(100 * low)}–{three_digits(100 * high)} %"


def change_text(value: float, reference: float) -> str:
    """Return ``"1.1 % more"``, ``"3.0 % less"`` or ``"unchanged"``; empty where a ratio means nothing."""
    if not (math.isfinite(value) and math.isfinite(reference) and reference > 0):
        return ""
    change = 100 * (value / reference - 1)
    size = f"{abs(change):.1f}" if abs(change) < 99.95 else f"{abs(change):.0f}"
    return "unchanged" if size == "0.0" else f"{size} % {'more' if change > 0 else 'less'}"


def property_text(value: float) -> str:
    """Return a relative error that may be rounding alone: a percentage from a tenth of one on, or ``"4.3 × 10⁻⁹"``."""
    return scientific(value) if 0 < value < 1e-3 else "0" if value == 0 else error_text(value)


def number_text(value: float) -> str:
    """Return a number with three digits, far from 1 as ``"2.0 × 10⁻⁷"``; a dash for one that is not finite."""
    if not math.isfinite(value):
        return "—"
    if value and not 1e-3 <= abs(value) < 1e5:
        return scientific(value)
    digits = f"{value:.3g}"
    return (f"{float(digits):,.0f}" if "e" in digits else digits).replace("-", "−")


def scientific(value: float) -> str:
    """Return ``"2.0 × 10⁻⁷"``."""
    digits, exponent = f"{value:.1e}".replace("-", "−", value < 0).split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} × 10{power}"


def signed_points(value: float) -> str:
    """Return a difference of two errors in percentage points, with its sign and three digits."""
    sign = "−" if value < 0 else "+" if value > 0 else ""
    return f"{sign}{three_digits(100 * abs(value))}"


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return ``"1 frame"`` or ``"20 frames"``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def listed(items: list[str]) -> str:
    """Return ``"a, b and c"``."""
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)


def typeset(sentence: str) -> str:
    """Return a sentence as HTML whose sizes and percentages do not break over lines."""
    text = html.escape(sentence)
    for breakable in (" ×", "× ", " %"):
        text = text.replace(breakable, breakable.replace(" ", "\u00a0"))
    return text


def three_digits(value: float) -> str:
    """Return three significant digits with their zeros; numbers from 100 on are rounded to whole ones."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}".rstrip(".")
