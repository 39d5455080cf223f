"""Layers on the amplitudes of waves through the compiled library: one matrix a wave, one an axis and channel."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import call, check_arrays

VECTOR = 8
"""Channels are worked on by so many at a time; their number is a multiple of it."""


def wave_products_forward(
    v: Float[Tensor, "wave batch in_channel"], weight: Float[Tensor, "wave in_channel out_channel"]
) -> Float[Tensor, "wave batch out_channel"]:
    """Return ``s(k) = v(k) W(k)``.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: if a tensor is not contiguous float32 on the CPU or of another shape, or channels no multiple of 8.
    """
    sizes = _checked(v, weight)
    s = v.new_empty(*v.shape[:2], weight.shape[2])
    call("wave_products_forward", *sizes, arrays=(v, weight, s))
    return s


def wave_products_backward(
    gradient: Float[Tensor, "wave batch out_channel"],
    v: Float[Tensor, "wave batch in_channel"],
    weight: Float[Tensor, "wave in_channel out_channel"],
    beside: Float[Tensor, "wave batch in_channel"],
    keep: float = 1.0,
    wanted: tuple[bool, bool] = (True, True),
) -> tuple[
    Float[Tensor, "wave batch in_channel"] | None, Float[Tensor, "wave in_channel out_channel"] | None
]:
    """Return the gradients of ``v``, with ``keep · beside`` added, and of ``W`` from that of ``s``, where ``wanted``.

    Raises:
        RuntimeError, ValueError: as `wave_products_forward`.
    """
    sizes = _checked(v, weight)
    check_arrays(
        {"gradient": (gradient, (*v.shape[:2], weight.shape[2])), "what is added": (beside, tuple(v.shape))}
    )
    grad_v, grad_weight = (
        torch.empty_like(t) if want else None for t, want in zip((v, weight), wanted, strict=True)
    )
    arrays = v, weight, gradient, beside, grad_v, grad_weight
    call("wave_products_backward", *sizes, float(keep), arrays=arrays)
    return grad_v, grad_weight


def wave_mixing_forward(
    x: Float[Tensor, "*waves batch channel"],
    matrix: Float[Tensor, "channel from to"],
    axis: int,
    *,
    activate: bool = False,
    beside: Float[Tensor, "*waves batch channel"] | None = None,
    keep: float = 1.0,
) -> Float[Tensor, "*waves batch channel"]:
    """Return ``y(.., j, .., c) = Σ_i S(c, i, j) a(.., i, .., c)`` along an axis of waves, plus ``keep · beside``.

    Args:
        x: amplitudes.
        matrix: ``S``.
        axis: of waves.
        activate: whether ``a`` is the GELU of ``x``, and not ``x``.
        beside: amplitudes that are added.
        keep: their factor.

    Raises:
        RuntimeError, ValueError: as `wave_products_forward`.
    """
    sizes = _checked_mixing(x, matrix, axis)
    if beside is not None:
        check_arrays({"what is added": (beside, tuple(x.shape))})
    y = torch.empty_like(x)
    call("wave_mixing_forward", *sizes, int(activate), float(keep), arrays=(x, matrix, beside, y))
    return y


def wave_mixing_backward(
    gradient: Float[Tensor, "*waves batch channel"],
    x: Float[Tensor, "*waves batch channel"],
    matrix: Float[Tensor, "channel from to"],
    axis: int,
    *,
    activate: bool = False,
    wants_matrix: bool = True,
) -> tuple[Float[Tensor, "*waves batch channel"], Float[Tensor, "channel from to"] | None]:
    """Return the gradients of ``x`` and, if wanted, ``S`` from that of ``y``; others as `wave_mixing_forward`.

    Raises:
        RuntimeError, ValueError: as `wave_products_forward`.
    """
    sizes = _checked_mixing(x, matrix, axis)
    check_arrays({"gradient": (gradient, tuple(x.shape))})
    grad_x, grad_matrix = torch.empty_like(x), torch.empty_like(matrix) if wants_matrix else None
    call("wave_mixing_backward", *sizes, int(activate), arrays=(x, matrix, gradient, grad_x, grad_matrix))
    return grad_x, grad_matrix


def _checked(v: Tensor, weight: Tensor) -> tuple[int, ...]:
    waves, batch, in_channels = v.shape
    out_channels = weight.shape[-1]
    check_arrays(
        {"v": (v, (waves, batch, in_channels)), "the weights": (weight, (waves, in_channels, out_channels))}
    )
    _check_channels(in_channels, out_channels)
    return waves, batch, in_channels, out_channels


def _checked_mixing(x: Tensor, matrix: Tensor, axis: int) -> tuple[int, ...]:
    if not 0 <= axis < x.ndim - 2:
        raise ValueError(
            f"axis is {axis}; x of shape {tuple(x.shape)} has the axes 0 to {x.ndim - 3} of waves."
        )
    length, channels = x.shape[axis], x.shape[-1]
    check_arrays({"x": (x, tuple(x.shape)), "the matrix": (matrix, (channels, length, length))})
    _check_channels(channels)
    return math.prod(x.shape[:axis]), length, math.prod(x.shape[axis + 1 : -1]), channels


def _check_channels(*numbers: int) -> None:
    for channels in numbers:
        if channels % VECTOR:
            raise ValueError(f"there are {channels} channels; the native kernel takes multiples of {VECTOR}.")
