"""Truncated real transforms as matrix products with cosine and sine tables.

Fields are laid out ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half axis leading, channels last. In that
order every product is "table times contiguous batch" and leaves its result contiguous for the next one, in
any dimension. Tables are built in float64 with exact phases ``k·n mod N``; nothing in them depends on the
parity of a size through a branch, so they can also be built inside a traced program from a symbolic size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from .truncated import kept_modes, kept_shape, require_resolved


class DFTPlan:
    """Cosine and sine tables of a truncated real transform between one grid and its kept modes.

    ``analyse`` maps ``(batch, N_d, N_1, .., channel)`` to ``(batch, modes, 2, channel)``, real and
    imaginary planes; ``synthesise`` maps back. ``*_adjoint`` are their transposes, which is all that
    a backward pass needs. Modes are ordered half axis first: ``(k_d, k_1, .., k_{d-1})``.

    Args:
        grid: sizes in space order ``(N_1, .., N_d)``.
        num_modes: kept modes per axis in space order.
        dtype, device: of the tables.

    Attributes:
        analysis: for each axis in layout order, the table of its stage. With ``K`` kept modes and ``N`` points:
            ``(2K, N)`` with rows (mode, plane) for the half axis, ``(2K, 2N)`` with columns (plane, point) for
            the others.
        synthesis: the same for the way back, ``(N, 2K)`` and ``(2N, 2K)``.
        analysis_t, synthesis_t: their transposes.
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
        self.dtype = dtype
        tables = [_half_axis_tables(grid[-1], num_modes[-1])]
        tables += [_full_axis_tables(n, k) for n, k in zip(grid[:-1], num_modes[:-1], strict=True)]

        def cast(table: Tensor) -> Tensor:
            return table.to(dtype=dtype, device=device).contiguous()

        self.analysis = [cast(a) for a, _ in tables]
        self.synthesis = [cast(s) for _, s in tables]
        self.analysis_t = [cast(a.T) for a, _ in tables]
        self.synthesis_t = [cast(s.T) for _, s in tables]

    def analyse(self, u: Tensor) -> Float[Tensor, "batch modes 2 channel"]:
        """Field to kept modes."""
        return self._down(u, self.analysis)

    def synthesise(
        self, planes: Float[Tensor, "batch modes 2 channel"], accumulate: Tensor | None = None
    ) -> Tensor:
        """Kept modes to field, which is added in place to ``accumulate`` where that is given."""
        return self._up(planes, self.synthesis, accumulate)

    def analyse_adjoint(
        self, planes: Float[Tensor, "batch modes 2 channel"], accumulate: Tensor | None = None
    ) -> Tensor:
        """Transpose of `analyse`: gradient of the modes to gradient of the field."""
        return self._up(planes, self.analysis_t, accumulate)

    def synthesise_adjoint(self, u: Tensor) -> Float[Tensor, "batch modes 2 channel"]:
        """Transpose of `synthesise`: gradient of the field to gradient of the modes."""
        return self._down(u, self.synthesis_t)

    def _down(self, u: Tensor, tables: list[Tensor]) -> Tensor:
        batch, channels = u.shape[0], u.shape[-1]
        rest = math.prod(self.layout_grid[1:]) * channels
        out = _table_product(tables[0], u.reshape(batch, self.layout_grid[0], rest))
        lead = batch * self.layout_kept[0]
        for table, n, k in zip(tables[1:], self.layout_grid[1:], self.layout_kept[1:], strict=True):
            rest //= n
            out = _table_product(table, out.view(lead, 2 * n, rest))
            lead *= k
        return out.view(batch, self.num_kept, 2, channels)

    def _up(self, planes: Tensor, tables: list[Tensor], accumulate: Tensor | None) -> Tensor:
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
            out = _points_last(_table_product(table, _modes_together(out, lead, k, rest)), n, rest)
            rest *= n
        out = _modes_together(out, batch, self.layout_kept[0], rest)
        if accumulate is None:
            return _table_product(tables[0], out).unflatten(-1, (*self.layout_grid[1:], channels))
        sum_ = accumulate.view(batch, self.layout_grid[0], rest)
        sum_.baddbmm_(tables[0].expand(batch, -1, -1), out)
        return accumulate


def _points_last(out: Tensor, n: int, rest: int) -> Tensor:
    """View ``(lead, 2 n, rest)`` as ``(lead, 2, n rest)``."""
    if torch.compiler.is_compiling():
        # One dimension at a time: for symbolic sizes, a view that merges and splits at once is not understood.
        return out.unflatten(1, (2, n)).flatten(2)
    return out.view(-1, 2, n * rest)


def _modes_together(out: Tensor, lead: int, k: int, rest: int) -> Tensor:
    """View ``(lead k, 2, rest)`` as ``(lead, 2 k, rest)``."""
    if torch.compiler.is_compiling():
        return out.flatten(0, -3).unflatten(0, (lead, k)).flatten(1, 2)
    return out.reshape(lead, 2 * k, rest)


def _table_product(table: Tensor, batch: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.matmul(table, batch)
    # Not torch.matmul: for operands that require gradients it may fold the batch, which copies it.
    return torch.bmm(table.expand(batch.shape[0], -1, -1), batch)


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


def half_axis_multiplicity(size: int, num_kept: int) -> Float[Tensor, " kept"]:
    """Return how often modes ``0 .. num_kept - 1`` stand for a pair ``±k`` of a real field: 2, or 1 if ``k ≡ -k``.

    That is the mean and, where it is kept, the Nyquist mode of an even size.
    """
    twice = 2 * torch.arange(num_kept)
    return torch.where((twice == 0) | (twice == size), 1.0, 2.0).to(torch.float64)


def _phases(modes: Sequence[int], size: int) -> Tensor:
    product = torch.outer(torch.tensor(modes), torch.arange(size)).to(torch.float64)
    # k·n mod N, exact in float64: the tracers do not know the integers' remainder by a symbolic size.
    return (product - size * torch.floor(product / size)) * (2 * math.pi / size)


def _half_axis_tables(size: int, num_modes: int) -> tuple[Tensor, Tensor]:
    modes = kept_modes(num_modes, half=True)
    angle = _phases(modes, size)
    rows = 2 * len(modes)
    analysis = torch.stack([angle.cos(), -angle.sin()], 1).reshape(rows, size) / size
    weight = half_axis_multiplicity(size, len(modes))[:, None]
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
