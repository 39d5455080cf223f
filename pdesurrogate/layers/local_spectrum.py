"""Local operators by their spectra: ``ŷ(k) = v̂(k) M(k)``, ``M(k) = R(k) + Σ_m f̂_m(k) W_m``, on all modes of a grid.

``f̂_m`` is the factor by which a filter multiplies a mode, ``W_m`` its matrix between channels; waves with spectral
weights ``R`` on some of the modes join for the price of an addition. The matrices of all modes would be larger than
the fields. They exist for a few modes at a time, in cache, and are made again in the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from ..fields.fourier import kept_modes, layout_order
from ..fields.fourier.kept_tables import kept
from .channel_mixing import ChannelMixing
from .filter_bank import FilterBank
from .halo import extend
from .native import native_applies, transfer_backward, transfer_forward
from .pointwise_mlp import differentiable_backward, piece_rows
from .precision import active_policy, products_in
from .spectral_operator import spectral_analysis, spectral_operator

Spectrum = Complex[Tensor, "mode batch _channel"]


@dataclass(frozen=True, eq=False)
class TransferTable:
    """What the filters of a bank do to the modes of a grid, and which of them are waves of their own.

    Attributes:
        response: ``f̂``, real and imaginary parts.
        waves: the modes that have spectral weights, in the order of these.
        places: for every mode its place among them, -1 for none.
    """

    response: Float[Tensor, "mode 2 filter"]
    waves: Int[Tensor, " kept"]
    places: Int[Tensor, " mode"]


@dataclass(frozen=True)
class TransferMap:
    """The map of the modes by ``M(k)``, with a backward pass of its own.

    Attributes:
        table: of the grid.
        waves: ``R``, ``(kept, in, out, 2)``, if there are any.
        weights: ``W``, a matrix ``(in, out)`` or a factor a channel for each filter.
    """

    table: TransferTable
    waves: Tensor | None
    weights: Float[Tensor, "filter in_channel out_channel"] | Float[Tensor, "filter in_channel"]
    _: None = None

    def steps(self, modes: Spectrum) -> list[Spectrum]:
        """Return the mixed modes, alone in a list."""
        response, weights = self.table.response, self._real(modes)
        if self._is_native(modes):
            return [transfer_forward(modes.contiguous(), response, weights, self.table.places, self._waves())]
        if weights.ndim == 2:
            mixed = modes * self._factors(weights).unsqueeze(1)
        else:
            mixed = modes.new_empty(*modes.shape[:2], weights.shape[2])
            for some, matrices in self._pieces(weights):
                torch.bmm(modes[some], matrices, out=mixed[some])
        if self.waves is not None:
            there = self.table.waves
            mixed.index_add_(0, there, ChannelMixing(self.waves).steps(modes[there])[0])
        return [mixed]

    def backward(
        self, modes: Spectrum, between: list[Tensor], gradient: Spectrum
    ) -> tuple[Spectrum, list[Tensor | None]]:
        """Return the gradients of the modes, ``R`` and ``W``, and None, from that of the mixed modes."""
        response, weights = self.table.response, self._real(modes)
        if self._is_native(modes):
            tables = response, weights, self.table.places, self._waves()
            grad_modes, grad, grad_waves = transfer_backward(gradient, modes.contiguous(), *tables)
            return grad_modes, [grad_waves, grad, None]
        grad_waves, there = None, self.table.waves
        if weights.ndim == 2:
            total = torch.linalg.vecdot(modes, gradient, dim=1)
            grad = _transposed(response, total)
            grad_modes = gradient * self._factors(weights).conj().unsqueeze(1)
        else:
            grad, grad_modes = torch.zeros_like(weights).flatten(1), torch.empty_like(modes)
            for some, matrices in self._pieces(weights):
                total = torch.bmm(modes[some].conj_physical().transpose(1, 2), gradient[some])
                grad += _transposed(response[some], total.flatten(1))
                torch.bmm(gradient[some], matrices.mH, out=grad_modes[some])
        if self.waves is not None:
            mixing, waves = ChannelMixing(self.waves), modes[there]
            grad_some, grads = mixing.backward(waves, [], gradient[there])
            grad_modes.index_add_(0, there, grad_some)
            grad_waves = grads[0]
        return grad_modes, [grad_waves, grad.view_as(weights), None]

    def plain(self, modes: Spectrum) -> Spectrum:
        """Return the mixed modes by ordinary operations; without waves."""
        real, imaginary = torch.tensordot(self.table.response, self._real(modes), 1).unbind(1)
        numbers = torch.complex(real, imaginary)
        return modes * numbers.unsqueeze(1) if numbers.ndim == 2 else torch.bmm(modes, numbers)

    def _is_native(self, modes: Tensor) -> bool:
        return self.weights.ndim == 3 and native_applies(modes, self.weights, self.waves)

    def _waves(self) -> Tensor | None:
        return None if self.waves is None else self.waves.contiguous()

    def _real(self, modes: Tensor) -> Tensor:
        return self.weights.to(modes.dtype.to_real()).contiguous()

    def _factors(self, weights: Tensor) -> Tensor:
        return torch.complex(*torch.matmul(self.table.response, weights).unbind(1))

    def _pieces(self, weights: Tensor) -> Iterator[tuple[slice, Tensor]]:
        response, flat = self.table.response, weights.flatten(1)
        step = piece_rows(flat.device, 2 * flat.shape[1] * flat.element_size(), len(response))
        for start in range(0, len(response), step):
            some = slice(start, start + step)
            real, imaginary = torch.matmul(response[some], flat).unbind(1)
            yield some, torch.complex(real, imaginary).unflatten(1, weights.shape[1:])


def _transposed(response: Tensor, total: Tensor) -> Tensor:
    """Return ``Σ_k Re(f̂_m(k)* T(k))`` for each filter."""
    return response.flatten(0, 1).t() @ torch.stack([total.real, total.imag], 1).flatten(0, 1)


def filter_and_mix_by_spectra(
    v: Float[Tensor, "batch *layout in_channel"],
    weights: Float[Tensor, "filter in_channel out_channel"] | Float[Tensor, "filter in_channel"],
    bank: FilterBank,
    ends: tuple[str, ...],
) -> Float[Tensor, "batch *layout out_channel"]:
    """Return ``Σ_m W_m z_m``, see `local_operator`; ``ends`` are the boundaries in the order of the layout.

    Axes that are not periodic are continued first and joined then, where no filter reaches a point that counts.
    """
    added = [0 if end == "periodic" else width for width, end in zip(bank.widths, ends, strict=True)]
    padded = extend(v, added, ends)
    layout = tuple(padded.shape[1:-1])
    table = transfer_table(bank, layout, (), v.dtype, v.device)
    y = spectral_operator(
        padded, lambda modes: _Transfer.apply(modes, weights, table), (*layout[1:], layout[0])
    )
    for dim, (width, size) in enumerate(zip(added, v.shape[1:-1], strict=True), start=1):
        y = y.narrow(dim, width, size)
    return y


class _Transfer(torch.autograd.Function):
    """``ŷ = v̂ M``; keeps ``v̂`` and the weights."""

    @staticmethod
    def forward(ctx: Any, modes: Tensor, weights: Tensor, table: TransferTable) -> Tensor:
        ctx.save_for_backward(modes, weights)
        ctx.table, ctx.precision = table, active_policy()
        return TransferMap(table, None, weights).steps(modes)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        modes, weights = ctx.saved_tensors
        table: TransferTable = ctx.table
        with products_in(ctx.precision, gradient.device):
            if torch.is_grad_enabled():

                def plain(modes: Tensor, weights: Tensor) -> Tensor:
                    return TransferMap(table, None, weights).plain(modes)

                wanted = ctx.needs_input_grad[:2]
                return *differentiable_backward(plain, (modes, weights), gradient, wanted), None
            grad_modes, grads = TransferMap(table, None, weights).backward(modes, [], gradient.contiguous())
            return grad_modes, grads[1], None


def transfer_table(
    bank: FilterBank,
    layout: tuple[int, ...],
    num_modes: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
) -> TransferTable:
    """Return the table of a periodic grid, from a cache.

    Args:
        bank: the filters.
        layout: sizes of the grid in the order of the layout.
        num_modes: kept modes of the waves per axis in space order; none without waves.
        dtype: of the fields.
        device: of the fields.
    """
    return kept(_cached_table(bank, layout, tuple(num_modes), dtype, str(device)))


@lru_cache(maxsize=32)
def _cached_table(
    bank: FilterBank, layout: tuple[int, ...], num_modes: tuple[int, ...], dtype: torch.dtype, device: str
) -> TransferTable:
    with torch.inference_mode(False):  # gradients flow through them later
        kernel = bank.filters.movedim(0, -1).flip(tuple(range(bank.filters.ndim - 1)))
        for dim, (width, size) in enumerate(zip(bank.widths, layout, strict=True)):
            # v(x + j) is a convolution with the kernel at -j; where it is longer than the axis it goes round.
            placed = kernel.new_zeros(*kernel.shape[:dim], size, *kernel.shape[dim + 1 :])
            where = torch.arange(-width, width + 1) % size
            kernel = placed.index_add(dim, where, kernel)
        spectrum = spectral_analysis(kernel[None], (*layout[1:], layout[0]), backend="dft")[:, 0]
        response = torch.stack([spectrum.real, spectrum.imag], 1) * math.prod(layout)
        waves = _rows_of(num_modes, layout) if num_modes else torch.zeros(0, dtype=torch.int64)
        places = torch.full((len(response),), -1)
        places[waves] = torch.arange(len(waves))
        return TransferTable(response.to(device, dtype), waves.to(device), places.to(device))


def _rows_of(num_modes: tuple[int, ...], layout: tuple[int, ...]) -> Tensor:
    """Return where the kept modes lie among all modes of a grid."""
    rows = torch.zeros(1, dtype=torch.int64)
    for place, axis in enumerate(layout_order(len(layout))):
        size, half = layout[place], place == 0
        modes = torch.tensor(kept_modes(num_modes[axis], half=half)) % size
        rows = (rows[:, None] * (size // 2 + 1 if half else size) + modes).flatten()
    return rows
