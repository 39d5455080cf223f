"""States and solutions with names: ``xarray.Dataset`` to tensors of an equation and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pdesurrogate.fields import Field
from pdesurrogate.version import __version__

from .equation import Equation

TRAJECTORY, TIME = "trajectory", "time"


def state_of(equation: Equation, dataset: Any) -> tuple[Float[Tensor, "batch channel *space"], list[str]]:
    """Return the state that a Dataset holds, and what to call its trajectories.

    The names are the labels of its coordinate ``trajectory``, or numbers from 0.

    Raises:
        ValueError: if a variable is missing, has other dimensions or units, if coordinates are not the
            equation's, or a parameter that is recorded beside the state has another value there.
    """
    axes = [axis.name for axis in equation.axes]
    channels = [(name, field) for field in equation.fields for name in field.channel_names]
    has_batch = TRAJECTORY in dataset.dims
    dims = [TRAJECTORY, *axes] if has_batch else axes
    arrays = [_variable(dataset, name, field, dims) for name, field in channels]
    _check_coordinates(equation, dataset)
    stacked = np.stack(arrays, axis=1 if has_batch else 0)
    num = len(stacked) if has_batch else 1
    _check_parameters(equation, dataset, num)
    labels = dataset[TRAJECTORY].values.tolist() if TRAJECTORY in dataset.coords else list(range(num))
    names = [str(label) for label in np.atleast_1d(np.asarray(labels, dtype=object))]
    state = torch.from_numpy(np.ascontiguousarray(stacked))
    return (state if has_batch else state[None]), names


def to_dataset(
    equation: Equation,
    solution: Float[Tensor, "batch time channel *space"],
    times: Sequence[float],
    initial: Any,
) -> Any:
    """Return a solution as a Dataset with the coordinates of its initial state, the times and attributes."""
    import xarray

    has_batch = TRAJECTORY in initial.dims
    values = solution.cpu().numpy()
    dims = [TRAJECTORY, TIME] if has_batch else [TIME]
    dims += [axis.name for axis in equation.axes]
    channels = [(name, field) for field in equation.fields for name in field.channel_names]
    variables = {
        name: (dims, values[:, :, i] if has_batch else values[0, :, i], _attributes(field))
        for i, (name, field) in enumerate(channels)
    }
    coords: dict[str, Any] = {TIME: (TIME, np.asarray(times, dtype=np.float64))}
    for axis, size in zip(equation.axes, values.shape[3:], strict=True):
        coords[axis.name] = (axis.name, axis.coordinates(size), {"units": axis.units})
    if has_batch and TRAJECTORY in initial.coords:
        coords[TRAJECTORY] = initial.coords[TRAJECTORY]
    attributes = {"equation": describe(equation), "pdesurrogate_version": __version__}
    return xarray.Dataset(variables, coords, {**initial.attrs, **attributes})


def describe(equation: Equation) -> str:
    """Return the name and parameters of an equation as text."""
    if not dataclasses.is_dataclass(equation):
        return type(equation).__name__
    values = {f.name: getattr(equation, f.name) for f in dataclasses.fields(equation)}
    texts = [f"{k}={_text(v)}" for k, v in values.items()]
    return f"{type(equation).__name__}({', '.join(texts)})"


def _text(value: Any) -> str:
    """Return a parameter as text; fields, such as the ground, by their shape."""
    if not isinstance(value, Tensor):
        return str(value)
    return f"tensor of shape {tuple(value.shape)}" if value.ndim > 1 else str(value.tolist())


def _variable(dataset: Any, name: str, field: Field, dims: Sequence[str]) -> np.ndarray:
    if name not in dataset:
        raise ValueError(
            f"the initial state lacks the variable {name!r}; it holds {', '.join(map(str, dataset.data_vars))}."
        )
    array = dataset[name]
    if TIME in array.dims:
        raise ValueError(
            f"{name!r} has the dimension 'time' and an initial state is one time: choose it with dataset.isel(time=0)."
        )
    if set(array.dims) != set(dims):
        raise ValueError(f"{name!r} has the dimensions {array.dims}; needed are {tuple(dims)}.")
    units = array.attrs.get("units", field.units)
    if units != field.units:
        raise ValueError(
            f"{name!r} is in units of {units!r} and the equation is in {field.units!r}; convert it."
        )
    return array.transpose(*dims).values


def _attributes(field: Field) -> dict[str, str]:
    return {"units": field.units, **({"long_name": field.long_name} if field.long_name else {})}


def _check_coordinates(equation: Equation, dataset: Any) -> None:
    for axis in equation.axes:
        if axis.name not in dataset.coords:
            continue
        coordinate = dataset[axis.name]
        units = coordinate.attrs.get("units", axis.units)
        if units != axis.units:
            raise ValueError(
                f"the axis {axis.name!r} is in units of {units!r} and the equation is in {axis.units!r}; convert it."
            )
        found, expected = coordinate.values, axis.coordinates(coordinate.size)
        if not np.allclose(found, expected, rtol=0, atol=1e-4 * axis.length / coordinate.size):
            raise ValueError(
                f"the coordinates of {axis.name!r} run from {found[0]:g} to {found[-1]:g}; {type(equation).__name__} "
                f"has {len(found)} points from {expected[0]:g} to {expected[-1]:g} there. Check its lengths, and that "
                "the end of a periodic axis appears once."
            )


def _check_parameters(equation: Equation, dataset: Any, num: int) -> None:
    """Compare parameters of the equation with variables of the same name."""
    if not dataclasses.is_dataclass(equation):
        return
    for parameter in dataclasses.fields(equation):
        value = getattr(equation, parameter.name)
        is_number = isinstance(value, float | int | Tensor) and not isinstance(value, bool)
        is_field = isinstance(value, Tensor) and value.ndim > 1
        if not is_number or is_field or parameter.name not in dataset:
            continue
        mine = np.broadcast_to(np.asarray(value, dtype=np.float64), (num,))
        theirs = np.asarray(dataset[parameter.name].values, dtype=np.float64)
        if theirs.size not in (1, num) or not np.allclose(theirs.reshape(-1), mine, rtol=1e-5, atol=0):
            raise ValueError(
                f"the Dataset records {parameter.name} = {theirs.reshape(-1).tolist()} and the equation has "
                f"{value}. Build the equation with the recorded value, or drop the variable."
            )
