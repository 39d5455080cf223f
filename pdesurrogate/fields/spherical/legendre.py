"""Orthonormal associated Legendre functions and the two derivatives that vector harmonics are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

Row = Float64[np.ndarray, "order lat"]


def legendre_degrees(
    truncation: int, colatitudes: Float64[np.ndarray, " lat"]
) -> Iterator[tuple[Row, Row, Row]]:
    """Yield ``P_lm, m P_lm / sin θ, dP_lm/dθ`` for degrees ``l = 0 .. T`` in turn, all orders ``m = 0 .. T``.

    ``Y_lm = P_lm(cos θ) e^{imλ}`` are orthonormal on the unit sphere, with the Condon-Shortley phase; values of orders
    above the degree are zero. The recurrences need no division by ``sin θ``, so that the poles are points like any
    other::

        P_mm = -sqrt((2m + 1)/2m) sin θ P_{m-1,m-1},     P_00 = 1/sqrt(4π)
        P_lm = a_lm (cos θ P_{l-1,m} - P_{l-2,m} / a_{l-1,m}),     a_lm = sqrt((4l² - 1)/(l² - m²))
        m P_lm/sin θ = -1/2 sqrt((2l+1)/(2l-1)) [sqrt((l-m)(l-m-1)) P_{l-1,m+1} + sqrt((l+m)(l+m-1)) P_{l-1,m-1}]
        dP_lm/dθ = 1/2 [sqrt((l-m)(l+m+1)) P_{l,m+1} - sqrt((l+m)(l-m+1)) P_{l,m-1}]

    The recurrence over degrees runs upwards from the sectoral functions, in which direction it is stable. Near the
    poles those underflow to zero, first at m of some 300; up to T of about 1900 that happens only where every function
    of that order is below rounding error. Source: Holmes and Featherstone (2002), J. Geodesy 76, 279, section 2.
    """
    cosine, sine = np.cos(colatitudes), np.sin(colatitudes)
    order = np.arange(truncation + 2, dtype=float)[:, None]
    two_below = np.zeros((truncation + 2, len(colatitudes)))
    below = np.zeros_like(two_below)
    sectoral = np.full(len(colatitudes), 1 / np.sqrt(4 * np.pi))
    for degree in range(truncation + 1):
        now = np.zeros_like(below)
        if degree:
            m = order[:degree]
            factor = _step_factor(degree, m)
            now[:degree] = factor * cosine * below[:degree]
            now[: degree - 1] -= factor[:-1] / _step_factor(degree - 1, m[:-1]) * two_below[: degree - 1]
            sectoral = -np.sqrt((2 * degree + 1) / (2 * degree)) * sine * sectoral
        now[degree] = sectoral
        yield now[:-1], _over_sine(degree, order, below), _by_colatitude(degree, order, now)
        two_below, below = below, now


def _step_factor(degree: int, m: np.ndarray) -> np.ndarray:
    return np.sqrt((4.0 * degree**2 - 1) / (degree**2 - m**2))


def _root(product: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(product, 0.0))


def _over_sine(degree: int, order: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return ``m P_lm / sin θ`` from the functions one degree below."""
    values = np.zeros_like(below[:-1])
    m = order[1:-1]
    ratio = -0.5 * np.sqrt((2 * degree + 1) / max(2 * degree - 1, 1))
    up, down = _root((degree - m) * (degree - m - 1)), _root((degree + m) * (degree + m - 1))
    values[1:] = ratio * (up * below[2:] + down * below[:-2])
    return values


def _by_colatitude(degree: int, order: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return ``dP_lm/dθ`` from the functions of the same degree; ``P_{l,-1} = -P_{l,1}``."""
    m = order[1:-1]
    values = np.empty_like(now[:-1])
    values[0] = np.sqrt(degree * (degree + 1.0)) * now[1]
    up, down = _root((degree - m) * (degree + m + 1)), _root((degree + m) * (degree - m + 1))
    values[1:] = 0.5 * (up * now[2:] - down * now[:-2])
    return values
