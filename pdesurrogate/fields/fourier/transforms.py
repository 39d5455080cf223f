"""Truncated transforms with adjoints, in the layout of the spectral layers, by three routes to the same numbers.

A transform maps fields ``(batch, N_d, N_1, .., N_{d-1}, channel)`` to spectra ``(mode, batch, channel)``, modes
ordered half axis first, in which channel mixing is one batched matrix product. Spectra are complex as soon as one
axis is periodic, and real in boxes with walls on all sides. Each transform has a real inner product's adjoint of
both directions: gradients of a complex spectrum are ``∂/∂Re + i ∂/∂Im``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from .axis_roles import axis_roles, layout_order, periodic_box
from .cosine import cosine_multiplicity, cosine_transform, inverse_cosine_transform
from .dft_plan import dft_plan, half_axis_multiplicity
from .truncated import kept_shape, pruned_forward, pruned_inverse, require_resolved

Spectrum = Complex[Tensor, "mode batch channel"] | Float[Tensor, "mode batch channel"]


class TruncatedTransform(ABC):
    """The real-linear maps between fields on one grid and their kept modes, and the adjoints of both.

    Args:
        grid: sizes in space order ``(N_1, .., N_d)``.
        num_modes: kept modes per axis in space order, counting both signs.
        dtype: of the fields.
        device: of the fields.
        boundaries: ``"periodic"`` or ``"wall"`` per axis in space order; all periodic if None.

    Attributes:
        takes_walls: whether the route serves boxes with walls; those that do not are never given any.
    """

    takes_walls: ClassVar[bool] = False

    def __init__(
        self,
        grid: tuple[int, ...],
        num_modes: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        boundaries: tuple[str, ...] | None = None,
    ) -> None:
        require_resolved(num_modes, grid)
        self.grid, self.num_modes = grid, num_modes
        self.boundaries = periodic_box(len(grid)) if boundaries is None else boundaries
        self.num_kept = math.prod(kept_shape(num_modes, self.boundaries))

    @abstractmethod
    def analyse(self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None) -> Spectrum:
        """Return the kept modes of a field, written to ``out`` where that is given."""

    @abstractmethod
    def synthesise(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""

    @abstractmethod
    def analyse_adjoint(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""

    @abstractmethod
    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Spectrum:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""


class DFTTransform(TruncatedTransform):
    """Matrix products with cosine and sine tables, see `DFTPlan`; in the dtype of the fields, bfloat16 too."""

    takes_walls = True

    def __init__(
        self,
        grid: tuple[int, ...],
        num_modes: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        boundaries: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(grid, num_modes, dtype, device, boundaries)
        self.plan = dft_plan(grid, num_modes, dtype, device, boundaries)

    def analyse(self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None) -> Spectrum:
        """Return the kept modes of a field, written to ``out`` where that is given."""
        return modes_of_planes(self.plan.analyse(u), out)

    def synthesise(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""
        return self.plan.synthesise(planes_of_modes(u_hat, self.plan.dtype), accumulate)

    def analyse_adjoint(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""
        return self.plan.analyse_adjoint(planes_of_modes(u_hat, self.plan.dtype), accumulate)

    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Spectrum:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""
        return modes_of_planes(self.plan.synthesise_adjoint(u), out)


class FFTTransform(TruncatedTransform):
    """Pruned FFTs and cosine transforms, one per axis. The adjoints are the opposite transforms with other weights.

    With multiplicity ``w`` of a mode (2 if it stands for a pair) and ``N`` points, ``Aᵀ ĝ = S (ĝ / W)`` and ``Sᵀ g
    = W A g``, where ``W`` is the product over the axes of ``wN``, between walls of ``N / w``.
    """

    takes_walls = True

    def __init__(
        self,
        grid: tuple[int, ...],
        num_modes: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        boundaries: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(grid, num_modes, dtype, device, boundaries)
        self.ndim = len(grid)
        roles, kept = axis_roles(self.boundaries), kept_shape(num_modes, self.boundaries)
        order = layout_order(self.ndim)
        self._layout_kept = tuple(kept[axis] for axis in order)
        # Channels first, then walls, then full axes, and the half axis last, where the FFTs want it.
        self._arranged = sorted(
            range(self.ndim), key=lambda axis: ("wall", "full", "half").index(roles[axis])
        )
        self._num_walls = roles.count("wall")
        self._places = [order.index(axis) for axis in self._arranged]
        weight = torch.ones(1, dtype=torch.float64)
        for axis in order:
            weight = torch.outer(weight, _axis_weight(roles[axis], grid[axis], kept[axis])).flatten()
        real = torch.promote_types(dtype, torch.float32)
        self._weight = weight.to(dtype=real, device=device).view(-1, 1, 1)

    def analyse(self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None) -> Spectrum:
        """Return the kept modes of a field, written to ``out`` where that is given."""
        channels_first = u.permute(0, -1, *(1 + place for place in self._places))
        u_hat = self._forward(channels_first.to(self._weight.dtype))
        back = [2 + self._places.index(place) for place in range(self.ndim)]
        modes = u_hat.permute(*back, 0, 1).flatten(0, -3)
        return modes if out is None else out.copy_(modes)

    def synthesise(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""
        modes = u_hat.unflatten(0, self._layout_kept).permute(-2, -1, *self._places)
        back = [2 + self._places.index(place) for place in range(self.ndim)]
        field = self._inverse(modes).permute(0, *back, 1)
        return field if accumulate is None else accumulate.add_(field)

    def analyse_adjoint(
        self, u_hat: Spectrum, accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""
        return self.synthesise(u_hat / self._weight, accumulate)

    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Spectrum:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""
        return torch.mul(self.analyse(u), self._weight, out=out)

    def _forward(self, u: Tensor) -> Tensor:
        """Transform channels-first fields, axes in the order of ``_arranged``."""
        walls, periodic = self._arranged[: self._num_walls], self._arranged[self._num_walls :]
        for dim, axis in enumerate(walls, 2):
            u = cosine_transform(u, dim).narrow(dim, 0, self.num_modes[axis])
        return pruned_forward(u, [self.num_modes[axis] for axis in periodic]) if periodic else u

    def _inverse(self, u_hat: Tensor) -> Tensor:
        walls, periodic = self._arranged[: self._num_walls], self._arranged[self._num_walls :]
        u = pruned_inverse(u_hat, [self.grid[axis] for axis in periodic]) if periodic else u_hat
        for dim, axis in enumerate(walls, 2):
            missing = [0, 0] * (u.ndim - dim - 1) + [0, self.grid[axis] - u.shape[dim]]
            u = inverse_cosine_transform(F.pad(u, missing), dim)
        return u


def _axis_weight(role: str, size: int, num_kept: int) -> Tensor:
    if role == "wall":
        return size / cosine_multiplicity(num_kept)
    if role == "half":
        return size * half_axis_multiplicity(size, num_kept)
    return torch.full((num_kept,), float(size), dtype=torch.float64)


def modes_of_planes(planes: Float[Tensor, "batch mode plane channel"], out: Tensor | None = None) -> Spectrum:
    """Return two planes as a complex mode-first spectrum, one plane as a real one; in float32 or float64."""
    if planes.shape[2] == 2:
        return complex_modes(planes, out)
    modes = planes[:, :, 0].transpose(0, 1)
    if out is None:
        out = torch.empty(
            modes.shape, dtype=torch.promote_types(planes.dtype, torch.float32), device=planes.device
        )
    return out.copy_(modes)


def planes_of_modes(u_hat: Spectrum, dtype: torch.dtype) -> Float[Tensor, "batch mode plane channel"]:
    """Return a mode-first spectrum as real and imaginary planes, or as one plane if it is real."""
    if u_hat.is_complex():
        return real_planes(u_hat, dtype)
    return u_hat.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format).unsqueeze(2)


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
    boundaries: tuple[str, ...] | None = None,
) -> TruncatedTransform:
    """Return a transform from a cache; its tables are ordinary tensors even if it is made in inference mode."""
    if boundaries is not None and "wall" not in boundaries:
        boundaries = None  # a periodic box has one name
    return _cached_transform(route, grid, num_modes, dtype, device, boundaries)


@lru_cache(maxsize=128)
def _cached_transform(
    route: type[TruncatedTransform],
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    boundaries: tuple[str, ...] | None,
) -> TruncatedTransform:
    with torch.inference_mode(False):
        if boundaries is None:
            return route(grid, num_modes, dtype, device)
        return route(grid, num_modes, dtype, device, boundaries)
