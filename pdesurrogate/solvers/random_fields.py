"""Gaussian random fields on periodic boxes: one function for each seed and index, whatever the grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from pdesurrogate.fields import fourier
from pdesurrogate.registry import did_you_mean

Amplitude = Literal["original", "rewrite", "pino", "paper"]


@dataclass(frozen=True)
class GaussianRandomField:
    """Fields of zero mean whose modes are independent, with ``E|ŵ_k|² = c (|κ|² + τ²)^{-α}``.

    ``κ = 2πk/L`` is the physical wavenumber and ``σ = τ^{α-1}``. Li et al.'s initial vorticity has α = 2.5, τ = 7 on
    the unit box. Their formula and their codes differ in the amplitude ``c``; standard deviations at a
    point, for those α and τ:

    - ``"original"``: ``c = 2σ²``, the code of 2021 behind the public data sets (0.262);
    - ``"rewrite"``: ``c = σ²``, the code since 2022, also of the set NS-Sym (0.185);
    - ``"pino"``: ``c = 2σ²``, halved in the column k_x = 0 of the half spectrum (0.241; 2.0 on a box of 2π);
    - ``"paper"``: ``c = σ``, the covariance ``7^{3/2} (-Δ + 49)^{-2.5}`` as printed (0.043).

    Modes are drawn shell by shell outwards in ``max(|k_x|, |k_y|)`` from Philox streams keyed by (seed, index), in
    float64 on the CPU. A finer grid draws the same numbers and then some more, so that a field is the same
    function on every grid, up to the modes ``|k| <= (N - 1) // 2`` that a grid of N points carries.

    Attributes:
        lengths: sides of the box, ``(L_y, L_x)``.
        alpha, tau: smoothness and inverse length scale.
        amplitude: which of the four.

    Raises:
        ValueError: for an unknown amplitude, or α and τ that are not positive.
    """

    lengths: tuple[float, float] = (1.0, 1.0)
    alpha: float = 2.5
    tau: float = 7.0
    amplitude: Amplitude | str = "original"

    def __post_init__(self) -> None:
        allowed = get_args(Amplitude)
        if self.amplitude not in allowed:
            raise ValueError(
                f"amplitude of the random field is {self.amplitude!r}.{did_you_mean(self.amplitude, allowed)} "
                f"Allowed: {', '.join(allowed)}."
            )
        if self.alpha <= 0 or self.tau <= 0:
            raise ValueError(f"alpha = {self.alpha} and tau = {self.tau} must both be positive.")

    def mode_variance(
        self, ky: Int[np.ndarray, "*modes"], kx: Int[np.ndarray, "*modes"]
    ) -> Float64[np.ndarray, "*modes"]:
        """Return ``E|ŵ_k|²`` of the modes with the given integer mode numbers; the mean has none."""
        sigma = self.tau ** (self.alpha - 1)
        scale = {"original": 2 * sigma**2, "rewrite": sigma**2, "pino": 2 * sigma**2, "paper": sigma}
        kappa2 = (2 * math.pi / self.lengths[0] * ky) ** 2 + (2 * math.pi / self.lengths[1] * kx) ** 2
        variance = scale[self.amplitude] * (kappa2 + self.tau**2) ** -self.alpha
        if self.amplitude == "pino":
            variance = np.where(kx == 0, variance / 2, variance)
        return np.where(kappa2 == 0, 0.0, variance)

    def sample(self, seed: int, index: int, grid: tuple[int, int], stream: int = 0) -> Float64[Tensor, "y x"]:
        """Return field number ``index`` of a seed on a grid; both are integers from 0 upwards.

        Fields of different ``stream`` are independent: an initial state is number 0, a forcing beside it 2.
        """
        draws = random_stream(seed, index, stream)
        bounds = [(n - 1) // 2 for n in grid]
        ky, kx = _modes_by_shell(max(bounds))
        noise = draws.standard_normal((len(ky), 2))
        w_hat = np.sqrt(self.mode_variance(ky, kx) / 2) * (noise[:, 0] + 1j * noise[:, 1])
        fits = (np.abs(ky) <= bounds[0]) & (kx <= bounds[1])
        ky, kx, w_hat = ky[fits], kx[fits], w_hat[fits]
        spectrum = np.zeros((2 * bounds[0] + 1, bounds[1] + 1), dtype=np.complex128)
        spectrum[ky, kx] = w_hat
        on_axis = kx == 0  # the other half of this column is the complex conjugate
        spectrum[-ky[on_axis], 0] = w_hat[on_axis].conj()
        return fourier.pruned_inverse(torch.from_numpy(spectrum), grid)


@lru_cache(maxsize=8)
def _modes_by_shell(bound: int) -> tuple[Int[np.ndarray, " modes"], Int[np.ndarray, " modes"]]:
    """Return ``(ky, kx)`` of one mode of each conjugate pair up to ``bound``, innermost shell first."""
    ky, kx = np.meshgrid(np.arange(-bound, bound + 1), np.arange(bound + 1), indexing="ij")
    is_half = (kx > 0) | (ky > 0)
    ky, kx = ky[is_half], kx[is_half]
    order = np.lexsort((ky, kx, np.maximum(np.abs(ky), kx)))
    return ky[order], kx[order]


def random_stream(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """Return the random numbers of trajectory ``index``; streams are independent of each other."""
    sequence = np.random.SeedSequence([seed, index], spawn_key=(stream,) if stream else ())
    return np.random.Generator(np.random.Philox(sequence))


def stream_uniform(seed: int, index: int, num_values: int) -> Float[np.ndarray, " value"]:
    """Return numbers in [0, 1) of trajectory ``index``, independent of its random fields."""
    return random_stream(seed, index, 1).random(num_values)
