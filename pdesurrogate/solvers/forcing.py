"""Steady sources of vorticity on a periodic box.

A forcing returns ``f(x, y)`` of ``∂ω/∂t + ... = ... + f``, in 1 / time². Its wavenumber ``n`` counts periods along a
side, so that the source is periodic whatever the size of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pdesurrogate.fields import fourier

from . import FORCINGS
from .random_fields import GaussianRandomField


@runtime_checkable
class Forcing(Protocol):
    """A steady source of vorticity."""

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "*batch y x"]:
        """Return the source at the points ``(y, x)`` of a box with sides ``lengths = (L_y, L_x)``."""
        ...


@runtime_checkable
class RandomForcing(Protocol):
    """A family of steady sources, one drawn for each trajectory.

    Attributes:
        num_random: how many numbers one member is made of.
    """

    @property
    def num_random(self) -> int: ...  # noqa: D102

    def draw(self, uniforms: Float64[Tensor, "batch random"]) -> Forcing:
        """Return the members that numbers in [0, 1) stand for, one a trajectory."""
        ...


@runtime_checkable
class RandomFieldForcing(Protocol):
    """A family of steady sources that are random fields, one drawn for each trajectory."""

    def draw_field(
        self, seed: int, index: int, grid: tuple[int, int], lengths: tuple[float, float]
    ) -> Float64[Tensor, "y x"]:
        """Return the source of trajectory ``index``, one function whatever the grid."""
        ...


def build_forcing(
    given: Forcing | RandomForcing | RandomFieldForcing | Mapping[str, Any] | str | None,
) -> Forcing | RandomForcing | RandomFieldForcing | None:
    """Return the forcing that is meant by itself, its name, or its ``kind`` with options.

    Raises:
        ValueError: for an unknown name or option.
    """
    if given is None or isinstance(given, Forcing | RandomForcing | RandomFieldForcing):
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

    The laminar steady state is ``ω = f / (ν κ² + drag)``. On a box of side 2π with F = 1 the Reynolds number is 1 / ν.
    Sources: Kochkov et al. (2021), "Machine learning-accelerated computational fluid dynamics", PNAS 118: n = 4, drag
    0.1; Li et al. (2022), "Learning chaotic dynamics in dissipative systems": n = 4, no drag, Re 500; Li et al. (2023),
    "Scalable transformer for PDE surrogate modeling" (FactFormer): n = 8, drag 0.1, Re 1000.
    """

    amplitude: float = 1.0
    wavenumber: int = 4

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "y x"]:
        """Return the source at the points ``(y, x)``."""
        kappa = 2 * math.pi * self.wavenumber / lengths[0]
        return -kappa * self.amplitude * (kappa * y).cos() * torch.ones_like(x)


@dataclass(frozen=True)
class TorusForcing:
    """``f = A Σ_{p=1,2} Σ_{θ} (a sin 2πpθ + b cos 2πpθ)`` with ``θ = x/L_x, y/L_y, x/L_x + y/L_y``, one a trajectory.

    Attributes:
        coefficients: a and b of θ = x, y, x + y at p = 1, then those at p = 2.
        amplitude: A.
    """

    coefficients: Float64[Tensor, "batch 12"]
    amplitude: float = 0.1

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "batch y x"]:
        """Return the source at the points ``(y, x)``."""
        x, y = x / lengths[1] + 0 * y, y / lengths[0] + 0 * x
        turns = [2 * math.pi * p * theta for p in (1, 2) for theta in (x, y, x + y)]
        waves = torch.stack([wave for turn in turns for wave in (turn.sin(), turn.cos())])
        return self.amplitude * torch.einsum("bn,nyx->byx", self.coefficients.to(waves), waves)


@FORCINGS.register("torus")
@dataclass(frozen=True)
class RandomTorusForcing:
    """`TorusForcing` with coefficients uniform in [0, 1).

    Source: Tran et al. (2023), "Factorized Fourier neural operators", data set TorusVis: A = 0.1.
    """

    amplitude: float = 0.1
    num_random: ClassVar[int] = 12

    def draw(self, uniforms: Float64[Tensor, "batch 12"]) -> TorusForcing:
        """Return one source a trajectory."""
        return TorusForcing(uniforms, self.amplitude)


@dataclass(frozen=True)
class SampledForcing:
    """A source known by its values on a grid of nodes, one a trajectory; a solver on another grid interpolates it.

    Attributes:
        values: ``f(x_i, y_j)`` from the box's origin on; the interpolation is exact for modes below the Nyquist
            wavenumber of both grids.
    """

    values: Float[Tensor, "batch y x"]

    def __call__(
        self, y: Float[Tensor, "y 1"], x: Float[Tensor, "1 x"], lengths: tuple[float, float]
    ) -> Float[Tensor, "batch y x"]:
        """Return the source at the points ``(y, x)``, which are the nodes of a grid of the box."""
        return fourier.resample(self.values.to(y), (y.shape[0], x.shape[1]))


@FORCINGS.register("gaussian")
@dataclass(frozen=True)
class GaussianForcing:
    """Sources that are Gaussian random fields with ``E|f̂_k|² = c (|κ|² + τ²)^{-α}``; see `GaussianRandomField`.

    Source: Kossaifi et al. (2023), "Multi-grid tensorized Fourier neural operator for high-resolution PDEs",
    Kolmogorov flow with the covariance ``27 (-Δ + 9)^{-4}``: α = 4, τ = 3, amplitude ``"paper"`` (c = τ^{α-1} = 27).
    """

    alpha: float = 4.0
    tau: float = 3.0
    amplitude: str = "paper"

    def __post_init__(self) -> None:
        self._field((1.0, 1.0))

    def draw_field(
        self, seed: int, index: int, grid: tuple[int, int], lengths: tuple[float, float]
    ) -> Float64[Tensor, "y x"]:
        """Return the source of one trajectory."""
        return self._field(lengths).sample(seed, index, grid, stream=2)

    def _field(self, lengths: tuple[float, float]) -> GaussianRandomField:
        return GaussianRandomField(lengths, self.alpha, self.tau, self.amplitude)
