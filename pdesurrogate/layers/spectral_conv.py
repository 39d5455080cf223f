"""Spectral convolution: a different channel-mixing matrix on every kept Fourier mode.

``v̂_o(k) = Σ_i W_io(k) û_i(k)`` on the kept modes ``k``, zero elsewhere (Li et al. 2021,
arXiv:2010.08895, equations 4 and 5).

Layout. Fields are ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half-spectrum axis leading, channels last.
Weights are real, ``(mode, in, out, 2)`` with a trailing (real, imaginary) pair, modes in the same axis
order; optimisers, sharding and export then meet real tensors only. Transforms and mixing run in float32
(float64 for float64 fields) under any autocast.

Backends give the same numbers by different routes and are chosen by name from `BACKENDS`:

- ``dft``: truncated transforms as matrix products (`DFTPlan`); keeps only the truncated spectrum for the
  backward pass. The faster one for training and for few modes.
- ``fft``: one pruned FFT per axis; the faster one on a CPU without gradients when many modes are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ..fields.fourier import DFTPlan, dft_plan, kept_shape, pruned_forward, pruned_inverse, require_resolved
from ..registry import did_you_mean

Backend = Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]

FEW_HALF_MODES = 24
"""Modes per sign from which pruned FFTs beat matrix products on a CPU without gradients (measured)."""


def spectral_conv(
    u: Float[Tensor, "batch *layout in_channel"],
    weight: Float[Tensor, "mode in_channel out_channel 2"],
    num_modes: Sequence[int],
    *,
    backend: str = "auto",
) -> Float[Tensor, "batch *layout out_channel"]:
    """Return ``u`` with its kept modes mixed by ``weight`` and the others set to zero.

    Args:
        u: fields in the layout above.
        weight: mixing matrices.
        num_modes: kept modes per axis in space order ``(1, .., d)``, counting both signs.
        backend: ``"auto"`` or a key of `BACKENDS`. ``auto`` takes ``dft`` on a GPU, while gradients are
            recorded and for few modes, else ``fft``.

    Raises:
        ValueError: if a mode is above the grid's Nyquist mode, the weight has another number of modes,
            or the backend is unknown.
    """
    num_modes = tuple(num_modes)
    grid = (*u.shape[2:-1], u.shape[1])
    require_resolved(num_modes, grid)
    num_kept = math.prod(kept_shape(num_modes))
    if weight.shape[0] != num_kept:
        raise ValueError(f"num_modes {num_modes} keep {num_kept} modes; the weight has {weight.shape[0]}.")
    run = BACKENDS[_choose_backend(backend, u, num_modes)]
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        mixing = torch.view_as_complex(weight.to(dtype))
        return run(u.to(dtype), mixing, num_modes).to(u.dtype)


def check_backend(backend: str) -> None:
    """Refuse a backend that does not exist.

    Raises:
        ValueError: with the nearest name and all names.
    """
    names = ("auto", *BACKENDS)
    if backend not in names:
        raise ValueError(
            f"Unknown spectral backend {backend!r}.{did_you_mean(backend, names)} Available: {', '.join(names)}."
        )


def _choose_backend(backend: str, u: Tensor, num_modes: tuple[int, ...]) -> str:
    check_backend(backend)
    if backend != "auto":
        return backend
    few = max(num_modes) // 2 < FEW_HALF_MODES
    return "dft" if u.device.type != "cpu" or torch.is_grad_enabled() or few else "fft"


def _dft_backend(u: Tensor, weight: Tensor, num_modes: tuple[int, ...]) -> Tensor:
    plan = dft_plan((*u.shape[2:-1], u.shape[1]), num_modes, u.dtype, str(u.device))
    u_hat = _Linear.apply(u, _Analysis(plan))
    return _Linear.apply(_Mix.apply(u_hat, weight), _Synthesis(plan))


def _fft_backend(u: Tensor, weight: Tensor, num_modes: tuple[int, ...]) -> Tensor:
    ndim = len(num_modes)
    first = u.permute(0, ndim + 1, *range(2, ndim + 1), 1)
    u_hat = pruned_forward(first, num_modes)
    kept = u_hat.shape[2:]
    ordered = u_hat.permute(ndim + 1, *range(2, ndim + 1), 0, 1)
    v_hat = torch.bmm(ordered.flatten(0, ndim - 1), weight).unflatten(0, (kept[-1], *kept[:-1]))
    v = pruned_inverse(v_hat.permute(ndim, ndim + 1, *range(1, ndim), 0), first.shape[2:])
    return v.permute(0, ndim + 1, *range(2, ndim + 1), 1)


BACKENDS: dict[str, Backend] = {"dft": _dft_backend, "fft": _fft_backend}
"""Routes to the same numbers: ``(u, complex weight, num_modes) -> v``."""


class _Analysis:
    """The real-linear map from a field to its kept modes ``(mode, batch, channel)``, with its adjoint."""

    def __init__(self, plan: DFTPlan) -> None:
        self.plan = plan

    def forward(self, u: Tensor) -> Tensor:
        return _to_complex(self.plan.analyse(u))

    def adjoint(self, u_hat: Tensor) -> Tensor:
        return self.plan.analyse_adjoint(_to_planes(u_hat))


class _Synthesis:
    """The real-linear map from kept modes ``(mode, batch, channel)`` to the field, with its adjoint."""

    def __init__(self, plan: DFTPlan) -> None:
        self.plan = plan

    def forward(self, u_hat: Tensor) -> Tensor:
        return self.plan.synthesise(_to_planes(u_hat))

    def adjoint(self, u: Tensor) -> Tensor:
        return _to_complex(self.plan.synthesise_adjoint(u))


class _Adjoint:
    """The adjoint of a linear map, as a linear map."""

    def __init__(self, linear: Any) -> None:
        self.forward, self.adjoint = linear.adjoint, linear.forward


class _Linear(torch.autograd.Function):
    """A real-linear map under autograd: saves nothing, and its derivative of any order is exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Any) -> Tensor:
        ctx.linear = linear
        with torch.autocast(x.device.type, enabled=False):
            return linear.forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Linear.apply(gradient, _Adjoint(ctx.linear)), None


