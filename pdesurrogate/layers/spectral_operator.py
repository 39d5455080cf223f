"""Operators on kept modes: ``v = F⁻¹[ M( F[u] ) ]`` with any differentiable map ``M`` of the spectrum.

Layout. Fields are ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half-spectrum axis leading, channels last. Spectra
are ``(mode, batch, channel)``, modes in the same axis order, complex; in boxes with walls on all sides they are the
cosine amplitudes, and real. The arithmetic is that of a precision policy under any autocast.

The transforms keep nothing for the backward pass; what ``M`` keeps has the size of the kept modes. They are
differentiable any number of times. Traced programs (``torch.compile``, ``torch.export``) and transforms of
``torch.func`` take matrix products of real numbers, whatever the backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import (
    DFTPlan,
    Spectrum,
    TruncatedTransform,
    dft_plan,
    has_real_spectra,
    kept_shape,
    require_resolved,
)
from .precision import check_precision, note_slow_bfloat16, products_in, working_dtype
from .spectral_backends import BACKENDS, choose_backend
from .tracing import needs_plain_operations

Mixing = Callable[[Tensor], Tensor]


def spectral_operator(
    u: Float[Tensor, "batch *layout in_channel"],
    mixing: Mixing,
    num_modes: Sequence[int],
    *,
    boundaries: Sequence[str] | None = None,
    base: Float[Tensor, "batch *out_layout out_channel"] | None = None,
    out_grid: Sequence[int] | None = None,
    backend: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *out_layout out_channel"]:
    """Return the field whose kept modes are ``mixing`` of those of ``u``, and whose other modes are zero.

    A mixing maps a spectrum ``(mode, batch, in)`` to ``(mode, batch, out)`` by differentiable operations; autocast is
    off around it. While a program is traced, a mixing with a method ``on_planes`` is called through that instead,
    with real planes ``(plane, mode, batch, in)``, real and imaginary part, and returns such planes: the program then
    holds products of real numbers alone, which compilers and ONNX ask for. `mode_matmul` and `mode_multiply` take
    both forms. Without ``on_planes`` the mixing's own part of a traced program is complex, which ``torch.export``
    takes, ``torch.compile`` runs uncompiled and ONNX refuses.

    Args:
        u: fields in the layout above; any strides.
        mixing: the map of the spectrum.
        num_modes: kept modes per axis in space order ``(1, .., d)``, counting both signs; between walls the number
            of cosines.
        boundaries: ``"periodic"`` or ``"wall"`` per axis in space order; all periodic if None.
        base: fields to which the result is added, in the last product of the synthesis.
        out_grid: sizes in space order of the grid on which the result is evaluated; that of ``u`` if None.
        backend: ``"auto"`` (the predicted fastest) or a key of `BACKENDS`.
        precision: a policy, see `pdesurrogate.layers.precision`.

    Raises:
        TypeError: if the field is not real and floating, or the mixing changes the kind of number.
        ValueError: if an axis is empty, a mode is above the Nyquist mode of a grid, the mixing returns other modes or
            samples than it was given, or the backend is unknown or cannot run on this device.
    """
    box = Box(tuple(num_modes), walled(boundaries), backend, precision)
    grid = grid_of(u)
    check_field(u, box, grid)
    out_grid = grid if out_grid is None else tuple(out_grid)
    require_resolved(box.num_modes, out_grid)
    return operate(u, mixing, box, out_grid, base, plain=needs_plain_operations(u, base))


def spectral_analysis(
    u: Float[Tensor, "batch *layout channel"],
    num_modes: Sequence[int],
    *,
    boundaries: Sequence[str] | None = None,
    backend: str = "auto",
    precision: str = "full",
) -> Spectrum:
    """Return the kept modes of a field, for models that stay in mode space; the rest as in `spectral_operator`."""
    box = Box(tuple(num_modes), walled(boundaries), backend, precision)
    check_field(u, box, grid_of(u))
    with products_in(precision, u.device):
        v = u.to(working_dtype(u.dtype, precision))
        if needs_plain_operations(u):
            return _numbers(_planes_of_field(v, box))
        down = box.transform(box.route(grid_of(v), v.shape[0], v), grid_of(v), v.dtype, v.device)
        return _Linear.apply(v, down.analyse, down.analyse_adjoint)


def spectral_synthesis(
    u_hat: Spectrum,
    num_modes: Sequence[int],
    grid: Sequence[int],
    *,
    boundaries: Sequence[str] | None = None,
    base: Float[Tensor, "batch *layout channel"] | None = None,
    backend: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *layout channel"]:
    """Return the field on ``grid`` with the given kept modes, added to ``base`` where that is given.

    Raises:
        TypeError: if a complex spectrum is given for a box with walls on all sides, or a real one for another.
        ValueError: if there is another number of modes than ``num_modes`` keep, one of them is above the grid's
            Nyquist mode, or the backend is unknown or cannot run on this device.
    """
    box, grid = Box(tuple(num_modes), walled(boundaries), backend, precision), tuple(grid)
    require_resolved(box.num_modes, grid)
    _check_spectrum(u_hat, box, u_hat.shape[1])
    real = u_hat.dtype.to_real()
    with products_in(precision, u_hat.device):
        plain = needs_plain_operations(u_hat, base)
        route = "" if plain else box.route(grid, u_hat.shape[1], u_hat)
        return _synthesise(u_hat, box, route, grid, base, working_dtype(real, precision), plain=plain).to(
            real
        )


def operate(
    u: Tensor, mixing: Mixing, box: Box, out_grid: tuple[int, ...], base: Tensor | None, *, plain: bool
) -> Tensor:
    """Return the operator's field from checked arguments; ``plain`` asks for ordinary operations throughout."""
    grid, dtype = grid_of(u), working_dtype(u.dtype, box.precision)
    with products_in(box.precision, u.device):
        v = u.to(dtype)
        if plain:
            planes = _planes_of_field(v, box)
            on_planes = getattr(mixing, "on_planes", None)
            mixed = _planes(mixing(_numbers(planes))) if on_planes is None else on_planes(planes)
            return _field_of_planes(mixed, box, out_grid, base, dtype).to(u.dtype)
        route = box.route(grid, v.shape[0], v)
        down = box.transform(route, grid, dtype, v.device)
        u_hat = _Linear.apply(v, down.analyse, down.analyse_adjoint)
        v_hat = mixing(u_hat)
        _check_spectrum(v_hat, box, v.shape[0])
        # The weights of a mixing may carry tangents of their own.
        plain = needs_plain_operations(v_hat)
        return _synthesise(v_hat, box, route, out_grid, base, dtype, plain=plain).to(u.dtype)


