"""Relative errors in the L2 and H1 norms and in units of the standard deviation, per sample, time and field.

The components of a vector field are measured jointly, so that the numbers do not depend on how the axes
are turned. Points are weighted equally, which is the L2 norm on a uniformly sampled plane; on a sphere they
are weighted by the area that the quadrature of its latitudes gives them. All functions are differentiable; at
an exact prediction the gradient is zero, not NaN.

There is no epsilon in a denominator. Where the target's norm is zero, the error is 0 for an exact
prediction and infinite for any other: a small constant would hide exactly the samples that need a look.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.fourier import derivative
from ..fields.spherical.grid import spherical_grid
from . import METRICS
from .areas import area_shares, slope_norms


@METRICS.register("nrmse")
@METRICS.register("relative_l2")
def relative_l2(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Relative L2 error ``‖p - t‖ / ‖t‖`` over space, for each sample, time and field.

    The measure of Li et al. (2021, "Fourier Neural Operator for Parametric PDEs", ICLR, section 5). Per
    sample and field it equals the nRMSE of PDEBench (Takamoto et al. 2022, section 4), and goes by that name too.
    """
    check_shapes(prediction, target, spec)
    prediction, target = at_least_single(prediction), at_least_single(target)
    return ratio_to(field_norms(prediction - target, spec), field_norms(target, spec))


@METRICS.register("vrmse")
def vrmse(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Root mean square error in standard deviations of the target, ``‖p - t‖ / ‖t - mean(t)‖``.

    Unlike the relative L2 error it is not flattered by a large mean: predicting the mean scores 1. The
    VRMSE of The Well (Ohana et al. 2024, NeurIPS Datasets and Benchmarks, section 4), without its epsilon.
    """
    check_shapes(prediction, target, spec)
    prediction, target = at_least_single(prediction), at_least_single(target)
    fluctuation = target - spatial_means(target, spec)
    return ratio_to(field_norms(prediction - target, spec), field_norms(fluctuation, spec))


@METRICS.register("h1")
def h1(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Relative Sobolev error ``‖p - t‖_H1 / ‖t‖_H1`` with ``‖u‖²_H1 = ‖u‖² + (L/2π)² ‖∇u‖²``.

    ``L`` is the longest side of the domain, so that a mode ``k`` of that side weighs ``1 + k²`` and the
    number does not depend on the unit of length (Li et al. 2022, "Learning Chaotic Dynamics in
    Dissipative Systems", NeurIPS, section 3, with s = 1). Derivatives are spectral on periodic axes and
    second-order differences on others. On a sphere ``L`` is the circumference and a harmonic of degree ``l`` weighs
    ``1 + l(l+1)``; see `pdesurrogate.metrics.areas.slope_norms` for winds.
    """
    check_shapes(prediction, target, spec)
    prediction, target = at_least_single(prediction), at_least_single(target)
    return ratio_to(_sobolev_norms(prediction - target, spec), _sobolev_norms(target, spec))


def field_slices(spec: DataSpec) -> list[slice]:
    """Return the channels of each field that is forecast, in order; static fields are given and not measured."""
    slices, start = [], 0
    for field in spec.fields:
        stop = start + len(field.channel_names)
        if not field.is_static:
            slices.append(slice(start, stop))
        start = stop
    return slices


def check_shapes(prediction: Tensor, target: Tensor, spec: DataSpec) -> None:
    """Refuse fields that are not of one shape, or not the spec's.

    Raises:
        ValueError: naming both shapes.
    """
    if (
        prediction.shape != target.shape
        or target.ndim != 3 + spec.ndim
        or target.shape[2] != spec.num_channels
    ):
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must both be (batch, "
            f"time, {spec.num_channels} channels, {', '.join(spec.axis_names)}). Nothing is broadcast."
        )


def at_least_single(u: Tensor) -> Tensor:
    """Return a field in float32 at least: sums over a grid overflow and lose digits in half precision."""
    return u.float() if u.dtype in (torch.float16, torch.bfloat16) else u


def spatial_means(u: Tensor, spec: DataSpec) -> Tensor:
    """Return the mean over space, by area on a sphere, with axes of size one in its place."""
    space = tuple(range(-spec.ndim, 0))
    if spec.geometry == "sphere":
        return (u * area_shares(spec, u.shape[3:], u.dtype, u.device)).sum(space, keepdim=True)
    return u.mean(space, keepdim=True)


def field_norms(u: Tensor, spec: DataSpec) -> Tensor:
    """Return the norm over space and components: ``(batch, time, channel, *space) -> (batch, time, field)``."""
    if spec.geometry == "sphere":
        u = u * area_shares(spec, u.shape[3:], u.dtype, u.device).sqrt()
    return torch.stack(
        [torch.linalg.vector_norm(u[:, :, part].flatten(2), dim=-1) for part in field_slices(spec)], dim=-1
    )


def _sobolev_norms(u: Tensor, spec: DataSpec) -> Tensor:
    if spec.geometry == "sphere":
        grid = spherical_grid(spec, u.shape[3:])
        slopes = torch.stack([slope_norms(u[:, :, part], grid) for part in field_slices(spec)], dim=-1)
        return torch.linalg.vector_norm(torch.stack([field_norms(u, spec), slopes], dim=-1), dim=-1)
    scale = max(spec.lengths) / (2 * math.pi)
    terms = [field_norms(u, spec)]
    for dim, axis in zip(range(-spec.ndim, 0), spec.axes, strict=True):
        if axis.boundary == "periodic":
            slope = derivative(u, dim, axis.length)
        else:
            (slope,) = torch.gradient(u, spacing=axis.length / u.shape[dim], dim=dim, edge_order=2)
        terms.append(scale * field_norms(slope, spec))
    return torch.linalg.vector_norm(torch.stack(terms, dim=-1), dim=-1)


def ratio_to(error: Tensor, scale: Tensor) -> Tensor:
    """Return ``error / scale``; where the scale vanishes, 0 for no error and infinity for any other."""
    vanishes = scale == 0
    ratio = error / torch.where(vanishes, torch.ones_like(scale), scale)
    return torch.where(vanishes & (error > 0), torch.full_like(ratio, math.inf), ratio)
