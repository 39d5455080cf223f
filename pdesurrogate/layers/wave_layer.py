"""A layer on the amplitudes of waves, channels last: channels mixed wave by wave, waves mixed channel by channel.

    s(k) = v(k) W(k) ,  y = keep · v + S_1 .. S_d gelu(s) ,  (S_a h)(.., j, .., c) = Σ_i S_a(c, i, j) h(.., i, .., c)

In float32 on the CPU the compiled kernels do it, with vectors of channels for numbers: nothing is transposed, the GELU
is taken in passing, and the backward pass keeps ``v``, ``s`` and what lies between the axes. Elsewhere all products are
batched ones of contiguous matrices, for which amplitudes are turned to channels first and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .native import (
    VECTOR,
    native_applies,
    wave_mixing_backward,
    wave_mixing_forward,
    wave_products_backward,
    wave_products_forward,
)
from .pointwise_mlp import differentiable_backward
from .tracing import needs_plain_operations
from .turned import channels_first, channels_last


def wave_layer(
    v: Float[Tensor, "*waves batch channel"],
    weight: Float[Tensor, "wave channel channel"],
    mixing: Sequence[Float[Tensor, "channel _from _to"]],
    keep: float = 1.0,
) -> Float[Tensor, "*waves batch channel"]:
    """Return ``keep · v + S_1 .. S_d gelu(W v)``.

    Args:
        v: amplitudes.
        weight: ``W``, one matrix a wave, the last axis of waves running fastest.
        mixing: ``S_a``, one matrix a channel for every axis of waves.
        keep: what is kept of ``v``.

    Raises:
        ValueError: if there is not one matrix of ``mixing`` for every axis.
    """
    if len(mixing) != v.ndim - 2:
        raise ValueError(
            f"v has {v.ndim - 2} axes of waves and there are {len(mixing)} matrices; give one an axis."
        )
    if (
        v.shape[-1] % VECTOR
        or needs_plain_operations(v, weight, *mixing)
        or not native_applies(v, weight, *mixing)
    ):
        return plain_wave_layer(v, weight, *mixing, keep=keep)
    return _WaveLayer.apply(keep, *(t.contiguous() for t in (v, weight, *mixing)))


def plain_wave_layer(v: Tensor, weight: Tensor, *mixing: Tensor, keep: float) -> Tensor:
    """Return the same by ordinary operations."""
    ndim, (batch, width) = v.ndim - 2, v.shape[-2:]
    shape = v.shape[:ndim]
    h = F.gelu(torch.bmm(v.flatten(0, ndim - 1), weight)).view(v.shape)
    h = channels_first(h)  # (width, m_1, .., m_{d-1}, batch, m_d)
    for axis in range(ndim - 1):
        matrix = mixing[axis].transpose(1, 2)
        if axis == 0:
            h = torch.bmm(matrix, h.reshape(width, shape[0], -1))
        else:
            before = math.prod(shape[:axis])
            h = torch.matmul(matrix.unsqueeze(1), h.reshape(width, before, shape[axis], -1))
    h = torch.bmm(h.reshape(width, -1, shape[-1]), mixing[-1])
    h = h.view(width, *shape[:-1], batch, shape[-1])
    return channels_last(h, onto=v if keep == 1 else keep * v)


class _WaveLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, keep: float, v: Tensor, weight: Tensor, *mixing: Tensor) -> Tensor:
        s = wave_products_forward(v.flatten(0, -3), weight).view(v.shape)
        between, last = [s], len(mixing) - 1
        for axis, matrix in enumerate(mixing):
            beside = v if axis == last else None
            between.append(
                wave_mixing_forward(between[-1], matrix, axis, activate=axis == 0, beside=beside, keep=keep)
            )
        ctx.save_for_backward(v, weight, *mixing, *between[:-1])
        ctx.keep = keep
        return between[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        v, weight, *rest = ctx.saved_tensors
        mixing, between = rest[: v.ndim - 2], rest[v.ndim - 2 :]
        if torch.is_grad_enabled():
            plain = partial(plain_wave_layer, keep=ctx.keep)
            inputs = v, weight, *mixing
            return None, *differentiable_backward(plain, inputs, gradient, ctx.needs_input_grad[1:])
        gradient = gradient.contiguous()
        at, wanted = gradient, ctx.needs_input_grad[1:]
        grad_mixing: list[Tensor | None] = [None] * len(mixing)
        for axis in reversed(range(len(mixing))):
            at, grad_mixing[axis] = wave_mixing_backward(
                at, between[axis], mixing[axis], axis, activate=axis == 0, wants_matrix=wanted[2 + axis]
            )
        grad_s, rows, beside = (t.flatten(0, -3) for t in (at, v, gradient))
        grad_v, grad_weight = wave_products_backward(grad_s, rows, weight, beside, ctx.keep, wanted[:2])
        return None, None if grad_v is None else grad_v.view(v.shape), grad_weight, *grad_mixing
