"""The pointwise half of a Fourier layer through the compiled kernel, for a group of samples at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .native import Activations, BlockGradients, BlockWeights, block_backward, block_forward


def native_group_forward(
    spectral: Tensor,
    v: Tensor,
    pointwise: Sequence[Tensor],
    s: Tensor | None,
    y: Tensor,
    *,
    last: bool,
) -> None:
    """Write ``y``, and ``s`` where it is wanted, from the spectral part and ``v``; ``y`` may be ``v`` itself.

    Args:
        spectral: ``F⁻¹[R F[v]]``.
        v: what the layer acts on.
        pointwise: skip, its bias and, with a channel MLP, its four tensors and the gate.
        s: memory for ``s``.
        y: memory for the result, a pre-activation.
        last: whether the channel MLP acts on ``s`` itself.
    """
    sigma = Activations(x=False, s=not last, y=False)
    block_forward(spectral.contiguous(), v, BlockWeights(*pointwise), sigma, s=s, y=y)


def native_group_backward(
    u: Tensor,
    s: Tensor,
    gradient: Tensor,
    pointwise: Sequence[Tensor],
    sums: Sequence[Tensor],
    grad_v: Tensor,
    *,
    first: bool,
    last: bool,
) -> Tensor:
    """Return the gradient of ``s``; write that of ``v`` without the spectrum's share, add those of the weights.

    Args:
        u: previous pre-activation.
        s: what the forward pass kept.
        gradient: of ``y``.
        pointwise: as in `native_group_forward`.
        sums: gradients of ``pointwise`` so far.
        grad_v: memory for the gradient of ``v``.
        first: whether ``v`` is ``u`` itself.
        last: as in `native_group_forward`.
    """
    sigma = Activations(x=not first, s=not last, y=False)
    into = BlockGradients(torch.empty_like(u), grad_v, BlockWeights(*sums))
    return block_backward(gradient, u, s, BlockWeights(*pointwise), sigma, into=into).s
