"""Truncated real transforms: only the kept modes are ever computed.

A kept set is given by ``num_modes``, the number of modes per axis counting both signs. On a full axis
the ``K`` modes nearest zero are kept, ``-floor(K/2) .. ceil(K/2) - 1``; on the half axis ``0 ..
K//2``. This is the convention of neuraloperator's ``n_modes``.

Two routes to the same numbers. The `pruned_*` functions run one FFT per axis and keep the wanted modes
before going on to the next. `DFTPlan` writes the transform as real matrix products with cosine and sine
tables, on fields laid out ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half axis leading, channels last.
In that order each product is "table times contiguous batch" and leaves its result contiguous for the
next one, in any dimension. Tables are built in float64 with exact phases ``k·n mod N``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def kept_modes(num_modes: int, *, half: bool) -> list[int]:
    """Return the kept mode numbers of an axis in transform order."""
    if half:
        return list(range(num_modes // 2 + 1))
    return [*range((num_modes + 1) // 2), *range(-(num_modes // 2), 0)]


def kept_shape(num_modes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the kept half spectrum, axes in space order."""
    return (*num_modes[:-1], num_modes[-1] // 2 + 1)


def require_resolved(num_modes: Sequence[int], grid: Sequence[int], axis_names: Sequence[str] = ()) -> None:
    """Check that every kept mode is at or below the grid's Nyquist mode.

    Raises:
        ValueError: naming the axis, its size and the largest allowed number of modes.
    """
    if len(num_modes) != len(grid):
        raise ValueError(f"num_modes {tuple(num_modes)} and grid {tuple(grid)} differ in dimension.")
    for i, (k, n) in enumerate(zip(num_modes, grid, strict=True)):
        if not 1 <= k <= n:
            axis = f"axis {axis_names[i]!r}" if axis_names else f"axis {i}"
            raise ValueError(
                f"{k} modes on {axis} need at least {max(k, 1)} grid points there and the grid has {n}. "
                f"Use num_modes of at most {n} on this axis, or a finer grid."
            )


def pruned_forward(
    u: Float[Tensor, "*lead_and_space"], num_modes: Sequence[int]
) -> Complex[Tensor, "*lead_and_kept"]:
    """Return the kept modes of a real field over its last ``len(num_modes)`` axes.

    Raises:
        ValueError: if the grid does not resolve them.
    """
    ndim = len(num_modes)
    require_resolved(num_modes, u.shape[-ndim:])
    u_hat = torch.fft.rfft(u, dim=-1, norm="forward").narrow(-1, 0, num_modes[-1] // 2 + 1)
    for dim in range(-2, -ndim - 1, -1):
        u_hat = torch.fft.fft(u_hat, dim=dim, norm="forward")
        size, kept = u.shape[dim], num_modes[dim]
        if kept < size:
            positive, negative = (kept + 1) // 2, kept // 2
            parts = (u_hat.narrow(dim, 0, positive), u_hat.narrow(dim, size - negative, negative))
            u_hat = torch.cat(parts, dim)
    return u_hat


def pruned_inverse(
    u_hat: Complex[Tensor, "*lead_and_kept"], grid: Sequence[int]
) -> Float[Tensor, "*lead_and_space"]:
    """Return the real field on ``grid`` with the given kept modes and zeros elsewhere.

    Raises:
        ValueError: if there are more modes on an axis than the grid has.
    """
    ndim = len(grid)
    kept_grid = (*grid[:-1], grid[-1] // 2 + 1)
    if any(k > n for k, n in zip(u_hat.shape[-ndim:], kept_grid, strict=True)):
        raise ValueError(
            f"modes of shape {tuple(u_hat.shape[-ndim:])} do not fit on the grid {tuple(grid)}, whose half "
            f"spectrum is {kept_grid}. Keep fewer modes or choose a finer grid."
        )
    for dim in range(-ndim, -1):
        size, kept = grid[dim], u_hat.shape[dim]
        if kept < size:
            positive, negative = (kept + 1) // 2, kept // 2
            gap = list(u_hat.shape)
            gap[dim] = size - kept
            parts = (
                u_hat.narrow(dim, 0, positive),
                u_hat.new_zeros(gap),
                u_hat.narrow(dim, positive, negative),
            )
            u_hat = torch.cat(parts, dim)
        u_hat = torch.fft.ifft(u_hat, dim=dim, norm="forward")
    return torch.fft.irfft(u_hat, n=grid[-1], dim=-1, norm="forward")


class DFTPlan:
    """Cosine and sine tables of a truncated real transform between one grid and its kept modes.

    ``analyse`` maps ``(batch, N_d, N_1, .., channel)`` to ``(batch, modes, 2, channel)``, real and
    imaginary planes; ``synthesise`` maps back. ``*_adjoint`` are their transposes, which is all that
    a backward pass needs. Modes are ordered half axis first: ``(k_d, k_1, .., k_{d-1})``.

    Args:
        grid: sizes in space order ``(N_1, .., N_d)``.
        num_modes: kept modes per axis in space order.
        dtype, device: of the tables.
    """

    def __init__(
        self,
        grid: Sequence[int],
        num_modes: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        require_resolved(num_modes, grid)
        self.layout_grid = (grid[-1], *grid[:-1])
        kept = kept_shape(num_modes)
        self.layout_kept = (kept[-1], *kept[:-1])
        self.num_kept = math.prod(kept)
        tables = [_half_axis_tables(grid[-1], num_modes[-1])]
        tables += [_full_axis_tables(n, k) for n, k in zip(grid[:-1], num_modes[:-1], strict=True)]

        def cast(table: Tensor) -> Tensor:
            return table.to(dtype=dtype, device=device).contiguous()

        self._analysis = [cast(a) for a, _ in tables]
        self._synthesis = [cast(s) for _, s in tables]
        self._analysis_t = [cast(a.T) for a, _ in tables]
        self._synthesis_t = [cast(s.T) for _, s in tables]

    def analyse(self, u: Tensor) -> Float[Tensor, "batch modes 2 channel"]:
        """Field to kept modes."""
        return self._down(u, self._analysis)

    def synthesise(self, planes: Float[Tensor, "batch modes 2 channel"]) -> Tensor:
        """Kept modes to field."""
        return self._up(planes, self._synthesis)

    def analyse_adjoint(self, planes: Float[Tensor, "batch modes 2 channel"]) -> Tensor:
        """Transpose of `analyse`: gradient of the modes to gradient of the field."""
        return self._up(planes, self._analysis_t)

    def synthesise_adjoint(self, u: Tensor) -> Float[Tensor, "batch modes 2 channel"]:
        """Transpose of `synthesise`: gradient of the field to gradient of the modes."""
        return self._down(u, self._synthesis_t)

    def _down(self, u: Tensor, tables: list[Tensor]) -> Tensor:
        batch, channels = u.shape[0], u.shape[-1]
        rest = math.prod(self.layout_grid[1:]) * channels
        out = torch.matmul(tables[0], u.reshape(batch, self.layout_grid[0], rest))
        lead = batch * self.layout_kept[0]
        for table, n, k in zip(tables[1:], self.layout_grid[1:], self.layout_kept[1:], strict=True):
            rest //= n
            out = torch.matmul(table, out.view(lead, 2 * n, rest))
            lead *= k
        return out.view(batch, self.num_kept, 2, channels)

    def _up(self, planes: Tensor, tables: list[Tensor]) -> Tensor:
        batch, channels = planes.shape[0], planes.shape[-1]
        lead, rest = batch * self.num_kept, channels
        out = planes
        for table, n, k in zip(
            reversed(tables[1:]),
            reversed(self.layout_grid[1:]),
            reversed(self.layout_kept[1:]),
            strict=True,
        ):
            lead //= k
            out = torch.matmul(table, out.reshape(lead, 2 * k, rest))
            rest *= n
        out = torch.matmul(tables[0], out.reshape(batch, 2 * self.layout_kept[0], rest))
        return out.view(batch, *self.layout_grid, channels)


def dft_plan(grid: tuple[int, ...], num_modes: tuple[int, ...], dtype: torch.dtype, device: str) -> DFTPlan:
    """Return the plan for a grid, a kept set, a dtype and a device, from a cache.

    While a program is traced (``torch.compile``, ``torch.export``) the plan is new and its tables become
    part of that program: a cache would hand the tracer's symbolic tensors to whoever asks next.
    """
    if torch.compiler.is_compiling():
        return DFTPlan(grid, num_modes, dtype, device)
    return _cached_plan(grid, num_modes, dtype, device)


@lru_cache(maxsize=64)
def _cached_plan(
    grid: tuple[int, ...], num_modes: tuple[int, ...], dtype: torch.dtype, device: str
) -> DFTPlan:
    # Ordinary tensors even if the first call comes from a validation in inference mode: gradients flow
    # through them later.
    with torch.inference_mode(False):
        return DFTPlan(grid, num_modes, dtype, device)


def _phases(modes: Sequence[int], size: int) -> Tensor:
    product = torch.outer(torch.tensor(modes), torch.arange(size)) % size
    return product.to(torch.float64) * (2 * math.pi / size)


def _half_axis_tables(size: int, num_modes: int) -> tuple[Tensor, Tensor]:
    modes = kept_modes(num_modes, half=True)
    angle = _phases(modes, size)
    rows = 2 * len(modes)
    analysis = torch.stack([angle.cos(), -angle.sin()], 1).reshape(rows, size) / size
    weight = torch.full((len(modes), 1), 2.0, dtype=torch.float64)
    weight[0] = 1.0
    if size % 2 == 0 and modes[-1] == size // 2:
        weight[-1] = 1.0
    synthesis = torch.stack([weight * angle.cos(), -weight * angle.sin()], 1).reshape(rows, size).T
    return analysis, synthesis


def _full_axis_tables(size: int, num_modes: int) -> tuple[Tensor, Tensor]:
    modes = kept_modes(num_modes, half=False)
    angle = _phases(modes, size)
    cos, sin = angle.cos(), angle.sin()
    # Analysis multiplies by cos - i sin; rows (mode, plane), columns (plane, point).
    analysis = torch.stack([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)], 1)
    # Synthesis multiplies by cos + i sin; rows (plane, point), columns (mode, plane).
    synthesis = torch.stack([torch.cat([cos.T, sin.T], 0), torch.cat([-sin.T, cos.T], 0)], 2)
    kept = 2 * len(modes)
    return analysis.reshape(kept, 2 * size) / size, synthesis.reshape(2 * size, kept)
