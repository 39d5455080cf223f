"""The group convolution of modes without expanded weights, as one node of the autograd graph.

Instead of the kernel, the modes of the field are moved. With the symbols of `group_tables`, batch ``b`` and channels
``i`` and ``o``:

    V[q, (r, b), (u, i)] = û[A_r q; b, r u, i]      gathered, conjugated where the half spectrum holds -A_r q
    O = V @ P[q],  P: (u i, t o)                     the free numbers of an orbit as they are stored
    v̂[A_r q; b, r t⁻¹, o] = O[q, (r, b), (t, o)]

Modes in no orbit have matrices of their own. The backward pass runs the same steps transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .group_tables import SpectralTables
from .pointwise_mlp import differentiable_backward
from .precision import active_policy, products_in

Plain = Callable[[Tensor, Tensor, Tensor], Tensor]


def group_mixing(
    modes: Complex[Tensor, "mode batch in_channel"],
    orbit: Float[Tensor, "orbit element in_each column out_each 2"],
    some: Float[Tensor, "single in_channel out_channel 2"],
    tables: SpectralTables,
    plain: Plain,
) -> Complex[Tensor, "mode batch out_channel"]:
    """Return the convolved modes.

    Args:
        modes: of a field on the group, channels ``(element, channel)``.
        orbit: matrices of the orbits.
        some: matrices of the modes that are in no orbit.
        tables: of the group and the kept modes.
        plain: the same map by ordinary operations, for second derivatives.
    """
    mixed: Tensor = _GroupMixing.apply(modes, orbit, some, tables, plain)
    return mixed


class _GroupMixing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, modes: Tensor, orbit: Tensor, some: Tensor, tables: SpectralTables, plain: Plain
    ) -> Tensor:
        ctx.save_for_backward(modes, orbit, some)
        ctx.tables, ctx.plain, ctx.precision = tables, plain, active_policy()
        moves = _moves(tables, modes.device)
        batch, matrices = modes.shape[1], _numbers(some, modes)
        products = torch.bmm(moves.gather(modes), _matrices(orbit, modes))
        mixed = modes.new_empty(*modes.shape[:2], matrices.shape[2])
        moves.place(products.unflatten(1, (-1, batch)), mixed)
        mixed.index_copy_(0, moves.singles, torch.bmm(modes[moves.singles], matrices))
        return mixed.index_copy_(0, moves.mirrors[0], mixed[moves.mirrors[1]].conj_physical_())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        modes, orbit, some = ctx.saved_tensors
        with products_in(ctx.precision, gradient.device):
            if torch.is_grad_enabled():
                wanted = ctx.needs_input_grad[:3]
                return *differentiable_backward(ctx.plain, (modes, orbit, some), gradient, wanted), None, None
            moves = _moves(ctx.tables, gradient.device)
            gradient = gradient.index_add(0, moves.mirrors[1], gradient[moves.mirrors[0]].conj_physical_())
            # The small spectra are conjugated, never the weights.
            rows = moves.gather(modes).conj_physical_()
            grad_rows = moves.place_adjoint(gradient, orbit.shape[3])
            grad_orbit = torch.bmm(rows.transpose(1, 2), grad_rows)
            back = torch.bmm(
                grad_rows.conj_physical_(), _matrices(orbit, modes).transpose(1, 2)
            ).conj_physical_()
            grad_modes = torch.zeros_like(modes)
            moves.gather_adjoint(back.unflatten(1, (-1, modes.shape[1])), grad_modes)
            single, grad_single = modes[moves.singles], gradient[moves.singles]
            grad_some = torch.bmm(single.conj_physical_().transpose(1, 2), grad_single)
            matrices = _numbers(some, modes).transpose(1, 2)
            back = torch.bmm(grad_single.conj_physical_(), matrices).conj_physical_()
            grad_modes.index_copy_(0, moves.singles, back)
        grad_orbit = torch.view_as_real(grad_orbit).view_as(orbit)
        return grad_modes, grad_orbit, torch.view_as_real(grad_some), None, None


class _Moves:
    """Moves of modes between the order of the engine and that of the orbits, on a device."""

    def __init__(self, tables: SpectralTables, device: torch.device) -> None:
        def on_device(array: Any) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.tables = tables
        self.order = len(tables.conjugated)
        self.rows = [on_device(row) for row in tables.rows]
        self.sources = [on_device(row) for row in tables.sources]
        self.targets = [on_device(row.argsort()) for row in tables.sources]
        self._places_by_batch: dict[int, Tensor] = {}
        self.singles, self.mirrors = on_device(tables.singles), on_device(tables.mirrored)

    def gather(self, modes: Tensor) -> Tensor:
        """Return ``V``, ``(orbit, row · batch, element · channel)``."""
        batch, channels = modes.shape[1], modes.shape[2] // self.order
        moved = modes.reshape(-1, channels).index_select(0, self._places(batch))
        rows = moved.view(self.tables.num_orbits, self.order, batch, self.order * channels)
        for r, conjugated in enumerate(self.tables.conjugated):
            if conjugated:
                torch.view_as_real(rows)[:, r, ..., 1].neg_()
        return rows.flatten(1, 2)

    def _places(self, batch: int) -> Tensor:
        """Return where the entries of ``V`` come from, counted in channels of one mode, sample and element."""
        if batch not in self._places_by_batch:
            samples = torch.arange(batch, device=self.singles.device)[:, None]
            of_row = [
                (row[:, None, None] * batch + samples) * self.order + source
                for row, source in zip(self.rows, self.sources, strict=True)
            ]
            self._places_by_batch[batch] = torch.stack(of_row, dim=1).flatten()
        return self._places_by_batch[batch]

    def gather_adjoint(self, grad_rows: Tensor, grad_modes: Tensor) -> None:
        """Write the gradient of the modes from that of ``V``, ``(orbit, row, batch, element · channel)``."""
        tables = self.tables

        def back(r: int) -> Tensor:
            moved = (
                grad_rows[:, r].unflatten(-1, (self.order, -1)).index_select(2, self.targets[r]).flatten(2)
            )
            return moved.conj_physical_() if tables.conjugated[r] else moved

        for r, partner in zip(tables.slots, tables.partners, strict=True):
            total = back(r) if partner < 0 else back(r).add_(back(partner))
            grad_modes.index_copy_(0, self.rows[r], total)

    def place(self, products: Tensor, mixed: Tensor) -> None:
        """Write the mixed modes from ``O``, ``(orbit, row, batch, column · channel)``."""
        products = products.unflatten(-1, (len(self.tables.columns), -1))
        for slot, r in enumerate(self.tables.slots):
            found = []
            for row, column, conjugated in self.tables.results[slot].tolist():
                block = products[:, row, :, column]
                found.append(block.conj_physical() if conjugated else block)
            mixed.index_copy_(0, self.rows[r], torch.cat(found, dim=-1))

    def place_adjoint(self, gradient: Tensor, num_columns: int) -> Tensor:
        """Return the gradient of ``O``, ``(orbit, row · batch, column · channel)``; every entry is met once."""
        channels = gradient.shape[2] // self.order
        shape = (self.tables.num_orbits, self.order, gradient.shape[1], num_columns, channels)
        grad = gradient.new_empty(shape)
        for slot, r in enumerate(self.tables.slots):
            elements = gradient.index_select(0, self.rows[r]).unflatten(-1, (self.order, -1))
            for s, (row, column, conjugated) in enumerate(self.tables.results[slot].tolist()):
                block = elements[:, :, s]
                grad[:, row, :, column] = block.conj_physical() if conjugated else block
        return grad.flatten(3).flatten(1, 2)


@lru_cache(maxsize=64)
def _moves(tables: SpectralTables, device: torch.device) -> _Moves:
    return _Moves(tables, device)


def _matrices(orbit: Tensor, like: Tensor) -> Tensor:
    return _numbers(orbit, like).flatten(3).flatten(1, 2)


def _numbers(weight: Tensor, like: Tensor) -> Tensor:
    return torch.view_as_complex(weight.to(like.dtype.to_real()).contiguous())
