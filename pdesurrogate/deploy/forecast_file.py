"""Forecasts that go to a netCDF-4 file as they are made, and the command that does it."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..durable import durable_write
from ..fields.units import with_space
from ..registry import load_plugins
from ..surrogate import Surrogate
from .devices import choose_device
from .labelled_input import TIME, LabelledInput, check_dataset
from .prediction import attributes, forecast_channels, forecast_dims, frames_of, labels

log = logging.getLogger(__name__)


def forecast(config: Mapping[str, Any]) -> None:
    """Forecast from a file and write the result to another.

    Args:
        config: plain containers with the keys of ``conf/predict.yaml``.

    Raises:
        ValueError, TypeError: if something is missing or does not fit; nothing is written then.
        FileNotFoundError, OSError: if a file is missing, cannot be read or cannot be written.
    """
    load_plugins(config.get("plugins") or [])
    for name, example in (("input", "in.nc"), ("output", "out.nc"), ("artifact", "runs/RUN_ID/artifact.pt")):
        if not config.get(name):
            raise ValueError(
                f"no {name} given, such as {example}. Say: pdesurrogate predict in.nc out.nc "
                "artifact=runs/RUN_ID/artifact.pt steps=20"
            )
    for name in ("steps", "batch_size"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"{name} is {config[name]!r}; it must be a whole number from 1 upwards.")
    source, target = Path(config["input"]), Path(config["output"])
    _check_target(source, target, config["overwrite"])
    surrogate = Surrogate.load(config["artifact"], choose_device(config["device"]))
    with opened(source) as dataset:
        start = _until(dataset, config.get("initial_time"))
        given = check_dataset(surrogate, start, config.get("parameters") or {})
        write_forecast(surrogate, given, config["steps"], config["batch_size"], target)
    log.info(
        "Forecast of %s, %d steps of %g%s for %d sample%s: %s",
        ", ".join(forecast_channels(given)),
        config["steps"],
        surrogate.spec.dt,
        with_space(surrogate.spec.time_units),
        given.num_samples,
        "" if given.num_samples == 1 else "s",
        target,
    )


def write_forecast(
    surrogate: Surrogate, given: LabelledInput, steps: int, batch_size: int, output: str | Path
) -> Path:
    """Write a forecast to a netCDF-4 file, frame by frame, and return its path.

    The file appears when it is complete. Memory holds one step of ``batch_size`` samples.

    Raises:
        ValueError: if the forecast does not fit on the disk, the history holds NaN or the forecast diverges.
        OSError: if the file cannot be written.
    """
    import h5netcdf

    target = Path(output)
    channels, dims = forecast_channels(given), forecast_dims(given)
    sizes = dict(zip(dims, (*given.sample_shape, steps, *given.grid), strict=True))
    chunk = tuple(sizes[dim] if dim in given.spec.axis_names else 1 for dim in dims)
    _check_space(target, 4 * len(channels) * math.prod(sizes.values()))
    named = labels(surrogate, given, steps).drop_encoding()
    beside = " ".join(str(name) for name in named.coords if name not in dims)
    with durable_write(target) as temporary:
        named.to_netcdf(temporary, engine="h5netcdf")
        with h5netcdf.File(temporary, "a") as file:
            for dim in dims:
                if dim not in file.dimensions:
                    file.dimensions[dim] = sizes[dim]
            for name in channels:
                variable = file.create_variable(
                    name, dims, np.float32, chunks=chunk, fillvalue=np.float32(np.nan)
                )
                facts = attributes(given, name) | ({"coordinates": beside} if beside else {})
                for key, value in facts.items():
                    variable.attrs[key] = value
            for samples, step, frames in frames_of(surrogate, given, steps, batch_size):
                for sample, frame in zip(samples, frames, strict=True):
                    place = tuple(given.place(sample).values())
                    for name, channel in channels.items():
                        file.variables[name][(*place, step)] = frame[channel]
    return target


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file as a Dataset whose values are read when they are used.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if no reader of xarray understands it.
    """
    import xarray

    if not path.exists():
        folder = path.parent
        there = sorted(p.name for p in folder.iterdir())[:12] if folder.is_dir() else []
        raise FileNotFoundError(f"there is no file {path}. Its folder holds {', '.join(there) or 'nothing'}.")
    try:
        dataset = xarray.open_dataset(path, decode_timedelta=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be opened as a dataset ({str(error).splitlines()[0]}). Give a netCDF file, or another that "
            "xarray.open_dataset reads."
        ) from error
    with dataset:
        yield dataset


def open_forecast(path: Path) -> Any:
    """Return a written forecast; its values are read when they are used."""
    import xarray

    return xarray.open_dataset(path, engine="h5netcdf", decode_timedelta=False)


def _until(dataset: Any, initial_time: float | str | None) -> Any:
    """Return the frames up to a time, the last one of the history.

    Raises:
        ValueError: if the dataset has no such time.
    """
    if initial_time is None:
        return dataset
    if TIME not in dataset.coords or dataset[TIME].ndim != 1:
        raise ValueError(
            f"initial_time is {initial_time} and the dataset has no times; leave it out to start from the last frame."
        )
    times = dataset[TIME].values
    wanted: Any = np.datetime64(initial_time) if times.dtype.kind == "M" else initial_time
    try:
        later = times > wanted
    except TypeError as error:
        raise ValueError(
            f"initial_time is {initial_time!r} and the times of the dataset are such as {times[-1]}; give one of those."
        ) from error
    if times.dtype.kind == "f":
        later &= ~np.isclose(times, float(wanted), rtol=1e-6)
    count = int(np.count_nonzero(~later))
    if count == 0 or (
        times.dtype.kind in "fiu" and not np.isclose(times[count - 1], float(wanted), rtol=1e-6)
    ):
        raise ValueError(
            f"initial_time is {initial_time} and no frame is at that time; they run from {times[0]} to {times[-1]}."
        )
    return dataset.isel({TIME: slice(None, count)})


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise ValueError(f"{target} is a folder; name a file, such as {target / 'forecast.nc'}.")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"input and output are the same file, {target}; name another output.")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} is there already. Name another output, or replace it by overwrite=true.")


def _check_space(target: Path, needed: int) -> None:
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"the forecast needs {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free at {target}. Free some "
            "space, or ask for fewer steps or samples."
        )
