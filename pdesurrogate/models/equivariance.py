"""How far a model is from commuting with a symmetry: the certificate of equivariance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..fields import DataSpec
from ..fields.point_group import PointGroup, channel_action, transform

Step = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def equivariance_error(
    step: Step,
    spec: DataSpec,
    group: PointGroup,
    history: int,
    grid: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> float:
    """Return ``max_g |f(g u) - g f(u)| / |f(u)|`` over the elements of a group, for one window of random numbers.

    Args:
        step: ``f``, from ``(history, parameters)`` to frames.
        spec: of the data, which says how fields are transformed.
        group: whose elements ``g`` are tried.
        history: number of input frames.
        grid: points along each axis.
        dtype: of the fields.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (1, history, spec.num_channels, *grid)
    frames = torch.randn(shape, generator=generator, dtype=dtype)
    parameters = torch.randn(1, spec.num_parameters, generator=generator, dtype=dtype)
    future = step(frames, parameters)
    worst = 0.0
    for element, action in zip(group.elements, channel_action(group, spec), strict=True):
        moved = step(transform(frames, element, action, spec.axes), parameters)
        error = (moved - transform(future, element, action, spec.axes)).norm() / future.norm()
        worst = max(worst, error.item())
    return worst
