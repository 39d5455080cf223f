"""Scales of T1's initial weights at which the variance of its activations is the same at all depths.

By Parseval a field's variance is the sum of the variances of its amplitudes, and fields have spectra that decay: the
wave with the wavenumbers ``κ`` is expected to carry energy in proportion to ``e(κ) = (1 + |κ|²)^(-decay/2)``; ``decay``
0 is white noise. Of all waves of the reference grid a share ``ρ = Σ_kept e / Σ_all e`` is kept.

**Truncation.** A random linear map of C channels on every kept wave, weights of variance σ², takes the total variance
from ``V`` to ``C σ² ρ V``. It is preserved for ``σ² = 1 / (ρ C)``; for white noise this is Poli et al.'s ``N / (M C)``,
with M of N waves kept. What follows has no more waves to lose: repeated there, the same factor ``1/ρ`` multiplies the
variance once a layer.

**Layers.** ``v ← a v + b S₁S₂ σ(W v)`` has independent random weights of mean zero, so that variances add up. Mode
mixing with variances ``1/m`` hands the energy of the activations on. With ``G(s²) = E[σ(s ξ)²]``, ξ standard normal,
that energy is ``Σ_k G(C σ_W² v_k)``, and ``σ_W`` is chosen so that it is ``V = Σ_k v_k``; then ``V`` is kept for
``a² + b² = 1``. The energy that is mixed in is spread evenly over the waves, ``v_k ← a² v_k + b² V / M``, from where
the next layer goes on. For the exact GELU (Stein's identity twice)

    G(s²) = s² [1/4 + asin(s²/(1+s²)) / 2π] + s⁴ / (π (1+s²) √(1+2s²)),

a quarter of ``s²`` for faint waves and half of it for strong ones.

Source of the first part: Poli, Massaroli, Berto, Park, Dao, Ré, Ermon, "Transform Once", NeurIPS 2022,
arXiv:2211.14453, section on variance-preserving schemes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import WaveKind

_HALVINGS = 40


def expected_energy(
    kinds: Sequence[WaveKind], numbers: Sequence[Sequence[int]], decay: float
) -> Float[Tensor, " waves"]:
    """Return ``e(κ)`` of all products of the waves of the axes, float64, the last axis running fastest.

    ``κ`` counts periods in the box: a cosine between walls has half a one for each of its number.
    """
    square = torch.zeros(1, dtype=torch.float64)
    for kind, own in zip(kinds, numbers, strict=True):
        n = torch.tensor(own, dtype=torch.float64)
        periods = torch.floor((n + 1) / 2) if kind == "fourier" else n / 2
        square = (square[:, None] + periods.square()).flatten()
    return (1 + square) ** (-decay / 2)


def kept_share(
    kinds: Sequence[WaveKind], numbers: Sequence[Sequence[int]], grid: Sequence[int], decay: float
) -> float:
    """Return ``ρ``, the share of the expected energy on a grid that the kept waves carry."""
    everything = expected_energy(kinds, [range(size) for size in grid], decay).sum()
    return float(expected_energy(kinds, numbers, decay).sum() / everything)


def gelu_energy(variance: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
    """Return ``G``, the mean square of the GELU of a normal variable with the given variance and mean zero."""
    s = variance
    bounded = s / (1 + s)
    return s * (0.25 + bounded.asin() / (2 * math.pi)) + s * bounded / (math.pi * (1 + 2 * s).sqrt())


def channel_scales(energy: Float[Tensor, " waves"], width: int, depth: int, mixed: float) -> list[float]:
    """Return ``σ_W`` of every layer.

    Args:
        energy: expected variances ``v_k`` of the amplitudes that enter the first layer, in the network's units.
        width: channels C.
        depth: layers.
        mixed: ``b²``, the share of the variance that a layer replaces.
    """
    scales, total = [], energy.sum()
    for _ in range(depth):
        low, high = 2.0, 4.0  # a quarter to half of the variance passes the GELU
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if gelu_energy(middle * energy).sum() < total else (low, middle)
        scales.append(math.sqrt((low + high) / 2 / width))
        energy = (1 - mixed) * energy + mixed * total / len(energy)
    return scales
