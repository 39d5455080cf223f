"""Random smoke: noise of a few long waves, as the public smoke sets start from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from pdesurrogate.fields import fourier

CUT = 0.1
"""Modes with a scaled square wavenumber up to this are left out, as in PhiFlow's noise."""


@dataclass(frozen=True)
class SmokeNoise:
    """Noise ``Re Σ_k g_k (k'²)^{-s} e^{2πi k·x/L}`` with ``k' = scale k/L``, of mean 0 and standard deviation 1.

    The ``g_k`` are independent complex normal numbers; modes with ``k'² <= 0.1`` are left out. That is PhiFlow's
    ``Noise(scale, smoothness)``, whose absolute value is the initial density of PDEArena (scale 11, smoothness 6 on a
    box of side 32) and of FactFormer (15, 4 on a box of 8): amplitudes fall as ``|k|^{-2s}``, so that hardly more
    than the longest waves is there.

    Modes are drawn shell by shell outwards in ``max |k_i|`` from Philox streams keyed by (seed, index), in float64 on
    the CPU: a field is the same function on every grid, up to the modes that a grid carries.

    Attributes:
        scale: length; the longest waves have about three times this length.
        smoothness: the exponent s.
        lengths: sides of the box in array order.

    Raises:
        ValueError: if a number is not positive, or the box has no mode above the cut.
    """

    scale: float
    smoothness: float
    lengths: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("smoothness", self.smoothness)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} of the noise is {value}; it must be finite and positive.")

    def sample(self, seed: int, index: int, grid: Sequence[int], stream: int = 0) -> Float64[Tensor, "*grid"]:
        """Return field number ``index`` of a seed on a grid; fields of different ``stream`` are independent.

        Raises:
            ValueError: if the grid carries no mode that the noise has.
        """
        sequence = np.random.SeedSequence([seed, index], spawn_key=(stream,) if stream else ())
        draws = np.random.Generator(np.random.Philox(sequence))
        bounds = [(n - 1) // 2 for n in grid]
        modes = _modes_by_shell(max(bounds), len(grid))
        noise = draws.standard_normal((len(modes), 2))
        square = ((self.scale / np.array(self.lengths)) ** 2 * modes**2).sum(1)
        is_kept = (square > CUT) & (np.abs(modes) <= bounds).all(1)
        if not is_kept.any():
            raise ValueError(
                f"noise of scale {self.scale:g} has no wave on the grid {tuple(grid)} of a box of "
                f"{self.lengths}: use a "
                "larger scale or a finer grid."
            )
        modes, noise, square = modes[is_kept], noise[is_kept], square[is_kept]
        amplitudes = (square / square.min()) ** -self.smoothness * (noise[:, 0] + 1j * noise[:, 1])
        spectrum = np.zeros([2 * bound + 1 for bound in bounds[:-1]] + [bounds[-1] + 1], dtype=np.complex128)
        spectrum[tuple(modes.T)] = amplitudes
        on_axis = modes[:, -1] == 0  # the other half of this plane is the complex conjugate
        spectrum[tuple(-modes[on_axis].T)] = amplitudes[on_axis].conj()
        field = fourier.pruned_inverse(torch.from_numpy(spectrum), tuple(grid))
        return field / field.square().mean().sqrt()


@lru_cache(maxsize=4)
def _modes_by_shell(bound: int, ndim: int) -> Int[np.ndarray, "modes axis"]:
    """Return one mode of each conjugate pair with ``|k_i| <= bound``, the last component not negative, by shells."""
    whole = [np.arange(-bound, bound + 1)] * (ndim - 1) + [np.arange(bound + 1)]
    modes = np.stack([k.reshape(-1) for k in np.meshgrid(*whole, indexing="ij")], axis=1)
    signs = np.zeros(len(modes), dtype=np.int64)
    for component in modes.T[::-1]:  # the sign of the last component that is not zero
        signs = np.where(signs == 0, np.sign(component), signs)
    modes = modes[signs > 0]
    return modes[np.lexsort((*modes.T, np.abs(modes).max(1)))]
