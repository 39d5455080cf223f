"""Complex arithmetic on kept modes with real-valued weights, for spectra held as numbers or as planes.

Spectra come in two forms. Programs that run hold them as ``(mode, batch, channel)``, complex, or real in boxes with
walls on all sides. Traced programs hold planes ``(plane, mode, batch, channel)``, real and imaginary part, or one
plane. What is written with these functions works on both. Weights are real tensors with a trailing axis of the same
number of planes, so that optimisers, sharding and export meet real tensors only.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .precision import active_policy, products_in
from .tracing import needs_plain_operations

Modes = (
    Complex[Tensor, "mode batch _channel"]
    | Float[Tensor, "mode batch _channel"]
    | Float[Tensor, "plane mode batch _channel"]
)


def mode_matmul(
    modes: Modes,
    matrices: Float[Tensor, "mode in_channel out_channel plane"]
    | Float[Tensor, "in_channel out_channel plane"],
) -> Modes:
    """Return ``v̂_o(k) = Σ_i M_io(k) û_i(k)`` for one matrix a mode, or one for all of them.

    Raises:
        ValueError: if the matrices have another number of planes than the spectrum.
    """
    _require_planes(modes, matrices)
    if _is_planes(modes):
        matrices = matrices.to(modes.dtype)
        if len(modes) == 1:
            return torch.matmul(modes[0], matrices[..., 0])[None]
        (real, imaginary), (matrix_real, matrix_imaginary) = modes.unbind(0), matrices.unbind(-1)
        mixed_real = torch.matmul(real, matrix_real) - torch.matmul(imaginary, matrix_imaginary)
        mixed_imaginary = torch.matmul(real, matrix_imaginary) + torch.matmul(imaginary, matrix_real)
        return torch.stack([mixed_real, mixed_imaginary])
    numbers = as_numbers(modes, matrices)
    if numbers.ndim == 2 or needs_plain_operations(modes, numbers):
        return torch.matmul(modes, numbers)
    return _Mix.apply(modes, numbers)


def mode_multiply(
    modes: Modes, factors: Float[Tensor, "mode channel plane"] | Float[Tensor, "channel plane"]
) -> Modes:
    """Return ``v̂_i(k) = f_i(k) û_i(k)`` for one factor a mode and channel, or one a channel.

    Raises:
        ValueError: if the factors have another number of planes than the spectrum.
    """
    _require_planes(modes, factors)
    if factors.ndim == 3:
        factors = factors[:, None]
    if not _is_planes(modes):
        return modes * as_numbers(modes, factors)
    factors = factors.to(modes.dtype)
    if len(modes) == 1:
        return modes * factors[..., 0]
    (real, imaginary), (factor_real, factor_imaginary) = modes.unbind(0), factors.unbind(-1)
    scaled_real = real * factor_real - imaginary * factor_imaginary
    return torch.stack([scaled_real, real * factor_imaginary + imaginary * factor_real])


def _is_planes(modes: Tensor) -> bool:
    return modes.ndim == 4


def _require_planes(modes: Tensor, weight: Tensor) -> None:
    planes = len(modes) if _is_planes(modes) else 1 + modes.is_complex()
    if weight.shape[-1] != planes:
        kind = "complex" if planes == 2 else "real"
        raise ValueError(
            f"these spectra are {kind} and take weights with a last axis of {planes}; this one has the shape "
            f"{tuple(weight.shape)}. Boxes with walls on all sides have real spectra, all others complex ones."
        )


def as_numbers(modes: Tensor, weight: Tensor) -> Tensor:
    """Return a weight as numbers of the kind of the spectrum."""
    real = weight.to(modes.dtype.to_real())
    return torch.view_as_complex(real.contiguous()) if modes.is_complex() else real[..., 0]


class _Mix(torch.autograd.Function):
    """``v̂ = û W`` on every mode. The backward pass conjugates the small spectra, never the weight."""

    @staticmethod
    def forward(ctx: Any, u_hat: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(u_hat, weight)
        ctx.precision = active_policy()
        return torch.bmm(u_hat, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        u_hat, weight = ctx.saved_tensors
        grad_u = grad_weight = None
        with products_in(ctx.precision, gradient.device):
            if ctx.needs_input_grad[0]:
                grad_u = torch.bmm(gradient.conj_physical(), weight.transpose(1, 2)).conj_physical()
            if ctx.needs_input_grad[1]:
                grad_weight = torch.bmm(u_hat.conj_physical().transpose(1, 2), gradient)
        return grad_u, grad_weight