def _synthesise(
    u_hat: Tensor,
    box: Box,
    route: str,
    grid: tuple[int, ...],
    base: Tensor | None,
    dtype: torch.dtype,
    *,
    plain: bool,
) -> Tensor:
    if plain:
        return _field_of_planes(_planes(u_hat), box, grid, base, dtype)
    up = box.transform(route, grid, dtype, u_hat.device)
    base = None if base is None else base.to(dtype)
    return _LinearInto.apply(u_hat, base, up.synthesise, up.synthesise_adjoint)


@dataclass(frozen=True)
class Box:
    """Kept modes and boundaries of a box, and the way its transforms are computed.

    Attributes:
        num_modes: per axis in space order.
        boundaries: per axis in space order, None if all are periodic.
        backend, precision: see `spectral_operator`.
    """

    num_modes: tuple[int, ...]
    boundaries: tuple[str, ...] | None
    backend: str
    precision: str

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.boundaries is not None and len(self.boundaries) != len(self.num_modes):
            raise ValueError(
                f"num_modes {self.num_modes} and boundaries {self.boundaries} must have one entry per axis."
            )

    @property
    def num_kept(self) -> int:
        """Number of kept modes."""
        return math.prod(kept_shape(self.num_modes, self.boundaries))

    @property
    def has_real_spectra(self) -> bool:
        """Whether there are walls on all sides."""
        return self.boundaries is not None and has_real_spectra(self.boundaries)

    def route(self, grid: tuple[int, ...], batch: int, like: Tensor) -> str:
        """Return the name of the backend for transforms of fields on a grid, with the channels of ``like``."""
        dtype = working_dtype(like.dtype.to_real(), self.precision)
        if dtype == torch.bfloat16:
            note_slow_bfloat16(like.device.type)
        return choose_backend(
            self.backend,
            grid,
            self.num_modes,
            batch=batch,
            channels=like.shape[-1],
            dtype=dtype,
            device=like.device,
            boundaries=self.boundaries,
        )

    def transform(
        self, route: str, grid: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> TruncatedTransform:
        """Return the transforms of a grid by a backend."""
        return BACKENDS[route].build(grid, self.num_modes, dtype, str(device), self.boundaries)

    def plan(self, grid: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> DFTPlan:
        """Return the tables of a grid."""
        return dft_plan(grid, self.num_modes, dtype, str(device), self.boundaries)


def walled(boundaries: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the boundaries, None for a box that is periodic along all axes."""
    return None if boundaries is None or set(boundaries) == {"periodic"} else tuple(boundaries)


def grid_of(u: Float[Tensor, "batch *layout channel"]) -> tuple[int, ...]:
    """Return the sizes of a field's axes in space order."""
    return (*u.shape[2:-1], u.shape[1])


def check_field(u: Tensor, box: Box, grid: tuple[int, ...]) -> None:
    """Refuse a field that has no spectrum; the errors are those of `spectral_operator`."""
    if u.is_complex() or not u.is_floating_point():
        raise TypeError(
            f"A spectral operator acts on real fields; this one is {u.dtype}. Give the real and the imaginary "
            "part as two channels, and convert whole numbers to float32."
        )
    if 0 in u.shape:
        raise ValueError(
            f"A spectral operator needs at least one entry on every axis; the field has shape {tuple(u.shape)}, "
            "laid out (batch, N_d, N_1, .., channel)."
        )
    require_resolved(box.num_modes, grid)


def _check_spectrum(u_hat: Tensor, box: Box, batch: int) -> None:
    if u_hat.is_complex() == box.has_real_spectra:
        given, needed = ("complex", "real") if u_hat.is_complex() else ("real", "complex")
        raise TypeError(
            f"a {given} spectrum came for a box whose spectra are {needed}. With walls on all sides modes are real "
            "cosine amplitudes; with a periodic axis they are complex."
        )
    if u_hat.ndim != 3 or u_hat.shape[:2] != (box.num_kept, batch):
        raise ValueError(
            f"a spectrum of shape {tuple(u_hat.shape)} came where (mode, batch, channel) has {box.num_kept} modes, "
            f"which is what num_modes {box.num_modes} keep, and {batch} samples."
        )


def _planes_of_field(u: Tensor, box: Box) -> Tensor:
    planes = box.plan(grid_of(u), u.dtype, u.device).analyse(u)
    return planes.to(torch.promote_types(u.dtype, torch.float32)).permute(2, 1, 0, 3)


def _field_of_planes(
    planes: Tensor, box: Box, grid: tuple[int, ...], base: Tensor | None, dtype: torch.dtype
) -> Tensor:
    v = box.plan(grid, dtype, planes.device).synthesise(planes.permute(2, 1, 0, 3).to(dtype))
    return v if base is None else base.to(dtype) + v


def _numbers(planes: Tensor) -> Tensor:
    return planes[0] if len(planes) == 1 else torch.complex(planes[0], planes[1])


def _planes(u_hat: Tensor) -> Tensor:
    return torch.stack([u_hat.real, u_hat.imag]) if u_hat.is_complex() else u_hat[None]


class _Linear(torch.autograd.Function):
    """A real-linear map under autograd: saves nothing, and its derivative of any order is exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Any, adjoint: Any) -> Tensor:
        ctx.maps = linear, adjoint
        ctx.dtype = x.dtype
        with torch.autocast(x.device.type, enabled=False):
            return linear(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        linear, adjoint = ctx.maps
        return _Linear.apply(gradient, adjoint, linear).to(ctx.dtype), None, None


class _LinearInto(torch.autograd.Function):
    """A real-linear map, added to a base where there is one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor | None, linear: Any, adjoint: Any) -> Tensor:
        ctx.maps = linear, adjoint
        with torch.autocast(x.device.type, enabled=False):
            if base is None:
                return linear(x)
            return linear(x, base.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        linear, adjoint = ctx.maps
        x = _Linear.apply(gradient, adjoint, linear) if ctx.needs_input_grad[0] else None
        return x, gradient if ctx.needs_input_grad[1] else None, None, None
