"""Differences to the neighbours of a point, and what their matrices are when every axis has a spacing of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..fields.fourier import layout_order
from ..fields.fourier.kept_tables import kept
from .filter_bank import FilterBank

Offset = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Stencil:
    """A cube of ``size`` points along each axis around a point, and the differences to it.

    Attributes:
        ndim: number of axes.
        size: odd number of points along each.
        antisymmetric: whether only differences ``v(x + z) - v(x - z)`` are taken, otherwise ``v(x + z) - v(x)``.
    """

    ndim: int
    size: int
    antisymmetric: bool

    @cached_property
    def offsets(self) -> tuple[Offset, ...]:
        """The points of the stencil but for its centre, in space order; where they count in pairs, one of each."""
        around = range(-(self.size // 2), self.size // 2 + 1)
        every = [z for z in itertools.product(around, repeat=self.ndim) if any(z)]
        # In this order the second half are the opposites of the first one.
        return tuple(every[len(every) // 2 :] if self.antisymmetric else every)

    @property
    def num_free(self) -> int:
        """Number of differences."""
        return len(self.offsets)

    @cached_property
    def differences(self) -> FilterBank:
        """One filter a difference; its two taps are 1 and -1, so that constants give zero exactly."""
        boxes = [_tap(z, self.size) for z in self.offsets]
        centre = _tap((0,) * self.ndim, self.size)
        opposite = [_tap(_minus(z), self.size) if self.antisymmetric else centre for z in self.offsets]
        return FilterBank(torch.stack(boxes) - torch.stack(opposite))

    @cached_property
    def shifts(self) -> FilterBank:
        """One filter for every point of the stencil, its centre too: the taps of an ordinary convolution."""
        around = range(-(self.size // 2), self.size // 2 + 1)
        return FilterBank(
            torch.stack([_tap(z, self.size) for z in itertools.product(around, repeat=self.ndim)])
        )

    def scaled(
        self, weight: Float[Tensor, "free *channels"], scales: Sequence[float]
    ) -> Float[Tensor, "free *channels"]:
        """Return the matrices of the differences from those of the stencil.

        Args:
            weight: matrices ``K_j`` of the stencil.
            scales: reference spacing over spacing, for each axis in space order.
        """
        if all(isinstance(scale, float) and scale == scales[0] for scale in scales):
            return weight * scales[0]
        steps = _steps_like(self, weight)
        # A sum over the few axes, because the scales may be symbols of a traced program.
        total = steps[0] * scales[0]
        for step, scale in zip(steps[1:], scales[1:], strict=True):
            total = total + step * scale
        return torch.matmul(total, weight.flatten(1)).view_as(weight)

    @cached_property
    def _steps(self) -> Float64[Tensor, "axis difference free"]:
        """How often each difference occurs in the steps along an axis on the ways from ``x`` to ``x + z_j``.

        The step along an axis ``a``, averaged over the orders of the axes, is Shapley's value: the sum over the sets
        ``S`` of other axes of ``|S|! (d - |S| - 1)! / d!  [v(x + z_{S + a}) - v(x + z_S)]``, with ``z_S`` the part of
        ``z`` along ``S``. Over the axes they sum to ``v(x + z) - v(x)``.
        """
        place = {z: i for i, z in enumerate(self.offsets)}
        steps = torch.zeros(self.ndim, self.num_free, self.num_free, dtype=torch.float64)
        orders = math.factorial(self.ndim)
        for j, z in enumerate(self.offsets):
            for axis in range(self.ndim):
                others = [other for other in range(self.ndim) if other != axis]
                for count in range(self.ndim):
                    share = math.factorial(count) * math.factorial(self.ndim - count - 1) / orders
                    for chosen in itertools.combinations(others, count):
                        for part_axes, sign in (({*chosen, axis}, 1), ({*chosen}, -1)):
                            part = tuple(n if a in part_axes else 0 for a, n in enumerate(z))
                            if part in place:
                                steps[axis, place[part], j] += sign * share
                            elif _minus(part) in place:
                                steps[axis, place[_minus(part)], j] -= sign * share
        return steps


@lru_cache(maxsize=64)
def stencil(ndim: int, size: int, antisymmetric: bool) -> Stencil:
    """Return a stencil from a cache.

    Raises:
        ValueError: if it has no centre or no neighbours.
    """
    if size % 2 == 0 or size < 3:
        raise ValueError(
            f"stencil is {size}; it is the number of points along an axis, odd so that there is a centre, and at least "
            "3 so that there are neighbours."
        )
    made = Stencil(ndim, size, antisymmetric)
    with torch.inference_mode(False):
        # Now and not when they are first needed: that may be while a program is traced.
        for _ in (made.differences, made.shifts, made._steps):
            pass
    return made


def _steps_like(made: Stencil, weight: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return made._steps.to(weight.device, weight.dtype)
    return kept(_cached_steps(made, weight.dtype, str(weight.device)))


@lru_cache(maxsize=64)
def _cached_steps(made: Stencil, dtype: torch.dtype, device: str) -> Tensor:
    with torch.inference_mode(False):  # gradients flow through them later
        return made._steps.to(device, dtype)


def _minus(z: Offset) -> Offset:
    return tuple(-n for n in z)


def _tap(z: Offset, size: int) -> Tensor:
    box = torch.zeros((size,) * len(z), dtype=torch.float64)
    box[tuple(z[axis] + size // 2 for axis in layout_order(len(z)))] = 1.0
    return box
