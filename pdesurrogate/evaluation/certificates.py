"""Certificates: which properties of the flow a surrogate has, by measurement, and whether it should.

Each is a relative error over test states in physical units, 0 where the property holds. Beside it stands whether the
model was built to have it, so that anything above rounding is a defect, and whether the equation has it, so that a
model without it has something to learn. Of symmetries the equation's own solver is asked, where the data say which
it was; conservation is read off the truth.

=================  ===================================================================================================
property           measured
=================  ===================================================================================================
shift              ``f`` against a shift by a third of every periodic axis, on a sphere by a third of a turn about
                   its axis
rotation           a quarter turn of the plane; on a sphere a half turn about an axis through the equator
reflection         a mirror image of the plane; on a sphere those at the equator and at a meridian, the larger
resolution         `Transfer.inconsistency`, the largest over grids
conservation of X  change of a balance over one step, see `pdesurrogate.metrics.balances`
=================  ===================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.point_group import (
    MIRROR,
    QUARTER_TURN,
    Element,
    channel_action,
    point_group,
    require_square,
    transform,
    unlike_boundaries,
)
from ..metrics.balances import balance_scales, balances, measure_balances
from ..models.equivariance import Act, Step, commutation_error
from .contenders import Native
from .resolution import Transfer

ROUNDING = 1e-4
"""Relative error of single-precision forecasts up to which a property is exact."""
BROKEN = 1e-3
"""Relative error of the solver from which on its equation does not have a property."""


@dataclass(frozen=True)
class Certificate:
    """One property of one model.

    Attributes:
        name: of the property.
        label: of the model.
        error: measured; None where it cannot be.
        by_model: whether the model was built to have it.
        is_exact: whether it is to hold to rounding; a function between grids holds up to aliasing.
        by_equation: whether the equation has it; None where nobody knows.
        equation_error: by which this was decided; None where nothing was measured.
        note: what was done, or why there is no number.
    """

    name: str
    label: str
    error: float | None
    by_model: bool
    by_equation: bool | None
    equation_error: float | None = None
    note: str = ""
    is_exact: bool = True

    @property
    def is_violated(self) -> bool:
        """Whether a property that the model was built to have is not there."""
        exact = self.by_model and self.is_exact
        return exact and self.error is not None and not self.error <= ROUNDING


def certify(
    native: Native,
    frames: Float[Tensor, "batch history channel *space"],
    parameters: Float[Tensor, "batch parameter"],
    truth: Float[Tensor, "batch time channel *space"],
    transfers: Sequence[Transfer],
    solve: Step | None = None,
) -> list[Certificate]:
    """Return all certificates of a surrogate on one grid.

    Args:
        native: the surrogate.
        frames: test states, the history of its step.
        parameters: of the equation.
        truth: the last of these states and what followed one frame later, by which conservation is judged.
        transfers: what sampling does to it on other grids.
        solve: one frame of the equation's solver on this grid; None where there is none.
    """
    spec, model = native.surrogate.spec, native.surrogate.model
    window = frames[:, -native.history :]
    found = []
    for name, acts in symmetries(spec, tuple(frames.shape[3:])).items():
        declared = name in getattr(model, "symmetries", ())
        if isinstance(acts, str):
            found.append(Certificate(name, native.label, None, declared, False, note=acts))
            continue
        error = _worst(native.surrogate.step, acts, window, parameters)
        own = None if solve is None else _worst(solve, acts, frames, parameters)
        found.append(
            Certificate(name, native.label, error, declared, None if own is None else own < BROKEN, own)
        )
    found.append(_of_resolution(native, transfers))
    return found + _conservation(native, window, parameters, truth)


def symmetries(spec: DataSpec, grid: tuple[int, ...]) -> dict[str, list[Act] | str]:
    """Return what shift, rotation and reflection are on a grid, or why the domain has none, in a sentence."""
    return _of_sphere(spec, grid) if spec.geometry == "sphere" else _of_plane(spec, grid)


def _of_plane(spec: DataSpec, grid: tuple[int, ...]) -> dict[str, list[Act] | str]:
    found: dict[str, list[Act] | str] = {}
    axes = [dim - spec.ndim for dim, axis in enumerate(spec.axes) if axis.boundary == "periodic"]
    shifts = [max(1, grid[dim] // 3) for dim in axes]
    found["shift"] = [lambda u: u.roll(shifts, axes)] if axes else "No axis is periodic."
    for name, group_name, matrix in (("rotation", "p4", QUARTER_TURN), ("reflection", "pm", MIRROR)):
        group = point_group(group_name)
        try:
            actions = channel_action(group, spec)
            require_square("The domain", group, spec, grid)
            if unlike := unlike_boundaries(group, spec):
                raise ValueError(f"the last two axes have unlike boundaries, {unlike[0]} and {unlike[1]}.")
        except ValueError as error:
            found[name] = f"{str(error)[0].upper()}{str(error)[1:]}"
            continue
        element = Element(matrix)
        action = actions[group.elements.index(element)]
        found[name] = [partial(transform, element=element, action=action, axes=spec.axes)]
    return found


def _of_sphere(spec: DataSpec, grid: tuple[int, ...]) -> dict[str, list[Act] | str]:
    vectors = [f.name for f in spec.fields if f.kind == "vector" and set(f.components) != {"lon", "lat"}]
    if vectors:
        words = f"The vector {vectors[0]} has components other than those along lon and lat."
        return {
            "shift": [lambda u: u.roll(max(1, grid[-1] // 3), -1)],
            "rotation": words,
            "reflection": words,
        }
    at_equator, at_meridian = _signs(spec, "lat", -1), _signs(spec, "lon", -1)

    def equator(u: Tensor) -> Tensor:
        return u.flip(-2) * at_equator.to(u)

    def meridian(u: Tensor) -> Tensor:
        return u.flip(-1).roll(1, -1) * at_meridian.to(u)

    return {
        "shift": [lambda u: u.roll(max(1, grid[-1] // 3), -1)],
        "rotation": [lambda u: equator(meridian(u))],
        "reflection": [equator, meridian],
    }


def _signs(spec: DataSpec, component: str, parity: int) -> Float[Tensor, "channel 1 1"]:
    """Return by what channels are multiplied in a mirror that turns one component of vectors round."""
    signs = []
    for field in spec.fields:
        if field.kind == "vector":
            signs += [-1.0 if name == component else 1.0 for name in field.components]
        else:
            signs.append(float(parity) if field.kind == "pseudoscalar" else 1.0)
    return torch.tensor(signs).view(-1, 1, 1)


def _worst(step: Step, acts: Sequence[Act], frames: Tensor, parameters: Tensor) -> float:
    return max(commutation_error(step, act, frames, parameters) for act in acts)


def _of_resolution(native: Native, transfers: Sequence[Transfer]) -> Certificate:
    own = [t for t in transfers if t.label == native.label]
    # A model whose future depends on the spacing, or one of a fixed grid, is not one and the same on all grids.
    model = native.surrogate.model
    declared = getattr(model, "grids", "any") != "fixed" and getattr(model, "convergence", None) is None
    if not own:
        words = "No other grid that this model takes."
        return Certificate("resolution", native.label, None, declared, True, note=words, is_exact=False)
    worst = max(own, key=lambda t: float(t.inconsistency.mean()))
    error = float(worst.inconsistency.mean())
    note = f"Largest at {' × '.join(map(str, worst.grid))}."
    return Certificate("resolution", native.label, error, declared, True, note=note, is_exact=False)


@torch.no_grad()
def _conservation(native: Native, window: Tensor, parameters: Tensor, truth: Tensor) -> list[Certificate]:
    spec = native.surrogate.spec
    before, after = truth[:, :1], truth[:, -1:]
    scales = balance_scales(before, spec)

    def change(later: Tensor) -> list[float]:
        moved = (measure_balances(later, spec) - measure_balances(before, spec)).abs()
        return _means(torch.where(moved == 0, 0.0, moved / scales))

    own, true = change(native.surrogate.step(window, parameters)[:, :1]), change(after)
    return [
        Certificate(f"conservation of {b.name}", native.label, error, False, exact <= BROKEN / 10, exact)
        for b, error, exact in zip(balances(spec), own, true, strict=True)
    ]


def _means(values: Tensor) -> list[float]:
    flat = values.flatten(0, -2).double()
    return [float(v) if math.isfinite(v) else math.inf for v in flat.mean(0)]
