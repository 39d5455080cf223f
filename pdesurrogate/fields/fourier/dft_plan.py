"""Truncated real transforms as matrix products with cosine and sine tables.

Fields are laid out ``(batch, N_d, N_1, .., N_{d-1}, channel)``: half axis leading, channels last. In that
order every product is "table times contiguous batch" and leaves its result contiguous for the next one, in
any dimension. A stage turns ``(lead, planes · points, rest)`` into ``(lead, modes · planes, rest)``. There is one
plane, the real field, up to the half axis and two from there on, real and imaginary parts; between walls alone
there is one throughout. Tables are built in float64 with exact phases ``k·n mod N``; nothing in them depends on
the parity of a size through a branch, so they can also be built inside a traced program from a symbolic size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from .axis_roles import Role, axis_roles, layout_order, periodic_box
from .cosine import cosine_tables
from .truncated import kept_modes, kept_shape, require_resolved


@dataclass(frozen=True)
class _Stage:
    """One axis of the chain: its points and kept modes, and the planes before and after it."""

    points: int
    modes: int
    planes_in: int
    planes_out: int


class DFTPlan:
    """Cosine and sine tables of a truncated real transform between one grid and its kept modes.

    ``analyse`` maps ``(batch, N_d, N_1, .., channel)`` to ``(batch, modes, plane, channel)``, real and
    imaginary planes, or one real plane between walls; ``synthesise`` maps back. ``*_adjoint`` are their
    transposes, which is all that a backward pass needs. Modes are in the order of the layout: ``(k_d, k_1, ..,
    k_{d-1})``.

    Args:
        grid: sizes in space order ``(N_1, .., N_d)``.
        num_modes: kept modes per axis in space order.
        dtype, device: of the tables.
        boundaries: ``"periodic"`` or ``"wall"`` per axis in space order; all periodic if None.

    Attributes:
        layout_grid, layout_kept: points and kept modes of the axes in the order of the layout.
        planes: planes of the spectrum, 2, or 1 between walls.
        analysis: for each axis in the order of the layout, the table of its stage, ``(K p', p N)`` with rows (mode,
            plane) and columns (plane, point), ``p`` planes before it and ``p'`` after it.
        synthesis: the same for the way back, ``(p N, K p')``.
        analysis_t, synthesis_t: their transposes.
    """

    def __init__(
        self,
        grid: Sequence[int],
        num_modes: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        boundaries: Sequence[str] | None = None,
    ) -> None:
        boundaries = periodic_box(len(grid)) if boundaries is None else boundaries
        require_resolved(num_modes, grid)
        roles, kept = axis_roles(boundaries), kept_shape(num_modes, boundaries)
        order = layout_order(len(grid))
        self.layout_grid = tuple(grid[axis] for axis in order)
        self.layout_kept = tuple(kept[axis] for axis in order)
        self.num_kept = math.prod(kept)
        self.dtype = dtype
        self._stages: list[_Stage] = []
        tables = []
        self.planes = 1
        for axis in order:
            planes = 2 if roles[axis] == "half" else self.planes
            self._stages.append(_Stage(grid[axis], kept[axis], self.planes, planes))
            tables.append(_axis_tables(roles[axis], grid[axis], num_modes[axis], planes=self.planes))
            self.planes = planes

        def cast(table: Tensor) -> Tensor:
            return table.to(dtype=dtype, device=device).contiguous()

        self.analysis = [cast(a) for a, _ in tables]
        self.synthesis = [cast(s) for _, s in tables]
        self.analysis_t = [cast(a.T) for a, _ in tables]
        self.synthesis_t = [cast(s.T) for _, s in tables]

    def analyse(self, u: Tensor) -> Float[Tensor, "batch modes plane channel"]:
        """Field to kept modes."""
        return self._down(u, self.analysis)

    def synthesise(
        self, planes: Float[Tensor, "batch modes plane channel"], accumulate: Tensor | None = None
    ) -> Tensor:
        """Kept modes to field, which is added in place to ``accumulate`` where that is given."""
        return self._up(planes, self.synthesis, accumulate)

    def analyse_adjoint(
        self, planes: Float[Tensor, "batch modes plane channel"], accumulate: Tensor | None = None
    ) -> Tensor:
        """Transpose of `analyse`: gradient of the modes to gradient of the field."""
        return self._up(planes, self.analysis_t, accumulate)

    def synthesise_adjoint(self, u: Tensor) -> Float[Tensor, "batch modes plane channel"]:
        """Transpose of `synthesise`: gradient of the field to gradient of the modes."""
        return self._down(u, self.synthesis_t)

    def _down(self, u: Tensor, tables: list[Tensor]) -> Tensor:
        lead, channels = u.shape[0], u.shape[-1]
        out = u
        for axis, (stage, table) in enumerate(zip(self._stages, tables, strict=True), 1):
            rest = math.prod(self.layout_grid[axis:]) * channels
            out = _table_product(table, out.reshape(lead, stage.planes_in * stage.points, rest))
            lead *= stage.modes
        return out.view(u.shape[0], self.num_kept, self.planes, channels)

    def _up(self, planes: Tensor, tables: list[Tensor], accumulate: Tensor | None) -> Tensor:
        batch, channels = planes.shape[0], planes.shape[-1]
        lead, rest = batch * self.num_kept, channels
        out = planes
        for stage, table in zip(reversed(self._stages[1:]), reversed(tables[1:]), strict=True):
            lead //= stage.modes
            out = _table_product(table, _modes_together(out, lead, stage.modes, rest, stage.planes_out))
            out = _points_last(out, stage.points, rest, stage.planes_in)
            rest *= stage.points
        first = self._stages[0]
        out = _modes_together(out, batch, first.modes, rest, first.planes_out)
        if accumulate is None:
            return _table_product(tables[0], out).unflatten(-1, (*self.layout_grid[1:], channels))
        sum_ = accumulate.view(batch, first.points, rest)
        sum_.baddbmm_(tables[0].expand(batch, -1, -1), out)
        return accumulate


def _points_last(out: Tensor, points: int, rest: int, planes: int = 2) -> Tensor:
    """View ``(lead, planes points, rest)`` as ``(lead, planes, points rest)``."""
    if torch.compiler.is_compiling():
        # One dimension at a time: for symbolic sizes, a view that merges and splits at once is not understood.
        return out.unflatten(1, (planes, points)).flatten(2)
    return out.view(-1, planes, points * rest)


def _modes_together(out: Tensor, lead: int, modes: int, rest: int, planes: int = 2) -> Tensor:
    """View ``(lead modes, planes, rest)`` as ``(lead, modes planes, rest)``."""
    if torch.compiler.is_compiling():
        return out.flatten(0, -3).unflatten(0, (lead, modes)).flatten(1, 2)
    return out.reshape(lead, modes * planes, rest)


def _table_product(table: Tensor, batch: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.matmul(table, batch)
    # Not torch.matmul: for operands that require gradients it may fold the batch, which copies it.
    return torch.bmm(table.expand(batch.shape[0], -1, -1), batch)


def dft_plan(
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    boundaries: tuple[str, ...] | None = None,
) -> DFTPlan:
    """Return the plan for a grid, a kept set, a dtype, a device and boundaries, from a cache.

    While a program is traced (``torch.compile``, ``torch.export``) the plan is new and its tables become
    part of that program: a cache would hand the tracer's symbolic tensors to whoever asks next.
    """
    if torch.compiler.is_compiling():
        return DFTPlan(grid, num_modes, dtype, device, boundaries)
    return _cached_plan(grid, num_modes, dtype, device, boundaries)


@lru_cache(maxsize=64)
def _cached_plan(
    grid: tuple[int, ...],
    num_modes: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    boundaries: tuple[str, ...] | None,
) -> DFTPlan:
    # Ordinary tensors even if the first call comes from a validation in inference mode: gradients flow
    # through them later.
    with torch.inference_mode(False):
        return DFTPlan(grid, num_modes, dtype, device, boundaries)


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


def _axis_tables(role: Role, size: int, num_modes: int, planes: int) -> tuple[Tensor, Tensor]:
    """Return the analysis, rows (mode, plane) and columns (plane, point), and the synthesis, the other way round."""
    if role == "half":
        return _half_axis_tables(size, num_modes)
    if role == "full":
        return _full_axis_tables(size, num_modes)
    analysis, synthesis = cosine_tables(size, num_modes)
    if planes == 1:
        return analysis, synthesis
    # The same cosines on the real and the imaginary plane.
    zero_down, zero_up = torch.zeros_like(analysis), torch.zeros_like(synthesis)
    both_down = torch.stack([torch.cat([analysis, zero_down], 1), torch.cat([zero_down, analysis], 1)], 1)
    both_up = torch.stack([torch.cat([synthesis, zero_up], 0), torch.cat([zero_up, synthesis], 0)], 2)
    return both_down.reshape(2 * num_modes, 2 * size), both_up.reshape(2 * size, 2 * num_modes)


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
