"""A box of cells with scalars at their centres and each velocity component on the faces that it crosses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pdesurrogate.fields import fourier

Faces = list[Float[Tensor, "batch ..."]]
"""One component an axis in array order; along its own axis it has one value more than there are cells."""

Top = Literal["wall", "open"]


class StaggeredBox:
    """Marker-and-cell arrangement (Harlow & Welch 1965, Phys. Fluids 8, 2182) on a box of any dimension.

    The first axis of space points upwards. All ends are walls, except for the upper end of the first axis where
    ``top`` is open: there the pressure vanishes on the last face, through which fluid passes freely.

    Stored velocities hold each component on the lower faces of cells, ``(batch, component, *cells)`` in the order x,
    y[, z]; the last face of an axis follows: it is a wall, or at an open top what makes the last cell free of
    divergence.

    Args:
        grid: cells along each axis.
        lengths: of the box along each axis.
        top: ``"wall"`` or ``"open"``.
        slip: velocity along a wall half a cell beyond it, in terms of that half a cell before it: -1 where the fluid
            sticks to the wall, 1 where it slips freely, 0 as in PhiFlow, which puts the wall at that point.
        device: where to compute.
    """

    def __init__(
        self,
        grid: Sequence[int],
        lengths: Sequence[float],
        top: Top = "wall",
        slip: float = -1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.grid, self.top, self.slip = tuple(grid), top, slip
        self.spacings = tuple(length / n for length, n in zip(lengths, grid, strict=True))
        self._inverse_laplacian = self._invert_laplacian().to(device)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.grid)

    def is_open(self, axis: int, end: int) -> bool:
        """Return whether an end (0 the lower, 1 the upper) of an axis is open."""
        return axis == 0 and end == 1 and self.top == "open"

    def faces_of(self, velocity: Float[Tensor, "batch component *cells"]) -> Faces:
        """Return all faces of a velocity that is stored on lower faces."""
        lower = [velocity[:, self.ndim - 1 - axis] for axis in range(self.ndim)]
        faces = [torch.nn.functional.pad(v, self._one_more(axis)) for axis, v in enumerate(lower)]
        if self.top == "open":
            faces[0][:, -1] = -self.spacings[0] * self.divergence(faces)[:, -1]
        return faces

    def velocity_of(self, faces: Faces) -> Float[Tensor, "batch component *cells"]:
        """Return each component on the lower faces of cells, in the order x, y[, z]."""
        lower = [v.narrow(axis + 1, 0, n) for axis, (v, n) in enumerate(zip(faces, self.grid, strict=True))]
        return torch.stack(lower[::-1], dim=1)

    def divergence(self, faces: Faces) -> Float[Tensor, "batch *cells"]:
        """Return the flux out of each cell, over its volume."""
        parts = [
            v.diff(dim=axis + 1) / h for axis, (v, h) in enumerate(zip(faces, self.spacings, strict=True))
        ]
        return torch.stack(parts).sum(0)

    def project(self, faces: Faces) -> Faces:
        """Return the part without divergence, ``v - ∇p`` with ``Δp = div v`` and p = 0 on an open top.

        Of all velocities without divergence and with the same values on walls it is the nearest. Computed in float64
        whatever the dtype: in float32 the pressure that carries uniform smoke would leave 1e-3 of divergence.
        """
        exact = [v.double() for v in faces]
        pressure = self._solve_poisson(self.divergence(exact))
        return [(v - self._gradient(pressure, axis)).to(faces[axis].dtype) for axis, v in enumerate(exact)]

    def laplacian(
        self, values: Float[Tensor, "batch *faces"], axis: int | None
    ) -> Float[Tensor, "batch *faces"]:
        """Return the second differences of the component along ``axis``, or of a scalar at centres (None).

        Nothing flows through walls out of a scalar. The component's own walls keep their values: it is 0 there.
        """
        total = torch.zeros_like(values)
        for other, spacing in enumerate(self.spacings):
            padded = self.pad(values, axis, other, 1)
            total += padded.diff(n=2, dim=other + 1) / spacing**2
        if axis is not None:
            self._ends(total, axis, is_open=False)
        return total

    def pad(
        self, values: Float[Tensor, "batch *points"], axis: int | None, other: int, width: int
    ) -> Float[Tensor, "batch *padded"]:
        """Return a field with one or two layers more at both ends of an axis.

        A scalar (``axis`` None) is mirrored and so is, times `slip`, a component at a wall that it runs along. At an
        open end a component goes on with its last value. At walls that it crosses, it is extrapolated by a parabola.
        """
        dim, size = other + 1, values.shape[other + 1]
        layers = []
        for end in (0, 1):
            at = [values.narrow(dim, size - 1 - k if end else k, 1) for k in range(min(3, size))]
            if axis == other:
                ghosts = [3 * at[0] - 3 * at[1] + at[2]] if not self.is_open(axis, end) else [at[0]]
                ghosts *= width
            elif axis is not None and self.is_open(other, end):
                ghosts = [at[0]] * width
            elif axis is None:
                ghosts = at[:width]
            else:
                ghosts = [self.slip * ghost for ghost in at[:width]]
            layers.append(ghosts)
        return torch.cat([*layers[0][::-1], values, *layers[1]], dim)

    def set_walls(self, component: Float[Tensor, "batch *faces"], like: Tensor, axis: int) -> None:
        """Give the faces on walls the values of another component, in place; those of an open top stay."""
        self._ends(component, axis, is_open=False, source=like)

    def _ends(self, values: Tensor, axis: int, is_open: bool, source: Tensor | None = None) -> None:
        for end, index in ((0, 0), (1, values.shape[axis + 1] - 1)):
            if self.is_open(axis, end) == is_open:
                place = values.select(axis + 1, index)
                place.copy_(torch.zeros_like(place) if source is None else source.select(axis + 1, index))

    def _one_more(self, axis: int) -> list[int]:
        widths = [0, 0] * self.ndim
        widths[2 * (self.ndim - 1 - axis) + 1] = 1
        return widths

    def _gradient(self, pressure: Tensor, axis: int) -> Tensor:
        """Return ``∂p/∂x`` on faces: 0 on walls; on an open top from p = 0 half a cell away."""
        inner = pressure.diff(dim=axis + 1) / self.spacings[axis]
        wall = torch.zeros_like(pressure.narrow(axis + 1, 0, 1))
        last = pressure.narrow(axis + 1, self.grid[axis] - 1, 1)
        upper = -2 * last / self.spacings[axis] if self.is_open(axis, 1) else wall
        return torch.cat([wall, inner, upper], axis + 1)

    def _solve_poisson(self, source: Float[Tensor, "batch *cells"]) -> Float[Tensor, "batch *cells"]:
        """Return ``p`` with ``Δp = source`` (second differences) by cosine transforms; of zero mean between walls."""
        is_open = self.top == "open"
        walled = range(2 if is_open else 1, self.ndim + 1)
        p_hat = fourier.cosine_transform(source, walled)
        if is_open:
            p_hat = fourier.quarter_cosine_transform(p_hat, 1)
        p_hat = p_hat * self._inverse_laplacian
        if is_open:
            p_hat = fourier.inverse_quarter_cosine_transform(p_hat, 1)
        return fourier.inverse_cosine_transform(p_hat, walled)

    def _invert_laplacian(self) -> Tensor:
        total = torch.zeros(self.grid, dtype=torch.float64)
        for axis, (n, h) in enumerate(zip(self.grid, self.spacings, strict=True)):
            half = 0.5 if self.is_open(axis, 1) else 0.0
            k = torch.arange(n, dtype=torch.float64) + half
            eigenvalues = -4 * torch.sin(k * (math.pi / (2 * n))).square() / h**2
            total += eigenvalues.view(-1, *[1] * (self.ndim - 1 - axis))
        inverse = 1 / total
        if self.top == "wall":
            inverse.view(-1)[0] = 0.0
        return inverse
