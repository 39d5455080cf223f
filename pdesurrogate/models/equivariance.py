"""How far a model is from commuting with a symmetry: the certificate of equivariance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..fields import DataSpec
from ..fields.point_group import PointGroup, channel_action, transform

Step = Callable[[Tensor, Tensor], Tensor]
Act = Callable[[Tensor], Tensor]


@torch.no_grad()
def commutation_error(step: Step, act: Act, frames: Tensor, parameters: Tensor) -> float:
    """Return ``|f(g u) - g f(u)| / |f(u)|``: how far a map of fields is from commuting with a transformation.

    Args:
        step: ``f``, from ``(history, parameters)`` to frames.
        act: ``g``, of frames ``(batch, time, channel, *space)``.
        frames: ``u``, the history.
        parameters: of the equation.
    """
    future = step(frames, parameters)
    difference = step(act(frames), parameters) - act(future)
    return float(difference.norm() / future.norm())


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
    errors = [
        commutation_error(step, partial(transform, element=g, action=rho, axes=spec.axes), frames, parameters)
        for g, rho in zip(group.elements, channel_action(group, spec), strict=True)
    ]
    return max(errors)
