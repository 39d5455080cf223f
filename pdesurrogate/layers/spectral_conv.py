"""Spectral convolution: a different channel-mixing matrix on every kept Fourier mode.

``v̂_o(k) = Σ_i W_io(k) û_i(k)`` on the kept modes ``k``, zero elsewhere (Li et al. 2021,
arXiv:2010.08895, equations 4 and 5).

Layout. Fields are ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half-spectrum axis leading, channels last.
Weights are real, ``(mode, in, out, 2)`` with a trailing (real, imaginary) pair, modes in the same axis
order; optimisers, sharding and export then meet real tensors only. The arithmetic is that of a precision
policy under any autocast.

`BACKENDS` give the same numbers by different routes. All keep only the truncated spectrum for the backward
pass, and are differentiable any number of times. Traced programs (``torch.compile``, ``torch.export``) and
transforms of ``torch.func`` take matrix products of real numbers throughout, whatever the backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields.fourier import dft_plan, kept_shape, require_resolved
from .precision import check_precision, note_slow_bfloat16, products_in, working_dtype
from .spectral_backends import BACKENDS, check_backend, choose_backend
from .tracing import needs_plain_operations


def spectral_conv(
    u: Float[Tensor, "batch *layout in_channel"],
    weight: Float[Tensor, "mode in_channel out_channel 2"],
    num_modes: Sequence[int],
    *,
    base: Float[Tensor, "batch *out_layout out_channel"] | None = None,
    out_grid: Sequence[int] | None = None,
    backend: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *out_layout out_channel"]:
    """Return ``u`` with its kept modes mixed by ``weight`` and the others set to zero.

    Args:
        u: fields in the layout above; any strides.
        weight: mixing matrices.
        num_modes: kept modes per axis in space order ``(1, .., d)``, counting both signs.
        base: fields to which the result is added, in the last product of the synthesis.
        out_grid: sizes in space order of the grid on which the result is evaluated; that of ``u`` if None.
        backend: ``"auto"`` (the predicted fastest) or a key of `BACKENDS`.
        precision: a policy, see `pdesurrogate.layers.precision`.

    Raises:
        TypeError: if the field is not real and floating.
        ValueError: if an axis is empty, a mode is above the Nyquist mode of a grid, the weight has another
            number of modes, or the backend is unknown or cannot run on this device.
    """
    num_modes = tuple(num_modes)
    grid = (*u.shape[2:-1], u.shape[1])
    out_grid = grid if out_grid is None else tuple(out_grid)
    check_spectral_input(u, weight, num_modes, grid, out_grid)
    check_precision(precision)
    dtype = working_dtype(u.dtype, precision)
    with products_in(precision, u.device):
        v, mixing = u.to(dtype), weight.to(torch.promote_types(dtype, torch.float32))
        base = base if base is None else base.to(dtype)
        if needs_plain_operations(u, weight):
            return _real_products(v, mixing, num_modes, grid, out_grid, base).to(u.dtype)
        if dtype == torch.bfloat16:
            note_slow_bfloat16(u.device.type)
        name = choose_backend(
            backend, grid, num_modes, batch=v.shape[0], channels=v.shape[-1], dtype=dtype, device=v.device
        )
        route, device = BACKENDS[name], str(v.device)
        down = route.build(grid, num_modes, dtype, device)
        up = route.build(out_grid, num_modes, dtype, device)
        u_hat = _Linear.apply(v, down.analyse, down.analyse_adjoint, precision)
        v_hat = _Mix.apply(u_hat, torch.view_as_complex(mixing), precision)
        return _LinearInto.apply(v_hat, base, up.synthesise, up.synthesise_adjoint, precision).to(u.dtype)


def check_spectral_input(
    u: Tensor, weight: Tensor, num_modes: tuple[int, ...], grid: tuple[int, ...], out_grid: tuple[int, ...]
) -> None:
    """Refuse what a spectral convolution cannot act on; the errors are those of `spectral_conv`."""
    if u.is_complex() or not u.is_floating_point():
        raise TypeError(
            f"A spectral convolution acts on real fields; this one is {u.dtype}. Give the real and the imaginary "
            "part as two channels, and convert whole numbers to float32."
        )
    if 0 in u.shape:
        raise ValueError(
            f"A spectral convolution needs at least one entry on every axis; the field has shape {tuple(u.shape)}, "
            "laid out (batch, N_d, N_1, .., channel)."
        )
    require_resolved(num_modes, grid)
    if out_grid != grid:
        require_resolved(num_modes, out_grid)
    num_kept = math.prod(kept_shape(num_modes))
    if weight.shape[0] != num_kept:
        raise ValueError(f"num_modes {num_modes} keep {num_kept} modes; the weight has {weight.shape[0]}.")


def _real_products(
    u: Tensor,
    weight: Tensor,
    num_modes: tuple[int, ...],
    grid: tuple[int, ...],
    out_grid: tuple[int, ...],
    base: Tensor | None,
) -> Tensor:
    """The convolution as products of real matrices and nothing else, for tracers and compilers."""
    down = dft_plan(grid, num_modes, u.dtype, str(u.device))
    up = dft_plan(out_grid, num_modes, u.dtype, str(u.device))
    planes = down.analyse(u).to(weight.dtype).transpose(0, 1)
    real, imaginary = planes[:, :, 0], planes[:, :, 1]
    weight_real, weight_imaginary = weight.unbind(-1)
    mixed_real = torch.bmm(real, weight_real) - torch.bmm(imaginary, weight_imaginary)
    mixed_imaginary = torch.bmm(real, weight_imaginary) + torch.bmm(imaginary, weight_real)
    mixed = torch.stack([mixed_real, mixed_imaginary], 2).transpose(0, 1).to(u.dtype)
    v = up.synthesise(mixed)
    return v if base is None else base + v


class _Linear(torch.autograd.Function):
    """A real-linear map under autograd: saves nothing, and its derivative of any order is exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Any, adjoint: Any, precision: str) -> Tensor:
        ctx.maps = linear, adjoint, precision
        ctx.dtype = x.dtype
        with products_in(precision, x.device):
            return linear(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        linear, adjoint, precision = ctx.maps
        return _Linear.apply(gradient, adjoint, linear, precision).to(ctx.dtype), None, None, None


class _LinearInto(torch.autograd.Function):
    """A real-linear map, added to a base where there is one."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor | None, linear: Any, adjoint: Any, precision: str
    ) -> Tensor:
        ctx.maps = linear, adjoint, precision
        with products_in(precision, x.device):
            if base is None:
                return linear(x)
            return linear(x, base.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        linear, adjoint, precision = ctx.maps
        x = _Linear.apply(gradient, adjoint, linear, precision) if ctx.needs_input_grad[0] else None
        return x, gradient if ctx.needs_input_grad[1] else None, None, None, None


class _Mix(torch.autograd.Function):
    """``v̂ = û W`` on every mode. The backward pass conjugates the small spectra, never the weight."""

    @staticmethod
    def forward(ctx: Any, u_hat: Tensor, weight: Tensor, precision: str) -> Tensor:
        ctx.save_for_backward(u_hat, weight)
        ctx.precision = precision
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
        return grad_u, grad_weight, None


class SpectralConv(nn.Module):
    """A learned spectral convolution on fields ``(batch, N_d, N_1, .., N_{d-1}, channel)``.

    Initial weights are complex normal with variance ``2 / (in + out)`` (neuraloperator's scale), which
    keeps the variance of every mode: a sum over ``in`` channels with mean square ``1/in``.

    Args:
        in_channels, out_channels: channels of the input and output field.
        num_modes: kept modes per axis in space order, counting both signs.
        backend: see `spectral_conv`.
        precision: see `pdesurrogate.layers.precision`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_modes: Sequence[int],
        *,
        backend: str = "auto",
        precision: str = "full",
    ) -> None:
        super().__init__()
        check_backend(backend)
        check_precision(precision)
        self.num_modes = tuple(num_modes)
        self.backend = backend
        self.precision = precision
        num_kept = math.prod(kept_shape(self.num_modes))
        per_plane = math.sqrt(1.0 / (in_channels + out_channels))
        self.weight = nn.Parameter(per_plane * torch.randn(num_kept, in_channels, out_channels, 2))

    def forward(
        self, u: Float[Tensor, "batch *layout in_channel"]
    ) -> Float[Tensor, "batch *layout out_channel"]:
        """Return the convolved field."""
        return spectral_conv(u, self.weight, self.num_modes, backend=self.backend, precision=self.precision)

    def extra_repr(self) -> str:
        """Channels, modes and backend, for printing."""
        _, in_channels, out_channels, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, num_modes={self.num_modes}, backend={self.backend!r}"
