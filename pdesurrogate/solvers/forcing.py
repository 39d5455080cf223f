"""Steady sources of vorticity on a periodic box.

A forcing returns ``f(x, y)`` of ``∂ω/∂t + ... = ... + f``, in 1 / time². Its wavenumber ``n`` counts periods along a
side, so that the source is periodic whatever the size of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from . import FORCINGS


@runtime_checkable
class Forcing(Protocol):
    """A steady source of vorticity."""

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "y x"]:
        """Return the source at the points ``(y, x)`` of a box with sides ``lengths = (L_y, L_x)``."""
        ...


def build_forcing(given: Forcing | Mapping[str, Any] | str | None) -> Forcing | None:
    """Return the forcing that is meant by itself, its name, or its ``kind`` with options.

    Raises:
        ValueError: for an unknown name or option.
    """
    if given is None or isinstance(given, Forcing):
        return given
    options = {"kind": given} if isinstance(given, str) else dict(given)
    if "kind" not in options:
        raise ValueError(f"forcing {options} has no kind. Kinds: {', '.join(FORCINGS.names())}.")
    return FORCINGS.build(options.pop("kind"), **options)


@FORCINGS.register("none")
def unforced() -> None:
    """No source: decaying flow."""


@FORCINGS.register("li")
@dataclass(frozen=True)
class LiForcing:
    """``f = A (sin 2πn(x/L_x + y/L_y) + cos 2πn(x/L_x + y/L_y))``.

    Source: Li et al. (2021), "Fourier neural operator for parametric PDEs", section 5.3, where A = 0.1, n = 1.
    """

    amplitude: float = 0.1
    wavenumber: int = 1

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "y x"]:
        """Return the source at the points ``(y, x)``."""
        phase = 2 * math.pi * self.wavenumber * (x / lengths[1] + y / lengths[0])
        return self.amplitude * (phase.sin() + phase.cos())


@FORCINGS.register("symmetric")
@dataclass(frozen=True)
class SymmetricForcing:
    """``f = A (cos 2πn x/L_x + cos 2πn y/L_y)``: unchanged by rotations of a square box by 90 degrees.

    Source: Helwig et al. (2023), "Group equivariant Fourier neural operators", data set NS-Sym: A = 0.1, n = 2.
    """

    amplitude: float = 0.1
    wavenumber: int = 2

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "y x"]:
        """Return the source at the points ``(y, x)``."""
        turn = 2 * math.pi * self.wavenumber
        return self.amplitude * ((turn * x / lengths[1]).cos() + (turn * y / lengths[0]).cos())


@FORCINGS.register("kolmogorov")
@dataclass(frozen=True)
class KolmogorovForcing:
    """A shear force ``F sin(κy)`` along x with ``κ = 2πn/L_y``; its curl is ``f = -κ F cos(κy)``.

    The laminar steady state is ``ω = f / (ν κ² + drag)``. Source: Kochkov et al. (2021), "Machine learning-accelerated
    computational fluid dynamics", PNAS 118, where F = 1, n = 4 on a box of side 2π.
    """

    amplitude: float = 1.0
    wavenumber: int = 4

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "y x"]:
        """Return the source at the points ``(y, x)``."""
        kappa = 2 * math.pi * self.wavenumber / lengths[0]
        return -kappa * self.amplitude * (kappa * y).cos() * torch.ones_like(x)
