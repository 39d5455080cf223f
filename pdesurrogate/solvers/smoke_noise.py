"""Random smoke: noise of a few long waves, as the public smoke sets start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from .option_checks import check_positive
from .random_fields import field_of_modes, white_modes

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
        check_positive(**{"scale of the noise": self.scale, "smoothness of the noise": self.smoothness})

    def sample(self, seed: int, index: int, grid: Sequence[int], stream: int = 0) -> Float64[Tensor, "*grid"]:
        """Return field number ``index`` of a seed on a grid; fields of different ``stream`` are independent.

        Raises:
            ValueError: if the grid carries no mode that the noise has.
        """
        modes, noise = white_modes(seed, index, grid, stream)
        parts = [(self.scale / length) ** 2 * k**2 for k, length in zip(modes, self.lengths, strict=True)]
        square = np.sum(parts, axis=0)
        is_kept = square > CUT
        if not is_kept.any():
            raise ValueError(
                f"noise of scale {self.scale:g} has no wave on the grid {tuple(grid)} of a box of {self.lengths}: use "
                "a larger scale or a finer grid."
            )
        square = square[is_kept]
        amplitudes = (square / square.min()) ** -self.smoothness * noise[is_kept]
        field = field_of_modes(tuple(k[is_kept] for k in modes), amplitudes, grid)
        return field / field.square().mean().sqrt()
