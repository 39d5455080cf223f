"""From the coordinates in a file to the axes and times of a spec."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np

from pdesurrogate.fields import Axis
from pdesurrogate.fields.spec import Boundary
from pdesurrogate.fields.spherical.nodes import LatitudeNodes, latitude_rule

TOLERANCE = 2e-3
"""Largest deviation from evenly spaced points, in spacings: float32 coordinates of thousands of points keep it."""


def axis_of(
    owner: Path | str, name: str, coordinates: np.ndarray, boundary: Boundary | str, units: str = "1"
) -> Axis:
    """Return the axis that has its points at the given coordinates.

    Evenly spaced points share the domain equally among them, ``length = n · spacing``. On a periodic axis the domain
    begins at the first point, elsewhere half a spacing before it; points that lie half a spacing off a multiple of
    it are centres of cells on either. Latitudes in degrees from pole to pole may follow a rule of `latitude_rule`.

    Args:
        owner: the file, for messages.
        name: ``"x"``, ``"y"``, ``"z"``, ``"lat"`` or ``"lon"``.
        coordinates: positions along the axis, rising or falling.
        boundary: what happens at its ends.
        units: units of the coordinates.

    Raises:
        ValueError: for points that are neither evenly spaced nor the latitudes of a rule.
    """
    points = np.asarray(coordinates, dtype=np.float64).ravel()
    is_descending = bool(len(points) > 1 and points[-1] < points[0])
    rising = points[::-1] if is_descending else points
    if not np.isfinite(points).all():
        raise ValueError(f"{owner}: the coordinates of {name} are not finite.")
    if name == "lat":
        for nodes in get_args(LatitudeNodes):
            colatitudes, _ = latitude_rule(nodes, max(2, len(points)))
            latitudes = 90 - np.rad2deg(colatitudes[::-1])
            if len(latitudes) == len(rising) and np.abs(latitudes - rising).max() < 1e-3 * 180 / len(points):
                return Axis("lat", 180.0, boundary, units, -90.0, nodes=nodes, is_descending=is_descending)  # type: ignore[arg-type]
    if len(points) == 1:
        return Axis(name, 1.0, boundary, units, float(points[0]))  # type: ignore[arg-type]
    spacing = float(rising[-1] - rising[0]) / (len(rising) - 1)
    off = np.abs(rising - rising[0] - spacing * np.arange(len(rising))).max()
    if not spacing > 0 or off > TOLERANCE * spacing:
        worst = f"gaps from {np.diff(points).min():.4g} to {np.diff(points).max():.4g}"
        raise ValueError(
            f"{owner}: the points along {name} are not evenly spaced ({worst}) and no latitudes of a rule. Models and "
            "derivatives here need one of those; interpolate the data first, or use the set's uniform variant."
        )
    part = rising[0] / spacing % 1.0
    is_centred = abs(part - 0.5) < 1e-2 or boundary != "periodic"
    offset = 0.5 if is_centred else 0.0
    origin = _rounded(rising[0] - offset * spacing, spacing)
    return Axis(
        name,
        _rounded(spacing * len(points), spacing),
        boundary,  # type: ignore[arg-type]
        units,
        origin,
        offset,
        is_descending=is_descending,
    )


def even_step(
    owner: Path | str, times: np.ndarray, given: float | None = None, *, tolerance: float = 1e-3
) -> float:
    """Return the time between frames.

    Args:
        owner: the file, for messages.
        times: of the frames.
        given: what it should be, or what it is where there is a single frame.
        tolerance: largest deviation from even steps, relative.

    Raises:
        ValueError: if the frames are not evenly spaced, or not by the given step.
    """
    times = np.asarray(times, dtype=np.float64).ravel()
    if len(times) < 2:
        return 1.0 if given is None else float(given)
    steps = np.diff(times)
    dt = float(times[-1] - times[0]) / len(steps) if given is None else float(given)
    if not (math.isfinite(dt) and dt > 0) or not np.allclose(steps, dt, rtol=tolerance, atol=1e-9 * dt):
        spread = np.unique(steps.round(9))
        raise ValueError(
            f"{owner}: the frames are {', '.join(f'{s:g}' for s in spread[:6])} apart"
            + (f" and dt is {given:g}" if given is not None else "")
            + ". Windows need even steps: choose the frames that have them, or give the dt that is meant."
        )
    return _rounded(dt, dt)


def _rounded(value: float, scale: float) -> float:
    """Return a value without the rounding of float32 that it was computed from."""
    digits = 6 - math.floor(math.log10(abs(scale)))
    nearest = round(value, digits)
    return nearest if abs(nearest - value) < 2e-6 * max(abs(value), abs(scale)) else value
