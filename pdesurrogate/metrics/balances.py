"""What a flow may neither win nor lose: mass, energy, enstrophy, divergence, and what passes through walls.

For a field ``u`` on a domain Ω, with ``<f>`` the mean over Ω (by area on a sphere):

==================  =====================================================  =====================================
balance             formula                                                of
==================  =====================================================  =====================================
``mean NAME``       ``<u>``: the mass of a density, momentum of a velocity  every channel; not of winds on a sphere
``energy of NAME``  ``½ <|u|²>``                                           scalars and vectors
``enstrophy``       ``½ <ω²>``, ``ω = ∂v_x/∂y - ∂v_y/∂x`` up to sign        a 2-D vorticity or velocity
``kinetic energy``  ``½ <|u|²>`` with ``Δψ = -ω, u = (∂ψ/∂y, -∂ψ/∂x)``       a vorticity without a velocity beside it
``divergence``      ``<(∇·u)²>^½``                                         vectors along all axes of a periodic box
``wall flow``       ``<u_n²>^½`` over the points next to walls             vectors with a component across a wall
==================  =====================================================  =====================================

They belong to one field each and go by its name where there are several of a kind. `balance_errors` sets the difference
of prediction and truth in relation to the truth, so that the number has no unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec, Field
from ..fields.fourier import derivative, forward_transform, inverse_transform, wavenumbers
from ..fields.spherical.grid import spherical_grid
from ..fields.spherical.resampling import WIND_COMPONENTS
from ..fields.spherical.transforms import SphericalTransform
from .norms import at_least_single, check_shapes, field_norms, ratio_to, spatial_means

Measure = Callable[[Tensor, DataSpec], Tensor]


@dataclass(frozen=True)
class Balance:
    """One number of a state.

    Attributes:
        name: what tables call it.
        channels: those of its field.
        field: the field.
        measure: from these channels, ``(batch, time, component, *space)``, to ``(batch, time)``.
        scale: what its errors are set in relation to: ``"itself"``, ``"field"`` (the root mean square of the field) or
            ``"slope"`` (that of its gradient), where the balance of the truth may vanish.
    """

    name: str
    channels: slice
    field: Field
    measure: Measure
    scale: str = "itself"


def balances(spec: DataSpec) -> list[Balance]:
    """Return all balances that the fields of a spec have, in the order of the fields; static fields have none."""
    found: list[Balance] = []
    start = 0
    names = [field.name for field in spec.forecast_fields]
    has_velocity = any(field.kind == "vector" for field in spec.forecast_fields)
    for field in spec.fields:
        part = slice(start, start + len(field.channel_names))
        start = part.stop
        if not field.is_static:
            found += _balances_of(field, part, spec, has_velocity=has_velocity, alone=len(names) == 1)
    return found


def measure_balances(
    u: Float[Tensor, "batch time channel *space"], spec: DataSpec
) -> Float[Tensor, "batch time balance"]:
    """Return all balances of fields, in physical units."""
    check_shapes(u, u, spec)
    u = at_least_single(u)
    parts = [balance.measure(u[:, :, balance.channels], spec) for balance in balances(spec)]
    return torch.stack(parts, dim=-1)


def balance_errors(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time balance"]:
    """Return ``|b(p) - b(t)| / s`` of all balances, where ``s`` is what `Balance.scale` says of the target."""
    check_shapes(prediction, target, spec)
    difference = (measure_balances(prediction, spec) - measure_balances(target, spec)).abs()
    return ratio_to(difference, balance_scales(at_least_single(target), spec))


def balance_scales(
    u: Float[Tensor, "batch time channel *space"], spec: DataSpec
) -> Float[Tensor, "batch time balance"]:
    """Return what a change of each balance of a state is small or large against."""
    columns = []
    for balance in balances(spec):
        part, own = u[:, :, balance.channels], spec.replace(fields=(balance.field,))
        if balance.scale == "itself":
            columns.append(balance.measure(part, spec).abs())
        elif balance.scale == "field":
            columns.append(field_norms(part, own)[..., 0] / _root_of_points(u, spec))
        else:
            slopes = [derivative(part, d - spec.ndim, a.length) for d, a in enumerate(spec.axes)]
            columns.append(_root_mean_square(torch.cat(slopes, dim=2), spec))
    return torch.stack(columns, dim=-1)


def _balances_of(
    field: Field, part: slice, spec: DataSpec, *, has_velocity: bool, alone: bool
) -> list[Balance]:
    of = "" if alone else f" of {field.name}"
    found = []
    on_sphere = spec.geometry == "sphere"
    if not (on_sphere and field.kind == "vector"):
        for place, name in enumerate(field.channel_names):
            found.append(Balance(f"mean {name}", part, field, _mean_of(place), "field"))
    is_flat = spec.ndim == 2 and (spec.is_periodic or on_sphere)
    if field.kind == "pseudoscalar" and spec.ndim == 2:
        found.append(Balance(f"enstrophy{of}", part, field, _half_square))
        if is_flat and not has_velocity and field.name == "vorticity":
            found.append(Balance("kinetic energy", part, field, _energy_of_vorticity))
        return found
    found.append(Balance(f"energy of {field.name}", part, field, _half_square))
    if field.kind != "vector":
        return found
    along_all = sorted(field.components) == sorted(spec.axis_names)
    if is_flat and along_all and (not on_sphere or field.components == WIND_COMPONENTS):
        found.append(Balance(f"enstrophy{of}", part, field, _enstrophy_of_velocity(field)))
    if spec.is_periodic and along_all and not on_sphere:
        found.append(Balance(f"divergence{of}", part, field, _divergence(field), "slope"))
    walls = (
        [c for c in field.components if spec.boundaries[spec.axis_names.index(c)] == "wall"]
        if along_all
        else []
    )
    if walls and not on_sphere:
        found.append(Balance(f"wall flow{of}", part, field, _wall_flow(field, walls), "field"))
    return found


def _mean_of(place: int) -> Measure:
    return lambda u, spec: spatial_means(u, spec).flatten(2)[..., place]


def _half_square(u: Tensor, spec: DataSpec) -> Tensor:
    return 0.5 * spatial_means(u.square().sum(2, keepdim=True), spec).flatten(2)[..., 0]


def _energy_of_vorticity(u: Tensor, spec: DataSpec) -> Tensor:
    """``½ Σ |ω̂|² / κ²`` over all modes but the mean: the energy of the flow whose vorticity this is."""
    if spec.geometry == "sphere":
        transform = SphericalTransform(spherical_grid(spec, u.shape[3:]), dtype=u.dtype, device=u.device)
        both = torch.stack(
            [transform.analyse(u[:, :, 0]), torch.zeros_like(transform.analyse(u[:, :, 0]))], -3
        )
        return _half_square(transform.velocity(both), spec)
    spectrum = forward_transform(u, 2)
    squared = _squared_wavenumbers(u, spec)
    root = torch.where(squared > 0, squared, torch.ones_like(squared)).sqrt()
    scaled = torch.where(squared > 0, spectrum / root, torch.zeros_like(spectrum))
    return _half_square(inverse_transform(scaled, u.shape[-2:]), spec)


def _squared_wavenumbers(u: Tensor, spec: DataSpec) -> Tensor:
    (ny, nx), (length_y, length_x) = u.shape[-2:], spec.lengths
    ky = wavenumbers(ny, length_y, half=False, dtype=u.dtype, device=u.device)
    kx = wavenumbers(nx, length_x, half=True, dtype=u.dtype, device=u.device)
    return ky[:, None].square() + kx.square()


def _enstrophy_of_velocity(field: Field) -> Measure:
    def measure(u: Tensor, spec: DataSpec) -> Tensor:
        if spec.geometry == "sphere":
            transform = SphericalTransform(spherical_grid(spec, u.shape[3:]), dtype=u.dtype, device=u.device)
            curl = transform.synthesise(transform.vorticity_divergence(u)[..., 0, :, :])[:, :, None]
            return _half_square(curl, spec)
        first, second = (
            derivative(u[:, :, field.components.index(of)], spec.axis_names.index(along) - 2, length)
            for of, along, length in zip(
                spec.axis_names, reversed(spec.axis_names), reversed(spec.lengths), strict=True
            )
        )
        return _half_square((first - second)[:, :, None], spec)

    return measure


def _divergence(field: Field) -> Measure:
    def measure(u: Tensor, spec: DataSpec) -> Tensor:
        parts = [
            derivative(u[:, :, field.components.index(axis.name)], dim - spec.ndim, axis.length)
            for dim, axis in enumerate(spec.axes)
        ]
        return _root_mean_square(torch.stack(parts).sum(0)[:, :, None], spec)

    return measure


def _wall_flow(field: Field, walls: list[str]) -> Measure:
    def measure(u: Tensor, spec: DataSpec) -> Tensor:
        edges = []
        for component in walls:
            across = u[:, :, field.components.index(component)]
            edges.append(
                across.movedim(spec.axis_names.index(component) - spec.ndim, -1)[..., [0, -1]].flatten(2)
            )
        points = torch.cat(edges, dim=-1)
        return points.square().mean(-1).sqrt()

    return measure


def _root_mean_square(u: Tensor, spec: DataSpec) -> Tensor:
    """Return the root of the mean over space of the squared length of all channels."""
    return spatial_means(u.square().sum(2, keepdim=True), spec).flatten(2)[..., 0].sqrt()


def _root_of_points(u: Tensor, spec: DataSpec) -> float:
    """Return what turns the norms of `field_norms` into root mean squares; those of a sphere are such already."""
    return 1.0 if spec.geometry == "sphere" else math.sqrt(math.prod(u.shape[3:]))
