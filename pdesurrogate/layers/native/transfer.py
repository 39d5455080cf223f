"""Filters as transfer functions through the compiled library: ``ŷ(k) = û(k) (R(k) + Σ_m f_m(k) W_m)``."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from .calls import call, check_arrays


def transfer_forward(
    u_hat: Complex[Tensor, "mode batch in_channel"],
    response: Float[Tensor, "mode 2 filter"],
    weights: Float[Tensor, "filter in_channel out_channel"],
    places: Int[Tensor, " mode"],
    waves: Float[Tensor, "kept in_channel out_channel 2"] | None,
) -> Complex[Tensor, "mode batch out_channel"]:
    """Return ``ŷ``.

    Args:
        u_hat: modes.
        response: ``f``, real and imaginary parts.
        weights: ``W``.
        places: which row of ``R`` belongs to a mode, -1 for none.
        waves: ``R``.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: if a tensor is not contiguous, of another type or shape, or not on the CPU.
    """
    sizes = _checked(u_hat, response, weights, places, waves)
    y_hat = u_hat.new_empty(*u_hat.shape[:2], weights.shape[2])
    call("transfer_forward", *sizes, arrays=(response, weights, places, waves, u_hat, y_hat))
    return y_hat


def transfer_backward(
    gradient: Complex[Tensor, "mode batch out_channel"],
    u_hat: Complex[Tensor, "mode batch in_channel"],
    response: Float[Tensor, "mode 2 filter"],
    weights: Float[Tensor, "filter in_channel out_channel"],
    places: Int[Tensor, " mode"],
    waves: Float[Tensor, "kept in_channel out_channel 2"] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of ``û``, ``W`` and ``R`` from that of ``ŷ``; the other arguments as `transfer_forward`.

    Raises:
        RuntimeError, ValueError: as `transfer_forward`.
    """
    sizes = _checked(u_hat, response, weights, places, waves)
    check_arrays({"gradient": (gradient, (*u_hat.shape[:2], weights.shape[2]))}, torch.complex64)
    grad_u, grad_weights = torch.empty_like(u_hat), torch.zeros_like(weights)
    grad_waves = None if waves is None else torch.empty_like(waves)
    results = grad_u, grad_weights, grad_waves
    call("transfer_backward", *sizes, arrays=(response, weights, places, waves, u_hat, gradient, *results))
    return results


def _checked(
    u_hat: Tensor, response: Tensor, weights: Tensor, places: Tensor, waves: Tensor | None
) -> tuple[int, ...]:
    modes, batch, in_channels = u_hat.shape
    filters, _, out_channels = weights.shape
    check_arrays({"the modes": (u_hat, (modes, batch, in_channels))}, torch.complex64)
    check_arrays(
        {
            "response": (response, (modes, 2, filters)),
            "weights": (weights, (filters, in_channels, out_channels)),
        }
    )
    check_arrays({"places": (places, (modes,))}, torch.int64)
    kept = 0
    if waves is not None:
        kept = waves.shape[0]
        check_arrays({"waves": (waves, (kept, in_channels, out_channels, 2))})
    if modes and int(places.max()) >= kept:
        raise ValueError(f"a mode has row {int(places.max())} of spectral weights for {kept} modes.")
    return modes, batch, in_channels, out_channels, filters
