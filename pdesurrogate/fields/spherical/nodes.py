"""Latitudes of spherical grids and the quadrature that belongs to them.

Every rule has ``N`` colatitudes ``θ_j`` from pole to pole, symmetric about the equator, and weights with
``Σ_j w_j f(cos θ_j) ≈ ∫ f dμ`` over ``μ = cos θ = sin(latitude)`` from -1 to 1, so that they sum to 2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

LatitudeNodes = Literal["gauss-legendre", "equiangular", "cell-centred"]


@lru_cache(maxsize=64)
def latitude_rule(
    nodes: LatitudeNodes | str, size: int
) -> tuple[Float64[np.ndarray, " lat"], Float64[np.ndarray, " lat"]]:
    """Return colatitudes in radians, north pole first, and quadrature weights; both are read-only.

    - ``"gauss-legendre"``: zeros of the Legendre polynomial of degree N; polynomials in μ up to degree 2N - 1.
    - ``"equiangular"``: ``θ_j = πj/(N-1)`` with both poles, Clenshaw-Curtis weights; degree N - 1.
    - ``"cell-centred"``: ``θ_j = π(j + 1/2)/N`` without poles, weights of Fejér's first rule; degree N - 1.

    Raises:
        ValueError: for an unknown rule, or fewer than two latitudes.
    """
    if nodes not in get_args(LatitudeNodes):
        raise ValueError(
            f"the latitudes are {nodes!r}; allowed: {', '.join(map(repr, get_args(LatitudeNodes)))}."
        )
    if size < 2:
        raise ValueError(f"{size} latitudes were asked for; a sphere needs at least 2.")
    if nodes == "gauss-legendre":
        theta, weights = _gauss_legendre(size)
    else:
        theta, weights = _equiangular(size, with_poles=nodes == "equiangular")
    # Mirror images to the last bit: parity about the equator is then exact everywhere.
    theta = (theta + np.pi - theta[::-1]) / 2
    weights = (weights + weights[::-1]) / 2
    theta.flags.writeable = weights.flags.writeable = False
    return theta, weights


def exact_degree(nodes: LatitudeNodes | str, size: int) -> int:
    """Return the largest degree of polynomials in μ that a rule with ``size`` latitudes integrates exactly."""
    latitude_rule(nodes, size)
    # Symmetric rules are exact for odd degrees anyway.
    return 2 * size - 1 if nodes == "gauss-legendre" else size - 1 + size % 2


def _gauss_legendre(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Newton's iteration for ``P_N(cos θ) = 0`` in θ, where zeros are evenly spread and well conditioned."""
    theta = np.pi * (np.arange(size) + 0.75) / (size + 0.5)
    slope = np.ones(size)
    for _ in range(8):
        x = np.cos(theta)
        before, value = np.ones(size), x
        for n in range(2, size + 1):
            before, value = value, ((2 * n - 1) * x * value - (n - 1) * before) / n
        slope = size * (x * value - before) / np.sin(theta)  # dP/dθ
        step = value / slope
        theta = theta - step
        if np.abs(step).max() < 1e-14:
            break
    return theta, 2 / slope**2


def _equiangular(size: int, *, with_poles: bool) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the cosine series through the points: ``∫ cos(kθ) sin θ dθ = 2/(1 - k²)`` for even k, else 0."""
    intervals = size - 1 if with_poles else size
    theta = np.pi * (np.arange(size) + (0.0 if with_poles else 0.5)) / intervals
    k = np.arange(0, size, 2)
    moments = 2 / (1 - k.astype(float) ** 2)
    share = np.where(k == 0, 1.0, 2.0) / intervals
    if with_poles:
        share = np.where(k == intervals, 0.5 * share, share)
    weights = np.cos(np.outer(theta, k)) @ (share * moments)
    if with_poles:
        weights[[0, -1]] /= 2
    return theta, weights
