"""What a labelled dataset must hold to be forecast, and the windows that are read from it, a few samples at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Axis, DataSpec, Field
from ..fields.units import same_units, with_space
from ..registry import did_you_mean
from ..surrogate import Surrogate
from .labelled_times import check_steps

TIME = "time"
_OTHER_NAMES = {"latitude": "lat", "longitude": "lon", "nav_lat": "lat", "nav_lon": "lon"}


@dataclass(frozen=True)
class LabelledInput:
    """A checked dataset, cut to the last frames that a forecast starts from; nothing of its fields is read yet.

    Attributes:
        dataset: the ``xarray.Dataset``; its dimension ``time``, where it has one, is the history.
        spec: of the surrogate.
        history: number of frames of a window.
        sample_dims: dimensions besides time and space, over which forecasts are independent.
        sample_shape: their sizes.
        grid: points along each axis of space, in the order of ``spec.axes``.
        parameters: PDE parameters of every sample, ``(*sample_shape, parameter)``, float32.
    """

    dataset: Any
    spec: DataSpec
    history: int
    sample_dims: tuple[str, ...]
    sample_shape: tuple[int, ...]
    grid: tuple[int, ...]
    parameters: np.ndarray

    @property
    def num_samples(self) -> int:
        """Number of forecasts."""
        return math.prod(self.sample_shape)

    def window(
        self, samples: Sequence[int]
    ) -> tuple[Float[Tensor, "batch history channel *space"], Float[Tensor, "batch parameter"]]:
        """Read the history and the parameters of some samples, numbered in C order.

        Raises:
            ValueError: if a value is NaN or infinite, naming the variable, the sample and the time.
        """
        places = [self.place(sample) for sample in samples]
        windows = np.stack(
            [np.stack([self._frames(n, p) for n in self.spec.channel_names], 1) for p in places]
        )
        parameters = np.stack([self.parameters[tuple(place.values())] for place in places])
        return torch.from_numpy(windows), torch.from_numpy(parameters)

    def place(self, sample: int) -> dict[str, int]:
        """Return the index of a sample along each of its dimensions."""
        return dict(zip(self.sample_dims, map(int, np.unravel_index(sample, self.sample_shape)), strict=True))

    def _frames(self, name: str, place: Mapping[str, int]) -> np.ndarray:
        """Return a channel of one sample as float32 ``(history, *space)``; what has no time is repeated."""
        array = self.dataset[name].isel(
            {dim: i for dim, i in place.items() if dim in self.dataset[name].dims}
        )
        dims = [TIME] * (TIME in array.dims) + list(self.spec.axis_names)
        values = np.asarray(array.transpose(*dims).values, dtype=np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            where = dict(zip(dims, map(int, np.argwhere(~finite)[0]), strict=True))
            at = ", ".join(f"{dim} {index}" for dim, index in {**place, **where}.items())
            raise ValueError(
                f"the variable {name!r} holds NaN or infinite values ({np.count_nonzero(~finite)}, the first at {at}) "
                f"and a forecast needs every value. Fill them first, or choose samples and times without."
            )
        return (
            np.broadcast_to(values, (self.history, *self.grid)) if values.ndim == len(self.grid) else values
        )


def check_dataset(
    surrogate: Surrogate, dataset: Any, parameters: Mapping[str, float] | None = None
) -> LabelledInput:
    """Compare a dataset with what a surrogate was trained on, before anything heavy runs.

    Args:
        surrogate: what is to forecast.
        dataset: ``xarray.Dataset`` with one variable a channel; its other variables are ignored.
        parameters: PDE parameters that the dataset has no variables for.

    Raises:
        TypeError: if it is no Dataset.
        ValueError: for a variable, dimension, unit, coordinate, time step, parameter or grid that does not fit; the
            sentence names what the dataset has and what the surrogate needs.
    """
    import xarray

    if not isinstance(dataset, xarray.Dataset):
        hint = (
            " Turn it into one: array.to_dataset(name='...')."
            if isinstance(dataset, xarray.DataArray)
            else ""
        )
        raise TypeError(f"predict takes an xarray.Dataset and was given a {type(dataset).__name__}.{hint}")
    spec = surrogate.spec
    for field in spec.fields:
        for name in field.channel_names:
            _check_variable(dataset, name, field, spec)
    for axis in spec.axes:
        _check_axis(dataset, axis)
    variables = [dataset[name] for name in spec.channel_names]
    inner = {TIME, *spec.axis_names}
    sample_dims = tuple(dict.fromkeys(str(d) for v in variables for d in v.dims if d not in inner))
    cut = _last_frames(dataset, spec, surrogate.history)
    grid = tuple(int(dataset.sizes[name]) for name in spec.axis_names)
    shape = tuple(int(dataset.sizes[dim]) for dim in sample_dims)
    values = _parameters(dataset, spec, parameters or {}, sample_dims, shape)
    surrogate.check_grid(grid)
    return LabelledInput(cut, spec, surrogate.history, sample_dims, shape, grid, values)


def _check_variable(dataset: Any, name: str, field: Field, spec: DataSpec) -> None:
    if name not in dataset:
        there = [str(other) for other in dataset.data_vars]
        unused = [other for other in there if other not in (*spec.channel_names, *spec.parameter_names)]
        raise ValueError(
            f"the dataset lacks the variable {name!r}; it holds {', '.join(there) or 'none'} and the surrogate needs "
            f"{', '.join(spec.channel_names)}.{did_you_mean(name, unused)} If it goes by another name there: "
            f"dataset.rename({{'other name': {name!r}}})."
        )
    array = dataset[name]
    dims = tuple(map(str, array.dims))
    missing = [axis for axis in spec.axis_names if axis not in dims]
    if missing:
        names = {dim: _OTHER_NAMES[dim] for dim in dims if _OTHER_NAMES.get(dim) in missing}
        advice = f"Rename them: dataset.rename({names})." if names else "Rename or add dimensions."
        raise ValueError(
            f"the variable {name!r} has the dimensions ({', '.join(dims)}) and the surrogate works on "
            f"({', '.join(spec.axis_names)}): {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. "
            f"{advice}"
        )
    if 0 in array.shape:
        sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
        raise ValueError(f"the variable {name!r} is empty (sizes: {sizes}); a forecast needs a state.")
    if array.dtype.kind not in "fiu":
        raise ValueError(
            f"the variable {name!r} holds values of type {array.dtype}; fields are real numbers."
        )
    units = str(array.attrs.get("units", field.units))
    if not same_units(units, field.units):
        raise ValueError(
            f"the variable {name!r} is in units of {units!r} and the surrogate was trained in {field.units!r}. "
            "Convert the values and set attrs['units']."
        )


def _check_axis(dataset: Any, axis: Axis) -> None:
    if axis.name not in dataset.coords:
        return
    coordinate = dataset[axis.name]
    units = str(coordinate.attrs.get("units", axis.units))
    if not same_units(units, axis.units):
        raise ValueError(
            f"the axis {axis.name!r} is in units of {units!r} and the surrogate was trained in {axis.units!r}. "
            "Convert the coordinate and set attrs['units']."
        )
    found, expected = np.asarray(coordinate.values, dtype=np.float64), axis.coordinates(coordinate.size)
    spacing = axis.length / coordinate.size
    close = 1e-2 * spacing + 1e-6 * np.abs(expected).max()
    if (np.abs(found - expected) <= close).all():
        return
    ends = (
        f"the coordinate {axis.name!r} runs from {found[0]:g} to {found[-1]:g} and the surrogate was trained on "
        f"{axis.name!r} from {expected[0]:g} to {expected[-1]:g} at that size"
    )
    if (np.abs(found[::-1] - expected) <= close).all():
        raise ValueError(
            f"{ends}: the axis is flipped. Turn it: dataset.sortby({axis.name!r}, ascending={not axis.is_descending})."
        )
    kind = f"{axis.nodes} latitudes" if axis.nodes else "evenly spaced points"
    raise ValueError(
        f"{ends} ({kind}, length {axis.length:g}, boundary {axis.boundary!r}). Interpolate to these points, or correct "
        "the coordinate; the end of a periodic axis appears once."
    )


def _last_frames(dataset: Any, spec: DataSpec, history: int) -> Any:
    """Return the dataset with its last ``history`` frames, after checking that they are there and ``dt`` apart."""
    moving = [name for field in spec.forecast_fields for name in field.channel_names]
    timeless = [name for name in moving if TIME not in dataset[name].dims]
    if timeless and (history > 1 or len(timeless) < len(moving)):
        raise ValueError(
            f"the variable {timeless[0]!r} has no dimension 'time' and the surrogate needs {history} "
            f"frame{'s' if history > 1 else ''} of {', '.join(moving)}, {spec.dt:g}{with_space(spec.time_units)} apart."
        )
    if TIME not in dataset.dims:
        return dataset
    available = int(dataset.sizes[TIME])
    if available < history:
        raise ValueError(
            f"the dataset has {available} frame{'s' if available > 1 else ''} along 'time' and the surrogate needs "
            f"{history}."
        )
    cut = dataset.isel({TIME: slice(available - history, None)})
    if TIME in cut.coords:
        check_steps(dataset[TIME][-max(history, 2) :], spec, history)
    elif history > 1:
        raise ValueError(
            f"the dataset has no coordinate 'time', so that nobody can tell whether its frames are {spec.dt:g} "
            f"{spec.time_units} apart, as the surrogate needs them. Add it: dataset.assign_coords(time=...)."
        )
    return cut


def _parameters(
    dataset: Any,
    spec: DataSpec,
    given: Mapping[str, float],
    sample_dims: Sequence[str],
    shape: Sequence[int],
) -> np.ndarray:
    """Return the PDE parameters of every sample, ``(*sample_shape, parameter)``."""
    for name in given:
        if name not in spec.parameter_names:
            raise ValueError(
                f"the parameter {name!r} was given and the surrogate has "
                f"{', '.join(spec.parameter_names) or 'none'}.{did_you_mean(name, spec.parameter_names)}"
            )
    columns = np.empty((*shape, spec.num_parameters), dtype=np.float32)
    for column, parameter in enumerate(spec.parameters):
        name = parameter.name
        if name in given:
            columns[..., column] = given[name]
        elif name in dataset:
            columns[..., column] = _parameter(dataset[name], parameter.units, sample_dims, shape)
        else:
            units = "" if parameter.units == "1" else f" ({parameter.units})"
            raise ValueError(
                f"the surrogate needs the PDE parameter {name!r}{units} and the dataset has no variable of that "
                f"name. Add it, dataset.assign({name}=...), or give it: parameters={{{name!r}: ...}}."
            )
        if not np.isfinite(columns[..., column]).all():
            raise ValueError(f"the PDE parameter {name!r} is not finite.")
    return columns


def _parameter(array: Any, units: str, sample_dims: Sequence[str], shape: Sequence[int]) -> np.ndarray:
    found = str(array.attrs.get("units", units))
    if not same_units(found, units):
        raise ValueError(
            f"the PDE parameter {array.name!r} is in units of {found!r} and the surrogate was trained in {units!r}. "
            "Convert the value and set attrs['units']."
        )
    strange = [str(dim) for dim in array.dims if dim not in sample_dims]
    if strange:
        raise ValueError(
            f"the PDE parameter {array.name!r} varies along {', '.join(strange)}; it must be constant in time and "
            f"space and may vary over {', '.join(sample_dims) or 'nothing'}."
        )
    ordered = array.transpose(*(dim for dim in sample_dims if dim in array.dims)).values
    return np.broadcast_to(
        ordered.reshape([n if d in array.dims else 1 for d, n in zip(sample_dims, shape, strict=True)]), shape
    )
