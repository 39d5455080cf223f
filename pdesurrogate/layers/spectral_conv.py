"""Spectral convolution: a different channel-mixing matrix on every kept Fourier mode.

``v̂_o(k) = Σ_i W_io(k) û_i(k)`` on the kept modes ``k``, zero elsewhere (Li et al. 2021,
arXiv:2010.08895, equations 4 and 5).

Layout. Fields are ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half-spectrum axis leading, channels last.
Weights are real, ``(mode, in, out, 2)`` with a trailing (real, imaginary) pair, modes in the same axis
order; optimisers, sharding and export then meet real tensors only. In boxes with walls on all sides spectra are
real and the trailing axis has one entry.

It is the `spectral_operator` whose mixing is one batched matrix product. `BACKENDS` give the same numbers by
different routes; all keep only the truncated spectrum for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields.fourier import has_real_spectra, kept_shape, require_resolved
from .channel_mixing import ChannelMixing
from .precision import check_precision
from .spectral_backends import check_backend
from .spectral_operator import Box, check_field, grid_of, operate, walled
from .tracing import needs_plain_operations


def spectral_conv(
    u: Float[Tensor, "batch *layout in_channel"],
    weight: Float[Tensor, "mode in_channel out_channel plane"],
    num_modes: Sequence[int],
    *,
    boundaries: Sequence[str] | None = None,
    base: Float[Tensor, "batch *out_layout out_channel"] | None = None,
    out_grid: Sequence[int] | None = None,
    backend: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *out_layout out_channel"]:
    """Return ``u`` with its kept modes mixed by ``weight`` and the others set to zero.

    Args:
        u: fields in the layout above; any strides.
        weight: mixing matrices.
        num_modes: kept modes per axis in space order ``(1, .., d)``, counting both signs; between walls the number
            of cosines.
        boundaries: ``"periodic"`` or ``"wall"`` per axis in space order; all periodic if None.
        base: fields to which the result is added, in the last product of the synthesis.
        out_grid: sizes in space order of the grid on which the result is evaluated; that of ``u`` if None.
        backend: ``"auto"`` (the predicted fastest) or a key of `BACKENDS`.
        precision: a policy, see `pdesurrogate.layers.precision`.

    Raises:
        TypeError: if the field is not real and floating.
        ValueError: if an axis is empty, a mode is above the Nyquist mode of a grid, the weight has another
            number of modes or planes, or the backend is unknown or cannot run on this device.
    """
    box = Box(tuple(num_modes), walled(boundaries), backend, precision)
    grid = grid_of(u)
    out_grid = grid if out_grid is None else tuple(out_grid)
    check_spectral_input(u, weight, box, grid, out_grid)
    mixing = ChannelMixing(weight)
    return operate(u, mixing, box, out_grid, base, plain=needs_plain_operations(u, weight, base))


def check_spectral_input(
    u: Tensor, weight: Tensor, box: Box, grid: tuple[int, ...], out_grid: tuple[int, ...]
) -> None:
    """Refuse what a spectral convolution cannot act on; the errors are those of `spectral_conv`."""
    check_field(u, box, grid)
    if out_grid != grid:
        require_resolved(box.num_modes, out_grid)
    if weight.shape[0] != box.num_kept:
        raise ValueError(
            f"num_modes {box.num_modes} keep {box.num_kept} modes; the weight has {weight.shape[0]}."
        )


class SpectralConv(nn.Module):
    """A learned spectral convolution on fields ``(batch, N_d, N_1, .., N_{d-1}, channel)``.

    Initial weights are complex normal with variance ``2 / (in + out)`` (neuraloperator's scale), which
    keeps the variance of every mode: a sum over ``in`` channels with mean square ``1/in``.

    Args:
        in_channels, out_channels: channels of the input and output field.
        num_modes: kept modes per axis in space order, counting both signs; between walls the number of cosines.
        boundaries: per axis in space order, see `spectral_conv`.
        backend: see `spectral_conv`.
        precision: see `pdesurrogate.layers.precision`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_modes: Sequence[int],
        *,
        boundaries: Sequence[str] | None = None,
        backend: str = "auto",
        precision: str = "full",
    ) -> None:
        super().__init__()
        check_backend(backend)
        check_precision(precision)
        self.num_modes = tuple(num_modes)
        self.boundaries = walled(boundaries)
        self.backend = backend
        self.precision = precision
        num_kept = math.prod(kept_shape(self.num_modes, self.boundaries))
        planes = 1 if has_real_spectra(self.boundaries or ("periodic",)) else 2
        per_plane = math.sqrt(2.0 / planes / (in_channels + out_channels))
        self.weight = nn.Parameter(per_plane * torch.randn(num_kept, in_channels, out_channels, planes))

    def forward(
        self, u: Float[Tensor, "batch *layout in_channel"]
    ) -> Float[Tensor, "batch *layout out_channel"]:
        """Return the convolved field."""
        return spectral_conv(
            u,
            self.weight,
            self.num_modes,
            boundaries=self.boundaries,
            backend=self.backend,
            precision=self.precision,
        )

    def extra_repr(self) -> str:
        """Channels, modes and backend, for printing."""
        _, in_channels, out_channels, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, num_modes={self.num_modes}, backend={self.backend!r}"
