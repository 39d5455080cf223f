"""Magnification of errors that would be invisible on the colour scale of the field."""

from __future__ import annotations

import math


def error_magnification(largest: float, limit: float) -> int:
    """Return the greatest of 1, 2, 5, 10, 20, .. by which errors can be multiplied within ``[-limit, limit]``.

    It is 1 for errors that are zero, beyond the limit, or not finite.
    """
    if not 0 < largest < limit:
        return 1
    room = limit / largest
    power = 10 ** math.floor(math.log10(room))
    return int(next(d * power for d in (5, 2, 1) if d * power <= room * (1 + 1e-9)))
