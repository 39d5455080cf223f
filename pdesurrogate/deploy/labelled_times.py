"""Times of labelled data: numbers, dates or calendar objects to numbers in a spec's unit, and onwards from the last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np

from ..fields import DataSpec
from ..fields.units import same_units, seconds, with_space

log = logging.getLogger(__name__)

_NANOSECOND = 1e-9


def elapsed(times: Any, spec: DataSpec) -> np.ndarray:
    """Return the time since the first entry of a coordinate, in ``spec.time_units``, float64.

    Args:
        times: DataArray of numbers, ``datetime64``, ``timedelta64`` or calendar objects.
        spec: says which unit is wanted.

    Raises:
        ValueError: if one unit cannot be told from the other.
    """
    return _since_first(times.values) * _unit(times, spec)


def continued(times: Any, spec: DataSpec, lead: np.ndarray) -> Any:
    """Return the times at ``lead`` (in ``spec.time_units``) after the last entry, of the coordinate's own kind."""
    last, steps = times.values[-1], lead / _unit(times, spec)
    if times.dtype.kind in "mM":
        return last + np.round(steps / _NANOSECOND).astype("timedelta64[ns]")
    if times.dtype.kind == "O":
        return np.array([last + timedelta(seconds=float(step)) for step in steps], dtype=object)
    return float(last) + steps


def check_steps(times: Any, spec: DataSpec, history: int) -> None:
    """Refuse a history whose frames are not ``dt`` apart, and say so of a frame that is one and the one before it.

    Args:
        times: of the history; where that is one frame, the time of the frame before it may stand in front.
        spec: of the surrogate.
        history: number of frames that it needs.

    Raises:
        ValueError: naming the step that is there and the one that is needed.
    """
    steps = np.diff(elapsed(times, spec))
    if times.dtype == np.float32:
        # Differences of large times in float32 are no more exact than this.
        slack = 4 * float(np.finfo(np.float32).eps) * float(np.abs(times.values).max()) * _unit(times, spec)
    else:
        slack = 0.0
    if not (np.abs(steps - spec.dt) <= 1e-3 * spec.dt + slack).all():
        unit = with_space(spec.time_units)
        found = ", ".join(f"{step:g}" for step in np.unique(np.round(steps, 9))[:4])
        if history < 2:
            log.warning(
                "The last frames of the dataset are %s%s apart and the surrogate goes on in steps of %g%s from the "
                "last one. If that is not what was meant, look at the units of its times.",
                found,
                unit,
                spec.dt,
                unit,
            )
            return
        raise ValueError(
            f"the last {history} frames of the dataset are {found}{unit} apart and the surrogate was trained on steps "
            f"of {spec.dt:g}{unit}. Choose frames that far apart, for example with dataset.isel(time=slice(None, None, "
            "n)), or a surrogate that was trained on your time step; nothing is interpolated in time."
        )


def _unit(times: Any, spec: DataSpec) -> float:
    """Return what one unit of the coordinate is in ``spec.time_units``; dates count in seconds."""
    wanted = seconds(spec.time_units)
    if times.dtype.kind in "mMO":
        if wanted is None:
            raise ValueError(
                f"the times of the dataset are dates or durations and the surrogate counts time in units of "
                f"{spec.time_units!r}, which cannot be converted. Give times as numbers in those units: "
                "dataset.assign_coords(time=...)."
            )
        return 1.0 / wanted
    given = str(times.attrs.get("units", spec.time_units)).split(" since ")[0]
    mine = seconds(given)
    if mine is not None and wanted is not None:
        return mine / wanted
    if not same_units(given, spec.time_units):
        raise ValueError(
            f"the times of the dataset are in units of {given!r} and the surrogate counts time in units of "
            f"{spec.time_units!r}; convert them: dataset.assign_coords(time=...)."
        )
    return 1.0


def _since_first(values: np.ndarray) -> np.ndarray:
    """Return differences to the first entry: of numbers as they are, of dates in seconds."""
    convert: dict[str, Callable[[Any], Any]] = {
        "M": lambda d: d.astype("timedelta64[ns]").astype(np.float64) * _NANOSECOND,
        "m": lambda d: d.astype("timedelta64[ns]").astype(np.float64) * _NANOSECOND,
        "O": lambda d: np.array([x.total_seconds() for x in d], dtype=np.float64),
    }
    if values.dtype.kind in convert:
        return convert[values.dtype.kind](values - values[0])
    numbers = values.astype(np.float64)
    return numbers - numbers[0]
