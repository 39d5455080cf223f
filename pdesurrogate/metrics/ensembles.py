"""Ensembles: how far the members scatter, and whether the truth looks like one of them.

For M members ``x_i`` of a forecast and the truth ``y``, each number by sample, lead time and field. Norms are over
space and the components of a vector, in standard deviations of the truth, as the VRMSE is. Members are taken to be
exchangeable; the stages of a boosted model are not, and their spread is an indication only.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from .norms import at_least_single, check_shapes, field_norms, field_slices, ratio_to, spatial_means


def ensemble_skill(
    members: Float[Tensor, "member batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Return the VRMSE of the ensemble mean."""
    members, target = _checked(members, target, spec)
    return ratio_to(field_norms(members.mean(0) - target, spec), _deviation(target, spec))


def ensemble_spread(
    members: Float[Tensor, "member batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Return the spread in the same unit: the root of the mean over space of the unbiased variance over members."""
    members, target = _checked(members, target, spec)
    return ratio_to(field_norms(members.std(0, correction=1), spec), _deviation(target, spec))


def spread_skill_ratio(
    spread: Float[Tensor, "*values"], skill: Float[Tensor, "*values"], num_members: int
) -> Float[Tensor, "*values"]:
    """Return ``√((M+1)/M) spread / skill``, 1 for an ensemble whose truth is one more member.

    Below 1 the ensemble is too sure of itself. Fortin et al. 2014, "Why Should Ensemble Spread Match the RMSE of the
    Ensemble Mean?", J. Hydrometeorology 15, equation 15; spread and skill have to be averaged in squares before.
    """
    return ((num_members + 1) / num_members) ** 0.5 * ratio_to(spread, skill)


def fair_crps(
    members: Float[Tensor, "member batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Return the fair continuous ranked probability score, mean over space, over the truth's standard deviation.

    ``1/M Σ_i |x_i - y| - 1/(2M(M-1)) Σ_ij |x_i - x_j|`` of every component at every point. It does not depend on the
    number of members of ensembles from one distribution, and is the absolute error's generalisation to forecasts that
    scatter (Ferro 2014, Q. J. R. Meteorol. Soc. 140, section 3). It may fall below 0 by chance.
    """
    members, target = _checked(members, target, spec)
    count = members.shape[0]
    distance = (members - target).abs().mean(0)
    ordered = members.sort(dim=0).values  # Σ_ij |x_i - x_j| = 2 Σ_i (2i - M + 1) x_(i), i from 0
    ranks = 2.0 * torch.arange(count, dtype=members.dtype, device=members.device) - count + 1
    scatter = (ordered * ranks.view(-1, *[1] * (members.ndim - 1))).sum(0) / (count * (count - 1))
    score = spatial_means(distance - scatter, spec).flatten(3)[..., 0]
    means = torch.stack([score[:, :, part].mean(-1) for part in field_slices(spec)], dim=-1)
    scales = [
        spatial_means((target - spatial_means(target, spec)).square(), spec).flatten(3)[..., 0][:, :, part]
        for part in field_slices(spec)
    ]
    return ratio_to(means, torch.stack([scale.mean(-1).sqrt() for scale in scales], dim=-1))


def coverage(
    members: Float[Tensor, "member batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """Return the share of space where the truth lies between the smallest and the largest member.

    An ensemble whose truth is one more member has ``(M - 1) / (M + 1)``, see `expected_coverage`.
    """
    members, target = _checked(members, target, spec)
    inside = (members.amin(0) <= target) & (target <= members.amax(0))
    share = spatial_means(inside.to(target.dtype), spec).flatten(3)[..., 0]
    return torch.stack([share[:, :, part].mean(-1) for part in field_slices(spec)], dim=-1)


def expected_coverage(num_members: int) -> float:
    """Return ``(M - 1) / (M + 1)``: how often one of M + 1 equal draws lies between the extremes of the others."""
    return (num_members - 1) / (num_members + 1)


def _checked(members: Tensor, target: Tensor, spec: DataSpec) -> tuple[Tensor, Tensor]:
    if members.shape[0] < 2:
        raise ValueError(f"an ensemble needs at least 2 members; given: {members.shape[0]}.")
    check_shapes(members[0], target, spec)
    return at_least_single(members), at_least_single(target)


def _deviation(target: Tensor, spec: DataSpec) -> Tensor:
    return field_norms(target - spatial_means(target, spec), spec)
