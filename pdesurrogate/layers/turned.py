"""Amplitudes turned from channels last to channels first and back, by copies that processors are quick at.

Both ways the batch and the last axis of waves change places, too: products with matrices of the waves then are batched
ones of contiguous matrices. Copied in one go, rows of neither side are contiguous on the way back, which takes three
times as long on a CPU as a transposition followed by an exchange of whole rows of channels.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .tracing import needs_plain_operations


def channels_first(
    v: Float[Tensor, "*lead last batch channel"],
) -> Float[Tensor, "channel *lead batch last"]:
    """Return contiguous amplitudes with the channels first and the last axis of waves last."""
    return _first(v) if needs_plain_operations(v) else _First.apply(v)


def channels_last(
    h: Float[Tensor, "channel *lead batch last"],
    onto: Float[Tensor, "*lead last batch channel"] | None = None,
) -> Float[Tensor, "*lead last batch channel"]:
    """Return contiguous amplitudes with the channels last and the batch before them.

    Args:
        h: amplitudes as `channels_first` returns them.
        onto: what they are added to, in the same pass over memory.
    """
    return _last(h, onto) if needs_plain_operations(h, onto) else _Last.apply(h, onto)


def _first(v: Tensor) -> Tensor:
    last = v.ndim - 1
    return v.permute(last, *range(last - 2), last - 1, last - 2).contiguous()


def _last(h: Tensor, onto: Tensor | None) -> Tensor:
    if h.device.type == "cpu":
        rows = h.reshape(h.shape[0], -1).t().contiguous()
        turned = rows.view(*h.shape[1:], h.shape[0]).transpose(-3, -2)
    else:
        turned = h.permute(*range(1, h.ndim - 2), h.ndim - 1, h.ndim - 2, 0)
    return turned.contiguous() if onto is None else onto + turned


class _First(torch.autograd.Function):
    """`channels_first`; the gradient goes the other way and is contiguous, too."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return _first(v)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return channels_last(gradient)


class _Last(torch.autograd.Function):
    """`channels_last`."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, onto: Tensor | None) -> Tensor:
        return _last(h, onto)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        return channels_first(gradient), gradient if ctx.needs_input_grad[1] else None
