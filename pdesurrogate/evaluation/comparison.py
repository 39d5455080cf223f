"""Which of two contenders errs less: paired on the test trajectories, or not to be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from ..metrics.table import mean_interval
from .results import Estimate
from .typography import estimate_text


class Standing(Enum):
    """How a contender stands to another.

    Two contenders forecast the same trajectories, and hard ones are hard for both. Their difference on each
    trajectory therefore says more than their separate intervals, which may overlap although one is always ahead.
    """

    BETTER = "better"
    WORSE = "worse"
    ALIKE = "alike"
    UNKNOWN = "unknown"


def compare(own: Estimate, other: Estimate) -> Standing:
    """Return how ``own`` stands to ``other``, by the 95 % t interval of their mean paired difference.

    Means that agree in the digits that are shown are alike, however regular their difference. An infinite error
    is worse than a finite one without any test. With too few trajectories for an interval nothing is known.
    """
    if estimate_text(own) == estimate_text(other):
        return Standing.ALIKE
    if not (math.isfinite(own.mean) and math.isfinite(other.mean)):
        return Standing.BETTER if own.mean < other.mean else Standing.WORSE
    low, high = mean_interval(own.samples - other.samples).tolist()
    if math.isnan(low):
        return Standing.UNKNOWN
    if low <= 0 <= high:
        return Standing.ALIKE
    return Standing.BETTER if high < 0 else Standing.WORSE


def leaders(estimates: Sequence[Estimate]) -> list[bool]:
    """Return which estimates are the lowest or cannot be told from it; none where that cannot be known."""
    lowest = min(estimates, key=lambda e: e.mean, default=None)
    if lowest is None or not math.isfinite(lowest.mean):
        return [False] * len(estimates)
    standings = [compare(e, lowest) for e in estimates]
    if Standing.UNKNOWN in standings:
        return [False] * len(estimates)
    return [s is Standing.ALIKE for s in standings]
