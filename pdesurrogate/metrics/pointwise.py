"""Errors by the length of the error at a point: its mean, its maximum, and at the ends of the domain.

The length of a vector field's error is Euclidean, so that the numbers do not depend on how the axes are turned.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from . import METRICS
from .norms import at_least_single, check_shapes, field_slices, ratio_to, spatial_means


@METRICS.register("relative_l1")
def relative_l1(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Relative L1 error ``∫|p - t| / ∫|t|`` over space; points are weighted by area on a sphere.

    It counts a large error in one place less than the L2 error does: a front that is a point too far costs in
    proportion to that point.
    """
    return _relative(
        prediction, target, spec, lambda lengths: spatial_means(lengths, spec).flatten(3)[..., 0]
    )


@METRICS.register("relative_max")
def relative_max(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Relative maximum error ``max|p - t| / max|t|`` over the points of the grid."""
    return _relative(prediction, target, spec, lambda lengths: lengths.flatten(3).amax(-1))


@METRICS.register("boundary_error")
def boundary_error(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Relative L2 error ``‖p - t‖ / ‖t‖`` over the outermost points of the axes that are not periodic.

    The bRMSE of PDEBench (Takamoto et al. 2022, section 4), relative and per field. Corners count once.

    Raises:
        ValueError: if the domain has no boundary: a periodic box or a sphere.
    """
    check_shapes(prediction, target, spec)
    edge = boundary_points(spec, target.shape[3:]).to(target.device)

    def over_edge(lengths: Tensor) -> Tensor:
        return torch.linalg.vector_norm(lengths[..., edge], dim=-1)

    return _relative(prediction, target, spec, over_edge)


def boundary_points(spec: DataSpec, grid: tuple[int, ...] | torch.Size) -> Tensor:
    """Return which points of a grid are the first or the last along an axis that is not periodic.

    Raises:
        ValueError: if there is no such axis.
    """
    if spec.geometry == "sphere" or spec.is_periodic:
        where = "a sphere" if spec.geometry == "sphere" else f"periodic along {', '.join(spec.axis_names)}"
        raise ValueError(f"the domain is {where} and has no boundary; leave boundary_error out of metrics.")
    edge = torch.zeros(tuple(grid), dtype=torch.bool)
    for dim, boundary in enumerate(spec.boundaries):
        if boundary != "periodic":
            edge.movedim(dim, 0)[[0, -1]] = True
    return edge


def _relative(prediction: Tensor, target: Tensor, spec: DataSpec, condense) -> Tensor:  # type: ignore[no-untyped-def]
    check_shapes(prediction, target, spec)
    prediction, target = at_least_single(prediction), at_least_single(target)
    error, scale = (condense(_lengths(u, spec)) for u in (prediction - target, target))
    return ratio_to(error, scale)


def _lengths(u: Tensor, spec: DataSpec) -> Tensor:
    """Return the length of each field at each point, ``(batch, time, field, *space)``."""
    return torch.stack([torch.linalg.vector_norm(u[:, :, part], dim=2) for part in field_slices(spec)], dim=2)
