"""Gaussian random fields on boxes: one function for each seed and index, whatever the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Complex128, Float, Float64, Int
from torch import Tensor

from pdesurrogate.fields import fourier
from pdesurrogate.registry import did_you_mean

Amplitude = Literal["original", "rewrite", "pino", "paper"]
Modes = tuple[Int[np.ndarray, " modes"], ...]
"""Mode numbers along each axis."""


@dataclass(frozen=True)
class GaussianRandomField:
    """Fields of zero mean whose modes are independent, with ``E|ŵ_k|² = c (|κ|² + τ²)^{-α}``.

    ``κ = 2πk/L`` is the physical wavenumber and ``σ = τ^{α-1}``. Li et al.'s initial vorticity has α = 2.5, τ = 7 on
    the unit box. Their formula and their codes differ in the amplitude ``c``; standard deviations at a
    point, for those α and τ:

    - ``"original"``: ``c = 2σ²``, the code of 2021 behind the public data sets (0.262);
    - ``"rewrite"``: ``c = σ²``, the code since 2022, also of the set NS-Sym (0.185);
    - ``"pino"``: ``c = 2σ²``, halved in the column k_x = 0 of the half spectrum (0.241; 2.0 on a box of 2π);
    - ``"paper"``: ``c = σ``, the covariance ``7^{3/2} (-Δ + 49)^{-2.5}`` as printed (0.043);
    - a number: ``c`` itself, the covariance ``c (-Δ + τ²)^{-α}``.

    Modes are drawn shell by shell outwards in ``max_i |k_i|`` from Philox streams keyed by (seed, index), in
    float64 on the CPU. A finer grid draws the same numbers and then some more, so that a field is the same
    function on every grid, up to the modes ``|k| <= (N - 1) // 2`` that a grid of N points carries.

    Attributes:
        lengths: sides of the box in array order, ``(L_y, L_x)`` or any other number of them.
        alpha, tau: smoothness and inverse length scale.
        amplitude: which of the five.

    Raises:
        ValueError: for an unknown amplitude, or one, an α or a τ that is not positive.
    """

    lengths: tuple[float, ...] = (1.0, 1.0)
    alpha: float = 2.5
    tau: float = 7.0
    amplitude: Amplitude | str | float = "original"

    def __post_init__(self) -> None:
        allowed = get_args(Amplitude)
        if isinstance(self.amplitude, str) and self.amplitude not in allowed:
            raise ValueError(
                f"amplitude of the random field is {self.amplitude!r}.{did_you_mean(self.amplitude, allowed)} "
                f"Allowed: {', '.join(allowed)}, or a number."
            )
        if not isinstance(self.amplitude, str) and not self.amplitude > 0:
            raise ValueError(f"amplitude of the random field is {self.amplitude}; a number must be positive.")
        if self.alpha <= 0 or self.tau <= 0:
            raise ValueError(f"alpha = {self.alpha} and tau = {self.tau} must both be positive.")

    def mode_variance(self, *k: Int[np.ndarray, "*modes"]) -> Float64[np.ndarray, "*modes"]:
        """Return ``E|ŵ_k|²`` of the modes with the given mode numbers, one array an axis; the mean has none."""
        sigma = self.tau ** (self.alpha - 1)
        scales = {"original": 2 * sigma**2, "rewrite": sigma**2, "pino": 2 * sigma**2, "paper": sigma}
        scale = scales[self.amplitude] if isinstance(self.amplitude, str) else self.amplitude
        kappa2 = sum((2 * math.pi / length * n) ** 2 for length, n in zip(self.lengths, k, strict=True))
        variance = scale * (kappa2 + self.tau**2) ** -self.alpha
        if self.amplitude == "pino":
            variance = np.where(k[-1] == 0, variance / 2, variance)
        return np.where(kappa2 == 0, 0.0, variance)

    def sample(
        self, seed: int, index: int, grid: tuple[int, ...], stream: int = 0
    ) -> Float64[Tensor, "*space"]:
        """Return field number ``index`` of a seed on a grid of nodes; both are integers from 0 upwards.

        Fields of different ``stream`` are independent: an initial state is number 0, a forcing beside it 2.
        """
        modes, noise = white_modes(seed, index, grid, stream)
        return field_of_modes(modes, np.sqrt(self.mode_variance(*modes) / 2) * noise, grid)


@dataclass(frozen=True)
class WallRandomField:
    """Gaussian random fields between walls where their normal derivative vanishes; covariance ``c (-Δ + τ²)^{-α}``.

    ``w = Σ_k a_k Π_i cos(π k_i x_i / L_i)`` over ``k_i >= 0`` but for the mean, with independent amplitudes and ``E
    a_k² = c (|κ|² + τ²)^{-α} Π_i w_{k_i}``, ``κ = πk/L``, ``w_0 = 1`` and ``w_k = 2`` otherwise. Drawn like a
    `GaussianRandomField`, so that a field is the same function on every grid but for the modes that only the finer
    one carries.

    Attributes:
        lengths: distances of the walls, in array order.
        alpha, tau: smoothness and inverse length scale.
        amplitude: as of `GaussianRandomField`; not ``"pino"``, which belongs to a half spectrum.

    Raises:
        ValueError: as `GaussianRandomField`.
    """

    lengths: tuple[float, ...] = (1.0, 1.0)
    alpha: float = 2.0
    tau: float = 3.0
    amplitude: Amplitude | str | float = "rewrite"

    def __post_init__(self) -> None:
        if self.amplitude == "pino":
            raise ValueError(
                "amplitude 'pino' belongs to a half spectrum; between walls use another one, or a number."
            )
        self._mirrored()

    def sample(self, seed: int, index: int, grid: tuple[int, ...]) -> Float64[Tensor, "*space"]:
        """Return field number ``index`` of a seed at the cell centres of a grid."""
        modes = _cosines_by_shell(max(grid), len(grid))
        noise = random_stream(seed, index).standard_normal(len(modes[0]))
        weight = np.prod([np.where(k == 0, 1.0, 2.0) for k in modes], axis=0)
        amplitude = np.sqrt(self._mirrored().mode_variance(*modes) * weight) * noise
        fits = np.all([k < n for k, n in zip(modes, grid, strict=True)], axis=0)
        amplitudes = np.zeros(grid)
        amplitudes[tuple(k[fits] for k in modes)] = amplitude[fits]
        return fourier.inverse_cosine_transform(torch.from_numpy(amplitudes), range(len(grid)))

    def _mirrored(self) -> GaussianRandomField:
        """Return the periodic field on the box of twice the size, whose even part this is."""
        return GaussianRandomField(
            tuple(2 * length for length in self.lengths), self.alpha, self.tau, self.amplitude
        )


def white_modes(
    seed: int, index: int, grid: Sequence[int], stream: int = 0
) -> tuple[Modes, Complex128[np.ndarray, " modes"]]:
    """Return one mode of each conjugate pair that a grid carries but for the mean, and its random number.

    Real and imaginary parts are independent standard normal numbers, drawn shell by shell outwards: those that a
    coarse grid carries have the same on a finer one.
    """
    bounds = [(n - 1) // 2 for n in grid]
    modes = _modes_by_shell(max(bounds), len(grid))
    noise = random_stream(seed, index, stream).standard_normal((len(modes[0]), 2))
    fits = np.all([np.abs(k) <= bound for k, bound in zip(modes, bounds, strict=True)], axis=0)
    return tuple(k[fits] for k in modes), noise[fits, 0] + 1j * noise[fits, 1]


def field_of_modes(
    modes: Modes, w_hat: Complex128[np.ndarray, " modes"], grid: Sequence[int]
) -> Float64[Tensor, "*space"]:
    """Return the real field on a grid's nodes whose modes, one of each conjugate pair, are given."""
    *bounds, last = ((n - 1) // 2 for n in grid)
    spectrum = np.zeros([2 * bound + 1 for bound in bounds] + [last + 1], dtype=np.complex128)
    spectrum[modes] = w_hat
    on_axis = modes[-1] == 0  # the other half of these modes is the complex conjugate
    spectrum[tuple(-k[on_axis] for k in modes)] = w_hat[on_axis].conj()
    return fourier.pruned_inverse(torch.from_numpy(spectrum), tuple(grid))


@lru_cache(maxsize=8)
def _modes_by_shell(bound: int, ndim: int) -> Modes:
    """Return one mode of each conjugate pair up to ``bound``, the last axis' never negative, innermost shell first."""
    everything = np.meshgrid(
        *[np.arange(-bound, bound + 1)] * (ndim - 1), np.arange(bound + 1), indexing="ij"
    )
    is_half = np.zeros(everything[0].shape, dtype=bool)
    for k in everything:
        is_half = (k > 0) | ((k == 0) & is_half)
    return _by_shell([k[is_half] for k in everything])


@lru_cache(maxsize=8)
def _cosines_by_shell(size: int, ndim: int) -> Modes:
    """Return the modes ``0 <= k < size`` but the mean, innermost shell first."""
    everything = np.meshgrid(*[np.arange(size)] * ndim, indexing="ij")
    return _by_shell([k.ravel()[1:] for k in everything])


def _by_shell(modes: Sequence[Int[np.ndarray, " modes"]]) -> Modes:
    order = np.lexsort((*modes, np.max(np.abs(modes), axis=0)))
    return tuple(k[order] for k in modes)


def random_stream(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """Return the random numbers of trajectory ``index``; streams are independent of each other."""
    sequence = np.random.SeedSequence([seed, index], spawn_key=(stream,) if stream else ())
    return np.random.Generator(np.random.Philox(sequence))


def stream_uniform(seed: int, index: int, num_values: int) -> Float[np.ndarray, " value"]:
    """Return numbers in [0, 1) of trajectory ``index``, independent of its random fields."""
    return random_stream(seed, index, 1).random(num_values)
