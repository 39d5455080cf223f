"""Instance normalisation of a field by its modes, before or after a map of these.

    v ← (v - m) / sqrt( var + ε )

with mean and variance over all points, and over the elements of a group, of one sample and channel.

The mean of a field is its mode ``k = 0`` and its mean square, by Parseval, the sum of ``|v̂(k)|²`` over all modes. A
field that exists as kept modes alone is therefore normalised without being evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .group_tables import kept_modes
from .mode_products import Modes
from .tracing import needs_plain_operations

EPSILON = 1e-5
"""``ε``, as in torch's instance norm."""


def kept_multiplicity(num_modes: Sequence[int]) -> Float[Tensor, " mode"]:
    """Return how many modes of the whole spectrum each kept one stands for: 2 where only ``k`` of ``±k`` is kept."""
    half = len(num_modes) - 1
    return torch.tensor([2.0 if mode[half] else 1.0 for mode in kept_modes(num_modes)])


def normalise_modes(modes: Modes, v: Float[Tensor, "batch *layout channel"], order: int) -> Modes:
    """Return the modes of the normalised field, in either form of a spectrum.

    Args:
        modes: kept modes of the field, channels ``(element, channel)``.
        v: the field, which may have other modes too.
        order: elements over which statistics are shared.
    """
    mean = _over_elements(_real(modes)[0], order)
    points = v.to(mean.dtype).flatten(1, -2)
    if needs_plain_operations(points, mean):
        squares = (points - mean[:, None]).square().mean(dim=1)
    else:
        squares = _SquaredDeviation.apply(points, mean)
    return _shifted(modes, mean) * (_over_elements(squares, order) + EPSILON).rsqrt()


def normalise_kept(modes: Modes, multiplicity: Float[Tensor, " mode"], order: int) -> Modes:
    """Return the modes of the normalised field, which has these modes alone.

    Args:
        modes: of the field, channels ``(element, channel)``.
        multiplicity: see `kept_multiplicity`.
        order: elements over which statistics are shared.
    """
    centred = _shifted(modes, _over_elements(_real(modes)[0], order))
    if centred.ndim == 4:
        squares = centred.square().sum(dim=0)
    else:
        pairs = torch.view_as_real(centred) if centred.is_complex() else centred[..., None]
        squares = pairs.square().sum(dim=-1)
    variance = torch.tensordot(multiplicity.to(squares.dtype), squares, dims=1)
    return centred * (_over_elements(variance, order) + EPSILON).rsqrt()


class _SquaredDeviation(torch.autograd.Function):
    """``mean_x (v - m)²``; deviations, not ``E v² - m²``, of which nothing would be left where the two are close.

    As the mean over points and elements makes the sum of squares least, its own gradient is zero.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor, mean: Tensor) -> Tensor:
        ctx.save_for_backward(points, mean)
        # Sample by sample, so that the deviations stay in cache.
        return torch.stack([(u - m).square_().mean(dim=0) for u, m in zip(points, mean, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        points, mean = ctx.saved_tensors
        factor = gradient[:, None] * (2 / points.shape[1])
        return torch.addcmul(-mean[:, None] * factor, points, factor), None


def _real(modes: Modes) -> Tensor:
    return modes[0] if modes.ndim == 4 else modes.real if modes.is_complex() else modes


def _over_elements(statistic: Float[Tensor, "batch channel"], order: int) -> Float[Tensor, "batch channel"]:
    """Return the mean over elements, for every element again."""
    if order == 1:
        return statistic
    return statistic.unflatten(1, (order, -1)).mean(dim=1).repeat(1, order)


def _shifted(modes: Modes, mean: Float[Tensor, "batch channel"]) -> Modes:
    """Return the modes of a field minus a constant."""
    if modes.ndim == 4:
        zero = torch.stack([modes[0, :1] - mean, *modes[1:, :1]])
        return torch.cat([zero, modes[:, 1:]], dim=1)
    return torch.cat([modes[:1] - mean, modes[1:]])
