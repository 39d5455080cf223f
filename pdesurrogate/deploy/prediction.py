"""Forecasts of labelled data: ``xarray.Dataset`` in, ``xarray.Dataset`` out, in physical units.

A forecast has the dimensions ``(*sample dimensions, lead_time, *space)``. It is rolled out a few samples at a time,
frame by frame, so that beside the result it takes the memory of one step. Where the result is too large as well, it
goes to a file as it is made (`pdesurrogate.deploy.forecast_file`), or, for a dataset backed by dask, into tasks that
are run when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fields.units import with_space
from ..surrogate import Surrogate
from ..version import __version__
from .labelled_input import TIME, LabelledInput, check_dataset
from .labelled_times import continued

LEAD_TIME = "lead_time"


def predict(
    surrogate: Surrogate,
    dataset: Any,
    steps: int,
    *,
    parameters: Mapping[str, float] | None = None,
    batch_size: int = 16,
    output: str | Path | None = None,
) -> Any:
    """Return the forecast from the last frames of a dataset, see `Surrogate.predict`.

    Raises:
        TypeError, ValueError: as `check_dataset`, and for ``steps`` or ``batch_size`` below 1.
        OSError: if the file cannot be written.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number from 1 upwards.")
    given = check_dataset(surrogate, dataset, parameters)
    if output is not None:
        from .forecast_file import open_forecast, write_forecast

        return open_forecast(write_forecast(surrogate, given, steps, batch_size, output))
    if any(given.dataset[name].chunks is not None for name in surrogate.spec.channel_names):
        from .lazy_forecast import lazy_arrays

        arrays = lazy_arrays(surrogate, given, steps, batch_size)
    else:
        arrays = {
            name: np.empty((given.num_samples, steps, *given.grid), np.float32)
            for name in forecast_channels(given)
        }
        for samples, step, frames in frames_of(surrogate, given, steps, batch_size):
            for name, channel in forecast_channels(given).items():
                arrays[name][samples.start : samples.stop, step] = frames[:, channel]
    shape = (*given.sample_shape, steps, *given.grid)
    dims = forecast_dims(given)
    variables = {
        name: (dims, array.reshape(shape), attributes(given, name)) for name, array in arrays.items()
    }
    return labels(surrogate, given, steps).assign(variables)


def frames_of(
    surrogate: Surrogate, given: LabelledInput, steps: int, batch_size: int
) -> Iterator[tuple[range, int, np.ndarray]]:
    """Yield samples, number of the step from 0, and the frames ``(batch, channel, *space)``, one step at a time.

    Raises:
        ValueError: if the history holds NaN, or the forecast leaves the numbers; names the sample and the lead time.
    """
    device = surrogate.normaliser.mean.device
    for first in range(0, given.num_samples, batch_size):
        samples = range(first, min(first + batch_size, given.num_samples))
        history, parameters = (tensor.to(device) for tensor in given.window(samples))
        for step, frame in enumerate(surrogate.rollout(history, parameters, steps)):
            yield samples, step, finite(given, samples, step, frame)


def finite(given: LabelledInput, samples: range, step: int, frame: Tensor) -> np.ndarray:
    """Return a frame of some samples as an array.

    Raises:
        ValueError: if it holds NaN or infinite values.
    """
    bad = ~torch.isfinite(frame).flatten(1).all(dim=1)
    if bad.any():
        place = given.place(samples[int(bad.nonzero()[0])])
        where = "".join(f", {dim} {index}" for dim, index in place.items())
        raise ValueError(
            f"the forecast diverged at step {step + 1} (lead time {(step + 1) * given.spec.dt:g}"
            f"{with_space(given.spec.time_units)}{where}): it holds NaN or infinite values. Ask for fewer steps; "
            "values at the start that are far from those of the training data can be a reason as well."
        )
    return frame.cpu().numpy()


def forecast_channels(given: LabelledInput) -> dict[str, int]:
    """Return the channels that change in time, each with its number; static ones are carried over as they are."""
    is_static = given.spec.static_channels
    return {name: i for i, name in enumerate(given.spec.channel_names) if not is_static[i]}


def forecast_dims(given: LabelledInput) -> tuple[str, ...]:
    """Return the dimensions of a forecast."""
    return (*given.sample_dims, LEAD_TIME, *given.spec.axis_names)


def attributes(given: LabelledInput, name: str) -> dict[str, Any]:
    """Return the attributes of a channel: those that came in, with units."""
    spec = given.spec
    units = dict(zip(spec.channel_names, spec.channel_units, strict=True))[name]
    return {"units": units, **given.dataset[name].attrs}


def labels(surrogate: Surrogate, given: LabelledInput, steps: int) -> Any:
    """Return the Dataset of a forecast without its forecast variables.

    It has the coordinates and attributes of what came in, ``lead_time``, the times forecast (``time``, along
    ``lead_time``) where the dataset has times, static fields and PDE parameters.
    """
    import xarray

    spec, source = given.spec, given.dataset
    lead = spec.dt * np.arange(1, steps + 1)
    coords: dict[str, Any] = {
        LEAD_TIME: (
            LEAD_TIME,
            lead,
            {
                "units": spec.time_units,
                "standard_name": "forecast_period",
                "long_name": "time since the last frame of the history",
            },
        )
    }
    if TIME in source.coords:
        times = source[TIME] if source[TIME].ndim else source[TIME].expand_dims(TIME)
        coords[TIME] = (LEAD_TIME, continued(times, spec, lead), times.attrs)
    coords |= {name: c for name, c in source.coords.items() if TIME not in c.dims and name not in coords}
    for axis, size in zip(spec.axes, given.grid, strict=True):
        if axis.name not in coords:
            coords[axis.name] = (axis.name, axis.coordinates(size), {"units": axis.units})
    kept: dict[str, Any] = {}
    for name in set(spec.channel_names) - set(forecast_channels(given)):
        field = source[name]
        kept[name] = field.isel({TIME: -1}, drop=True) if TIME in field.dims else field
    for i, parameter in enumerate(spec.parameters):
        if parameter.name not in coords:
            known = source[parameter.name].attrs if parameter.name in source else {}
            kept[parameter.name] = (
                given.sample_dims,
                given.parameters[..., i],
                {"units": parameter.units, **known},
            )
    model = (
        surrogate.provenance.get("config", {}).get("model", {}).get("kind", type(surrogate.model).__name__)
    )
    made_by = {"surrogate": str(model), "pdesurrogate_version": __version__}
    return xarray.Dataset(kept, coords, {**source.attrs, **made_by})
