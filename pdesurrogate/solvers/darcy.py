"""Darcy's law: the steady pressure of a fluid in porous ground."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pdesurrogate.fields import Axis, Field
from pdesurrogate.fields.fourier import cosine_transform, inverse_cosine_transform

from . import EQUATIONS
from .equation import check_state, refuse
from .option_checks import check_lengths, check_numbers, check_positive
from .time_march import check_times

AXIS_NAMES = "zyx"


@EQUATIONS.register("darcy")
@dataclass(frozen=True)
class DarcyFlow:
    """``-∇·(a ∇p) = f`` in a box, ``p = 0`` on its walls, with ``a > 0``.

    The problem is steady, and becomes one of evolution as the limit of ``ε ∂p/∂t = ∇·(a ∇p) + f``, ``ε -> 0``: an
    incompressible fluid in rigid ground, whose pressure adjusts at once. States are ``(batch, 2, *space)``: the
    pressure, and the coefficient, a static field. At time 0 the pressure is what the state says; at every later
    time it is the solution. Data sets hold two frames accordingly, rest and solution, so that a map ``a -> p`` is
    stored, windowed, trained and evaluated like any other forecast (history 1, horizon 1).

    Finite volumes on cells, with fluxes through faces from the harmonic mean of both sides' coefficients: of
    second order where a is smooth, exact through a wall of layers; where a jumps along a staircase of cells, the
    order is that of the staircase, about one. Equations are solved by conjugate gradients, preconditioned by the
    Laplace operator of the same grid, which sine transforms invert. The condition number is at most ``max a / min
    a`` then, and the number of iterations does not depend on the grid: 20 for coefficients of 3 and 12.

    Attributes:
        lengths: sides of the box in array order; as many as there are axes, at most 3.
        source: f, the same everywhere.
        tolerance: of the error in the energy norm ``∫ a |∇p|²``, relative; what the iteration estimates it to be.

    Raises:
        ValueError: if a number is out of range.
    """

    lengths: tuple[float, ...] = (1.0, 1.0)
    source: float = 1.0
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        check_lengths(self.lengths, AXIS_NAMES, fewest=1)
        check_positive(tolerance=self.tolerance)
        check_numbers(source=self.source)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The pressure, and the coefficient that is given."""
        return (
            Field("pressure", long_name="pressure"),
            Field("coefficient", long_name="permeability over viscosity", is_static=True),
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The box, sampled at the centres of cells."""
        names = AXIS_NAMES[-len(self.lengths) :]
        return tuple(
            Axis(name, length, "wall", offset=0.5) for name, length in zip(names, self.lengths, strict=True)
        )

    def frames(
        self,
        state: Float[Tensor, "batch 2 *space"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch 2 *space"]]:
        """Yield pressure and coefficient at one time after the other.

        Args:
            state: at time 0.
            times: increasing, from 0 on.
            names: what messages call the samples; 0, 1, .. by default.

        Raises:
            ValueError: as `pressure`, for a state that is not finite, and for times that do not increase from 0 on.
        """
        check_times(times)
        if state.ndim != 2 + len(self.lengths) or state.shape[1] != 2:
            raise ValueError(
                f"the initial state has the shape {tuple(state.shape)}; needed is (batch, 2, "
                f"{', '.join(axis.name for axis in self.axes)}): pressure and coefficient."
            )
        check_state(state, names)
        steady: Tensor | None = None
        for time in times:
            if time > 0 and steady is None:
                solution = self.pressure(state[:, 1], names=names)
                steady = torch.stack([solution, state[:, 1]], dim=1)
            yield state if steady is None else steady

    def pressure(
        self,
        coefficient: Float[Tensor, "batch *space"],
        source: Float[Tensor, "#batch *space"] | None = None,
        names: Sequence[str] | None = None,
    ) -> Float[Tensor, "batch *space"]:
        """Return the steady pressure, in the coefficient's dtype.

        Args:
            coefficient: a at cell centres.
            source: f at cell centres, if it is not the same everywhere.
            names: what messages call the samples; 0, 1, .. by default.

        Raises:
            ValueError: for a coefficient that is not float32 or float64, of another dimension, or, naming
                the sample, not positive or not finite; for a source of another shape; for a tolerance that the
                dtype cannot resolve; if the iteration does not reach it, as at extreme contrasts.
        """
        names = [str(i) for i in range(len(coefficient))] if names is None else names
        self._check(coefficient, names)
        if source is None:
            source = torch.full_like(coefficient, self.source)
        elif source.shape[1:] != coefficient.shape[1:] or len(source) not in (1, len(coefficient)):
            raise ValueError(
                f"the source has the shape {tuple(source.shape)} and the coefficient {tuple(coefficient.shape)}; they "
                "need the same grid, and one source for all samples or one each."
            )
        operator = _Diffusion(coefficient, self.lengths)
        return _conjugate_gradients(
            operator, source.to(coefficient).expand_as(coefficient), self.tolerance, names
        )

    def _check(self, coefficient: Tensor, names: Sequence[str]) -> None:
        if coefficient.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the coefficient is {coefficient.dtype}; allowed: float32 and float64.")
        smallest = 8 * torch.finfo(coefficient.dtype).eps
        if self.tolerance < smallest:
            raise ValueError(
                f"tolerance is {self.tolerance:g} and {coefficient.dtype} resolves {smallest:.1g}. Use a larger "
                "tolerance, or float64."
            )
        if coefficient.ndim != 1 + len(self.lengths) or coefficient.numel() == 0:
            raise ValueError(
                f"the coefficient has the shape {tuple(coefficient.shape)}; needed is (batch, "
                f"{', '.join(axis.name for axis in self.axes)})."
            )
        refuse(
            ~(torch.isfinite(coefficient) & (coefficient > 0)).flatten(1).all(1),
            names,
            ": the coefficient must be finite and positive everywhere; its smallest value is {lowest:.3g}.",
            lowest=coefficient.flatten(1).amin(1),
        )


class _Diffusion:
    """``-∇·(a ∇p)`` of cell means with p = 0 on the walls, and the inverse of the same with a = 1."""

    def __init__(self, coefficient: Float[Tensor, "batch *space"], lengths: Sequence[float]) -> None:
        self.contrast = (coefficient.flatten(1).amax(1) / coefficient.flatten(1).amin(1)).double()
        self._dims = tuple(range(1, coefficient.ndim))
        sizes = coefficient.shape[1:]
        self._inverse_dx2 = [(n / length) ** 2 for n, length in zip(sizes, lengths, strict=True)]
        self._conductance = [
            _face_coefficients(coefficient, dim) * scale
            for dim, scale in zip(self._dims, self._inverse_dx2, strict=True)
        ]
        self._sign, eigenvalues = self._sines(coefficient)
        self._inverse_eigenvalues = 1 / eigenvalues

    def apply(self, p: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        result = torch.zeros_like(p)
        for dim, conductance in zip(self._dims, self._conductance, strict=True):
            wall = torch.zeros_like(p.narrow(dim, 0, 1))
            flux = conductance * torch.cat([wall, p, wall], dim).diff(dim=dim)
            result -= flux.diff(dim=dim)
        return result

    def precondition(self, r: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        amplitudes = cosine_transform(self._sign * r, self._dims) * self._inverse_eigenvalues
        return self._sign * inverse_cosine_transform(amplitudes, self._dims)

    def _sines(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chequerboard of signs, and the eigenvalues of sines in the order of cosine amplitudes.

        At cell centres ``sin(π(N - k)x/L) = (-1)^j cos(πkx/L)``: with alternating signs the cosine transform
        is the sine transform, amplitudes in reverse. The eigenvalues are ``(2 - 2 cos(π(N - k)/N)) / Δx²``.
        """
        sign = torch.ones((), dtype=torch.float64, device=like.device)
        eigenvalues = torch.zeros((), dtype=torch.float64, device=like.device)
        for n, scale in zip(like.shape[1:], self._inverse_dx2, strict=True):
            k = torch.arange(n, dtype=torch.float64, device=like.device)
            sign = sign[..., None] * (1 - 2 * (k % 2))
            eigenvalues = eigenvalues[..., None] + (2 + 2 * torch.cos(k * (math.pi / n))) * scale
        return sign.to(like), eigenvalues.to(like)


def _face_coefficients(a: Tensor, dim: int) -> Tensor:
    """Return the harmonic means at inner faces; at walls twice the cell's, whose centre is half a cell away."""
    size = a.shape[dim]
    lower, upper = a.narrow(dim, 0, size - 1), a.narrow(dim, 1, size - 1)
    first, last = 2 * a.narrow(dim, 0, 1), 2 * a.narrow(dim, size - 1, 1)
    return torch.cat([first, 2 * lower * upper / (lower + upper), last], dim)


def _conjugate_gradients(
    operator: _Diffusion, source: Tensor, tolerance: float, names: Sequence[str]
) -> Tensor:
    """Return the solution; samples that have converged stay as they are while others go on."""
    p, r = torch.zeros_like(source), source.clone()
    z = operator.precondition(r)
    direction, size = z, _dot(r, z)
    goal = tolerance**2 * size
    # Chebyshev's bound of the iterations at this condition number, with room for rounding
    bound = 0.5 * operator.contrast.max().sqrt() * math.log(2 / min(tolerance, 1.0))
    for _ in range(10 + 2 * math.ceil(float(bound))):
        is_active = size > goal
        if not is_active.any():
            return p
        image = operator.apply(direction)
        step = torch.where(is_active, size / _dot(direction, image), 0.0)
        p = p + step * direction
        r = r - step * image
        z = operator.precondition(r)
        previous, size = size, torch.where(is_active, _dot(r, z), size)
        direction = z + torch.where(is_active, size / previous, 0.0) * direction
    worst = int((size / goal).flatten().argmax())
    reached = tolerance * math.sqrt(float((size / goal).flatten()[worst]))
    raise ValueError(
        f"trajectory {names[worst]}: the pressure is known to {reached:.1g} only and tolerance is {tolerance:g}. Use "
        "a larger tolerance, or a smaller contrast of coefficients."
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
