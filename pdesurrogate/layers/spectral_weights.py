"""Spectral weights between conventions: ours, and the centred complex one of neuraloperator.

Ours is real, ``(mode, in, out, 2)``, modes flattened half axis first, ``(k_d, k_1, .., k_{d-1})``, full
axes in transform order ``0, 1, .., -2, -1``. neuraloperator's is complex, ``(in, out, K_1, .., K_d//2+1)``,
with zero in the middle of every full axis (``fftshift``). The kept modes are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ..fields.fourier import kept_shape


def spectral_weight_from_neuralop(
    weight: Complex[Tensor, "in_channel out_channel *kept"],
) -> Float[Tensor, "mode in_channel out_channel 2"]:
    """Return our weight with the same action as a dense neuraloperator 2.0 weight."""
    ndim = weight.ndim - 2
    for dim in range(2, ndim + 1):
        weight = weight.roll(-(weight.shape[dim] // 2), dim)
    ordered = weight.permute(ndim + 1, *range(2, ndim + 1), 0, 1)
    return torch.view_as_real(ordered.flatten(0, ndim - 1).contiguous()).clone()


def spectral_weight_to_neuralop(
    weight: Float[Tensor, "mode in_channel out_channel 2"], num_modes: Sequence[int]
) -> Complex[Tensor, "in_channel out_channel *kept"]:
    """Return the neuraloperator 2.0 weight with the same action, the inverse of the other direction.

    Raises:
        ValueError: if the weight does not hold the kept modes of ``num_modes``.
    """
    kept = kept_shape(num_modes)
    if weight.shape[0] != math.prod(kept):
        raise ValueError(
            f"a weight of {weight.shape[0]} modes does not belong to num_modes {tuple(num_modes)}, which "
            f"keep {math.prod(kept)}."
        )
    ndim = len(kept)
    ordered = torch.view_as_complex(weight.contiguous()).unflatten(0, (kept[-1], *kept[:-1]))
    centred = ordered.permute(ndim, ndim + 1, *range(1, ndim), 0)
    for dim in range(2, ndim + 1):
        centred = centred.roll(centred.shape[dim] // 2, dim)
    return centred.clone(memory_format=torch.contiguous_format)
