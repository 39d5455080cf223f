"""Truncated transforms of periodic boxes by the compiled FFTs, which work on channels-last fields as they lie."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import Spectrum, TruncatedTransform, kept_shape, layout_order
from .native import fft_analyse, fft_synthesise, native_library, reason_without_native


class NativeTransform(TruncatedTransform):
    """FFTs along one axis after the other with whole vectors of channels; float32 on the CPU.

    With ``w = 1`` for modes of the half axis that are their own conjugates, ``w = 2`` for the others, and ``N`` points:
    analysis is ``1/N Σ`` and synthesis ``Re Σ w``; the adjoints are the same sums the other way with ``w`` and ``1/N``.
    """

    def __init__(
        self,
        grid: tuple[int, ...],
        num_modes: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        boundaries: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(grid, num_modes, dtype, device, boundaries)
        kept = kept_shape(num_modes)
        self._kept = [kept[axis] for axis in layout_order(len(grid))]
        self._share = 1 / math.prod(grid)

    def analyse(self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None) -> Spectrum:
        """Return the kept modes of a field, written to ``out`` where that is given."""
        return self._down(u, (self._share, self._share), out)

    def synthesise(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""
        return self._up(u_hat, (1.0, 1.0), accumulate)

    def analyse_adjoint(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""
        return self._up(u_hat, (self._share, self._share / 2), accumulate)

    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Spectrum:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""
        return self._down(u, (1.0, 2.0), out)

    def _down(self, u: Tensor, scales: tuple[float, float], out: Tensor | None) -> Tensor:
        shape = self.num_kept, u.shape[0], u.shape[-1]
        modes = out if out is not None and _is_writable(out) else u.new_empty(shape, dtype=torch.complex64)
        fft_analyse(u.contiguous(), self._kept, scales, modes)
        return modes if out is None or out is modes else out.copy_(modes)

    def _up(self, u_hat: Tensor, scales: tuple[float, float], accumulate: Tensor | None) -> Tensor:
        if not _is_writable(u_hat):
            u_hat = u_hat.resolve_conj().contiguous()
        if accumulate is not None and accumulate.is_contiguous():
            fft_synthesise(u_hat, self._kept, scales, accumulate, accumulate=True)
            return accumulate
        _, batch, channels = u_hat.shape
        field = u_hat.real.new_empty(batch, self.grid[-1], *self.grid[:-1], channels)
        fft_synthesise(u_hat, self._kept, scales, field)
        return field if accumulate is None else accumulate.add_(field)


def _is_writable(modes: Tensor) -> bool:
    """Whether the modes of a sample lie side by side, as the library reads and writes them."""
    _, batch, channels = modes.shape
    return (
        (channels == 1 or modes.stride(2) == 1)
        and (batch == 1 or modes.stride(1) == channels)
        and not modes.is_conj()
    )


def reason_without_native_transform(device: torch.device, dtype: torch.dtype, ndim: int) -> str | None:
    """Return why the compiled transforms cannot run, as a clause, or None if they can."""
    if device.type != "cpu" or dtype != torch.float32:
        return f"it takes float32 fields on the CPU, and these are {dtype} on {device.type}"
    return (
        None if native_library() is not None else f"there is no compiled library: {reason_without_native()}"
    )
