"""Local operators by their spectra: ``ŷ = Σ_m W_m f̂_m v̂`` on all modes of the grid."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ..fields.fourier.kept_tables import kept
from .filter_bank import FilterBank
from .halo import extend
from .mode_products import mode_matmul, mode_multiply
from .spectral_operator import spectral_analysis, spectral_operator


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
    response = kept(_response(bank, layout, v.dtype, str(v.device)))

    def mixing(modes: Tensor) -> Tensor:
        numbers = torch.view_as_real(response)
        if weights.ndim == 2:
            total = torch.einsum("km,mc->kc", response, weights.to(response.dtype))
            return mode_multiply(modes, torch.view_as_real(total))
        # Factors first: (mode, filter) times (mode, batch, channel), all filters side by side.
        each = [
            mode_multiply(modes, numbers[:, m, None].expand(-1, modes.shape[-1], -1))
            for m in range(bank.size)
        ]
        matrix = weights.flatten(0, 1)
        return mode_matmul(torch.cat(each, -1), torch.stack([matrix, torch.zeros_like(matrix)], -1))

    space = (*layout[1:], layout[0])
    y = spectral_operator(padded, mixing, space)
    for dim, (width, size) in enumerate(zip(added, v.shape[1:-1], strict=True), start=1):
        y = y.narrow(dim, width, size)
    return y


@lru_cache(maxsize=32)
def _response(
    bank: FilterBank, layout: tuple[int, ...], dtype: torch.dtype, device: str
) -> Complex[Tensor, "mode filter"]:
    """Return the factor by which each filter multiplies each mode of a periodic grid."""
    with torch.inference_mode(False):
        kernel = bank.filters.movedim(0, -1).flip(tuple(range(bank.filters.ndim - 1)))
        for dim, (width, size) in enumerate(zip(bank.widths, layout, strict=True)):
            # v(x + j) is a convolution with the kernel at -j; where it is longer than the axis it goes round.
            placed = kernel.new_zeros(*kernel.shape[:dim], size, *kernel.shape[dim + 1 :])
            where = torch.arange(-width, width + 1) % size
            kernel = placed.index_add(dim, where, kernel)
        spectrum = spectral_analysis(kernel[None], (*layout[1:], layout[0]), backend="dft")
        response = spectrum[:, 0] * math.prod(layout)
        return response.to(device, torch.complex128 if dtype == torch.float64 else torch.complex64)
