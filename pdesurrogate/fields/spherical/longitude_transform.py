"""Fourier analysis along longitude for fields with channels last."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pdesurrogate.fields import fourier

from .packed_transform import LARGEST_DFT


class LongitudeTransform:
    """Fields ``(batch, lon, lat, channel)`` to and from their lowest Fourier modes along longitude.

    Modes are ``û_m = 1/N Σ_n u(λ_n) e^{-imλ_n}``, real and imaginary part, as ``(order, lat, plane, batch, channel)``:
    the order leads, for matrices over the latitudes that differ from order to order.

    Args:
        num_lon: points along longitude.
        num_orders: orders ``m`` that are kept, from 0 on; at most ``num_lon // 2 + 1``.
        dtype, device: of the fields.
    """

    def __init__(self, num_lon: int, num_orders: int, dtype: torch.dtype, device: str) -> None:
        self.num_lon = num_lon
        self._num_modes = (min(2 * num_orders - 1, num_lon),)
        self._plan = None
        if num_lon <= LARGEST_DFT:
            self._plan = fourier.dft_plan((num_lon,), self._num_modes, dtype, device)

    def analyse(
        self, u: Float[Tensor, "batch lon lat channel"]
    ) -> Float[Tensor, "order lat 2 batch channel"]:
        """Return the modes, in the memory order in which they come out."""
        batch, num_lon, num_lat, channels = u.shape
        if self._plan is not None:
            modes = self._plan.analyse(u.reshape(batch, num_lon, num_lat * channels))
            return modes.unflatten(-1, (num_lat, channels)).permute(1, 3, 2, 0, 4)
        spectrum = fourier.pruned_forward(u.movedim(1, -1), self._num_modes)
        return torch.view_as_real(spectrum).permute(3, 1, 4, 0, 2)

    def synthesise(
        self, modes: Float[Tensor, "order lat 2 batch channel"]
    ) -> Float[Tensor, "batch lon lat channel"]:
        """Return the fields of modes."""
        planes = modes.permute(3, 0, 2, 1, 4)
        num_lat, channels = planes.shape[3:]
        if self._plan is not None:
            return self._plan.synthesise(planes.flatten(3)).unflatten(-1, (num_lat, channels))
        spectrum = torch.complex(*planes.permute(2, 0, 3, 4, 1).contiguous())
        return fourier.pruned_inverse(spectrum, (self.num_lon,)).movedim(-1, 1)
