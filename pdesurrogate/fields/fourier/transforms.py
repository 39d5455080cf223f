"""Truncated transforms with adjoints, in the layout of the spectral layers, by three routes to the same numbers.

A transform maps fields ``(batch, N_d, N_1, .., N_{d-1}, channel)`` to complex spectra ``(mode, batch,
channel)``, modes ordered half axis first, in which channel mixing is one batched matrix product. Each has
a real inner product's adjoint of both directions: gradients of a spectrum are ``∂/∂Re + i ∂/∂Im``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .dft_plan import dft_plan, half_axis_multiplicity
from .modes import forward_transform, inverse_transform, mode_numbers
from .truncated import kept_modes, kept_shape, pruned_forward, pruned_inverse, require_resolved


class TruncatedTransform(ABC):
    """The real-linear maps between fields on one grid and their kept modes, and the adjoints of both.

    Args:
        grid: sizes in space order ``(N_1, .., N_d)``.
        num_modes: kept modes per axis in space order, counting both signs.
        dtype: of the fields.
        device: of the fields.
    """

    def __init__(
        self, grid: tuple[int, ...], num_modes: tuple[int, ...], dtype: torch.dtype, device: str
    ) -> None:
        require_resolved(num_modes, grid)
        self.grid, self.num_modes = grid, num_modes
        self.num_kept = math.prod(kept_shape(num_modes))

    @abstractmethod
    def analyse(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the kept modes of a field, written to ``out`` where that is given."""

    @abstractmethod
    def synthesise(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""

    @abstractmethod
    def analyse_adjoint(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""

    @abstractmethod
    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""


class DFTTransform(TruncatedTransform):
    """Matrix products with cosine and sine tables, see `DFTPlan`; in the dtype of the fields, bfloat16 too."""

    def __init__(
        self, grid: tuple[int, ...], num_modes: tuple[int, ...], dtype: torch.dtype, device: str
    ) -> None:
        super().__init__(grid, num_modes, dtype, device)
        self.plan = dft_plan(grid, num_modes, dtype, device)

    def analyse(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the kept modes of a field, written to ``out`` where that is given."""
        return complex_modes(self.plan.analyse(u), out)

    def synthesise(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""
        return self.plan.synthesise(real_planes(u_hat, self.plan.dtype), accumulate)

    def analyse_adjoint(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""
        return self.plan.analyse_adjoint(real_planes(u_hat, self.plan.dtype), accumulate)

    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""
        return complex_modes(self.plan.synthesise_adjoint(u), out)


class FFTTransform(TruncatedTransform):
    """Pruned FFTs, one per axis. The adjoints are the opposite transforms with other weights.

    With multiplicity ``w`` of a half-axis mode and ``N`` points, ``Aᵀ ĝ = S (ĝ / (wN))`` and ``Sᵀ g = wN A g``.
    """

    def __init__(
        self, grid: tuple[int, ...], num_modes: tuple[int, ...], dtype: torch.dtype, device: str
    ) -> None:
        super().__init__(grid, num_modes, dtype, device)
        self.ndim = len(grid)
        kept = kept_shape(num_modes)
        weight = half_axis_multiplicity(grid[-1], kept[-1]) * math.prod(grid)
        weight = weight.repeat_interleave(math.prod(kept[:-1])).view(-1, 1, 1)
        self._weight = weight.to(torch.promote_types(dtype, torch.float32)).to(device)

    def analyse(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the kept modes of a field, written to ``out`` where that is given."""
        ndim = self.ndim
        channels_first = u.permute(0, ndim + 1, *range(2, ndim + 1), 1)
        u_hat = self._forward(channels_first.to(self._weight.dtype))
        modes = u_hat.permute(ndim + 1, *range(2, ndim + 1), 0, 1).flatten(0, ndim - 1)
        return modes if out is None else out.copy_(modes)

    def synthesise(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""
        ndim = self.ndim
        kept = kept_shape(self.num_modes)
        modes = u_hat.unflatten(0, (kept[-1], *kept[:-1])).permute(ndim, ndim + 1, *range(1, ndim), 0)
        field = self._inverse(modes).permute(0, ndim + 1, *range(2, ndim + 1), 1)
        return field if accumulate is None else accumulate.add_(field)

    def analyse_adjoint(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""
        return self.synthesise(u_hat / self._weight, accumulate)

    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""
        return torch.mul(self.analyse(u), self._weight, out=out)

    def _forward(self, u: Tensor) -> Tensor:
        return pruned_forward(u, self.num_modes)

    def _inverse(self, u_hat: Tensor) -> Tensor:
        return pruned_inverse(u_hat, self.grid)


class ReferenceTransform(FFTTransform):
    """The definition: the whole spectrum, of which the kept modes are cut out, or zeros around them. The oracle."""

    def _forward(self, u: Tensor) -> Tensor:
        u_hat = forward_transform(u, self.ndim)
        for dim, places in enumerate(self._places(u.device)):
            u_hat = u_hat.index_select(dim + 2, places)
        return u_hat

    def _inverse(self, u_hat: Tensor) -> Tensor:
        half_grid = (*self.grid[:-1], self.grid[-1] // 2 + 1)
        for dim, places in enumerate(self._places(u_hat.device)):
            shape = list(u_hat.shape)
            shape[dim + 2] = half_grid[dim]
            u_hat = u_hat.new_zeros(shape).index_copy(dim + 2, places, u_hat)
        return inverse_transform(u_hat, self.grid)

    def _places(self, device: torch.device) -> list[Tensor]:
        places = []
        for axis, (size, num_modes) in enumerate(zip(self.grid, self.num_modes, strict=True)):
            half = axis == self.ndim - 1
            numbers = mode_numbers(size, half=half).tolist()
            kept = [numbers.index(k) for k in kept_modes(num_modes, half=half)]
            places.append(torch.tensor(kept, device=device))
        return places


def complex_modes(
    planes: Float[Tensor, "batch mode 2 channel"], out: Tensor | None = None
) -> Complex[Tensor, "mode batch channel"]:
    """Return real and imaginary planes as a mode-first complex spectrum, complex64 for half-precision planes."""
    if out is None:
        batch, modes, _, channels = planes.shape
        dtype = torch.complex128 if planes.dtype == torch.float64 else torch.complex64
        out = torch.empty(modes, batch, channels, dtype=dtype, device=planes.device)
    parts = torch.view_as_real(out)
    parts[..., 0] = planes[:, :, 0].transpose(0, 1)
    parts[..., 1] = planes[:, :, 1].transpose(0, 1)
    return out


def real_planes(
    u_hat: Complex[Tensor, "mode batch channel"], dtype: torch.dtype
) -> Float[Tensor, "batch mode 2 channel"]:
    """Return a mode-first complex spectrum as real and imaginary planes."""
    modes, batch, channels = u_hat.shape
    planes = torch.empty(batch, modes, 2, channels, dtype=dtype, device=u_hat.device)
    planes[:, :, 0] = u_hat.real.transpose(0, 1)
    planes[:, :, 1] = u_hat.imag.transpose(0, 1)
    return planes


def truncated_transform(
    route: type[TruncatedTransform],
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
) -> TruncatedTransform:
    """Return a transform from a cache; its tables are ordinary tensors even if it is made in inference mode."""
    return _cached_transform(route, grid, num_modes, dtype, device)


@lru_cache(maxsize=128)
def _cached_transform(
    route: type[TruncatedTransform],
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
) -> TruncatedTransform:
    with torch.inference_mode(False):
        return route(grid, num_modes, dtype, device)