class _Mix(torch.autograd.Function):
    """``v̂ = û W`` on every mode. The backward pass conjugates the small spectra, never the weight."""

    @staticmethod
    def forward(ctx: Any, u_hat: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(u_hat, weight)
        return torch.bmm(u_hat, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        u_hat, weight = ctx.saved_tensors
        grad_u = grad_weight = None
        with torch.autocast(gradient.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                grad_u = torch.bmm(gradient.conj_physical(), weight.transpose(1, 2)).conj_physical()
            if ctx.needs_input_grad[1]:
                grad_weight = torch.bmm(u_hat.conj_physical().transpose(1, 2), gradient)
        return grad_u, grad_weight


def _to_complex(
    planes: Float[Tensor, "batch mode 2 channel"],
) -> Complex[Tensor, "mode batch channel"]:
    return torch.complex(planes[:, :, 0].transpose(0, 1), planes[:, :, 1].transpose(0, 1))


def _to_planes(
    u_hat: Complex[Tensor, "mode batch channel"],
) -> Float[Tensor, "batch mode 2 channel"]:
    modes, batch, channels = u_hat.shape
    planes = torch.empty(batch, modes, 2, channels, dtype=u_hat.real.dtype, device=u_hat.device)
    planes[:, :, 0] = u_hat.real.transpose(0, 1)
    planes[:, :, 1] = u_hat.imag.transpose(0, 1)
    return planes


class SpectralConv(nn.Module):
    """A learned spectral convolution on fields ``(batch, N_d, N_1, .., N_{d-1}, channel)``.

    Initial weights are complex normal with variance ``2 / (in + out)`` (neuraloperator's scale), which
    keeps the variance of every mode: a sum over ``in`` channels with mean square ``1/in``.

    Args:
        in_channels, out_channels: channels of the input and output field.
        num_modes: kept modes per axis in space order, counting both signs.
        backend: see `spectral_conv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_modes: Sequence[int], *, backend: str = "auto"
    ) -> None:
        super().__init__()
        check_backend(backend)
        self.num_modes = tuple(num_modes)
        self.backend = backend
        num_kept = math.prod(kept_shape(self.num_modes))
        per_plane = math.sqrt(1.0 / (in_channels + out_channels))
        self.weight = nn.Parameter(per_plane * torch.randn(num_kept, in_channels, out_channels, 2))

    def forward(
        self, u: Float[Tensor, "batch *layout in_channel"]
    ) -> Float[Tensor, "batch *layout out_channel"]:
        """Return the convolved field."""
        return spectral_conv(u, self.weight, self.num_modes, backend=self.backend)

    def extra_repr(self) -> str:
        """Channels, modes and backend, for printing."""
        _, in_channels, out_channels, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, num_modes={self.num_modes}, backend={self.backend!r}"
