"""Functions on a disc, of which local integral kernels are sums.

A basis gives ``ψ_1 .. ψ_n`` at offsets from the point of evaluation, measured in units of the cutoff radius. All
vanish beyond the unit ball. Their size is arbitrary here: whoever samples them normalises the samples. They are
those of torch-harmonics, the code of Liu-Schiaffini, Berner, Bonev, Kurth, Azizzadenesheli, Anandkumar, "Neural
Operators with Localized Integral and Differential Kernels", ICML 2024, arXiv:2402.16845, but for what the classes
below name: values at the origin, where some of theirs have no limit or a kink, and the taper of Zernike's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..registry import did_you_mean


class FilterBasis(ABC):
    """Functions on the unit ball of one, two or three dimensions.

    Attributes:
        size: number of functions.
    """

    size: int

    @abstractmethod
    def values(self, offsets: Float[Tensor, "dim *points"]) -> Float[Tensor, "function *points"]:
        """Return the functions at Cartesian offsets, in units of the cutoff radius; zero beyond it."""

    def on_disc(
        self, radius: Float[Tensor, "*points"], angle: Float[Tensor, "*points"]
    ) -> Float[Tensor, "function *points"]:
        """Return the functions at polar offsets; the angle is counted from the first axis towards the second."""
        return self.values(torch.stack([radius * angle.cos(), radius * angle.sin()]))


class PiecewiseLinear(FilterBasis):
    """Hats in the radius times hats in the angle.

    With ``δ = 2 / (num_radii + 1)`` an odd number of radii has one hat at the origin, alike in all directions, and
    rings at ``δ, 2δ, ..``; an even number has rings at ``δ/2, 3δ/2, ..``, the first of which reaches through the
    origin to the other side. A ring carries ``num_angles`` hats of half width ``2π / num_angles``, centred at ``-π,
    -π + 2π / num_angles, ..``, or one that is alike in all directions. A line has two directions, and a ball
    has rings that are alike in all directions only.

    At the origin itself, where a first ring of angular hats has no limit, it takes the mean over the directions. A
    first ring that is alike in all directions is the sum of what angular hats would be, and flat there.

    Args:
        ndim: dimension of the ball.
        num_radii, num_angles: numbers of hats.

    Raises:
        ValueError: if there are fewer than one of either, or more angles than the dimension has directions.
    """

    def __init__(self, ndim: int, num_radii: int, num_angles: int) -> None:
        if num_radii < 1 or num_angles < 1:
            raise ValueError(
                f"a piecewise linear basis of {num_radii} radii and {num_angles} angles was asked for; it needs at "
                "least one of each."
            )
        if ndim != 2 and num_angles > {1: 2}.get(ndim, 1):
            raise ValueError(
                f"a piecewise linear basis has at most 2 angles in one dimension and 1 in three; {num_angles} were "
                f"asked for in {ndim}. Give basis_shape=[{num_radii}, {2 if ndim == 1 else 1}]."
            )
        self.num_radii, self.num_angles = num_radii, num_angles
        self.size = (num_radii // 2) * num_angles + num_radii % 2

    def values(self, offsets: Float[Tensor, "dim *points"]) -> Float[Tensor, "function *points"]:
        """Return the functions at Cartesian offsets, in units of the cutoff radius; zero beyond it."""
        radius = offsets.square().sum(0).sqrt()
        step = 2.0 / (self.num_radii + 1)
        functions = [_hat(radius / step)] if self.num_radii % 2 else []
        for ring in range(self.num_radii // 2):
            centre = (ring + 1 if self.num_radii % 2 else ring + 0.5) * step
            near, far = _hat((radius - centre) / step), _hat((radius + centre) / step)
            if self.num_angles == 1:
                functions.append(near + far)
                continue
            angle = _angle(offsets)
            width = 2 * math.pi / self.num_angles
            for i in range(self.num_angles):
                middle = i * width - math.pi
                along, against = (
                    _angular_hat(angle, middle, width),
                    _angular_hat(angle + math.pi, middle, width),
                )
                ring_values = near * along + far * against
                at_origin = (near + far) / self.num_angles
                functions.append(torch.where(radius > 0, ring_values, at_origin))
        return torch.stack(functions) * (radius <= 1)


class Morlet(FilterBasis):
    """Products of ``1, sin πx, cos πx, sin 2πx, ..`` along each axis under the window of Hann, ``cos²(πr/2)``.

    Args:
        num_waves: how many of those functions along each axis.

    Raises:
        ValueError: if an axis has none.
    """

    def __init__(self, num_waves: Sequence[int]) -> None:
        if not num_waves or min(num_waves) < 1:
            raise ValueError(f"a Morlet basis needs at least one wave an axis; given: {list(num_waves)}.")
        self.num_waves = tuple(num_waves)
        self.size = math.prod(num_waves)

    def values(self, offsets: Float[Tensor, "dim *points"]) -> Float[Tensor, "function *points"]:
        """Return the functions at Cartesian offsets, in units of the cutoff radius; zero beyond it."""
        radius = offsets.square().sum(0).sqrt()
        functions = (0.5 * math.pi * radius).cos().square() * (radius <= 1)
        functions = functions[None]
        for x, number in zip(offsets, self.num_waves, strict=True):
            phases = [math.pi * ((wave + 1) // 2) * x for wave in range(number)]
            waves = torch.stack([p.sin() if wave % 2 else p.cos() for wave, p in enumerate(phases)])
            functions = (functions[:, None] * waves[None]).flatten(0, 1)
        return functions


class Zernike(FilterBasis):
    """Zernike's polynomials ``R_n^m(r) cos mφ`` and ``R_n^m(r) sin mφ`` on the disc, of degree below ``num_degrees``.

    They are tapered by ``1 - r²``, so that they vanish at the cutoff: a kernel that jumps there is integrated on a
    grid with an error that falls more slowly than the spacing squared, and not steadily.

    Args:
        num_degrees: number of degrees ``n = 0, 1, ..``; there are ``n + 1`` polynomials of degree ``n``.
        taper: whether to taper them.

    Raises:
        ValueError: if there is no degree.
    """

    def __init__(self, num_degrees: int, *, taper: bool = True) -> None:
        if num_degrees < 1:
            raise ValueError(
                f"a Zernike basis of {num_degrees} degrees was asked for; it needs at least one."
            )
        self.num_degrees, self.taper = num_degrees, taper
        self.size = num_degrees * (num_degrees + 1) // 2

    def values(self, offsets: Float[Tensor, "dim *points"]) -> Float[Tensor, "function *points"]:
        """Return the functions at Cartesian offsets, in units of the cutoff radius; zero beyond it."""
        radius, angle = offsets.square().sum(0).sqrt(), _angle(offsets)
        functions = []
        for n in range(self.num_degrees):
            for m in range(-n, n + 1, 2):
                radial = _zernike_radial(radius, n, abs(m))
                functions.append(radial * ((abs(m) * angle).sin() if m < 0 else (m * angle).cos()))
        window = (1 - radius.square()).clamp(min=0) if self.taper else torch.ones_like(radius)
        return torch.stack(functions) * window * (radius <= 1)


BASES = ("piecewise_linear", "morlet", "zernike")


def filter_basis(name: str, ndim: int, shape: int | Sequence[int] | None = None) -> FilterBasis:
    """Return a basis by name.

    Args:
        name: one of `BASES`.
        ndim: dimension of space.
        shape: numbers of radii and angles of a piecewise linear basis (by default 3 radii, and in one, two and three
            dimensions 2, 4 and 1 angles), number of waves of a Morlet basis along all axes or each of them (3), or
            number of degrees of a Zernike basis (3).

    Raises:
        ValueError: for an unknown name, a shape that does not fit, or a dimension that the basis does not have.
    """
    if name not in BASES:
        raise ValueError(f"basis is {name!r}.{did_you_mean(str(name), BASES)} Allowed: {', '.join(BASES)}.")
    if not 1 <= ndim <= 3:
        raise ValueError(f"filter bases exist in one to three dimensions; {ndim} were asked for.")
    given = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
    if name == "piecewise_linear":
        _check_shape(name, given, (0, 1, 2), "radii, or radii and angles")
        return PiecewiseLinear(
            ndim, *(given or (3,)), *((2, 4, 1)[ndim - 1 : ndim] if len(given) < 2 else ())
        )
    if name == "morlet":
        _check_shape(name, given, (0, 1, ndim), f"waves, one number or one for each of {ndim} axes")
        return Morlet((given or (3,)) * ndim if len(given) < 2 else given)
    _check_shape(name, given, (0, 1), "degrees")
    if ndim != 2:
        raise ValueError(
            f"Zernike's polynomials live on the disc; the data have {ndim} axes of space. Choose the basis "
            "piecewise_linear or morlet."
        )
    return Zernike(*(given or (3,)))


def _check_shape(name: str, given: tuple[int, ...], lengths: tuple[int, ...], meaning: str) -> None:
    if len(given) not in lengths:
        raise ValueError(f"basis_shape is {list(given)}; for the basis {name} it holds {meaning}.")


def _hat(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _angle(offsets: Tensor) -> Tensor:
    """Return the angle from the first axis; on a line 0 to the right and π to the left."""
    return torch.atan2(torch.zeros_like(offsets[0]) if len(offsets) == 1 else offsets[1], offsets[0])


def _angular_hat(angle: Tensor, middle: float, width: float) -> Tensor:
    distance = torch.remainder(angle - middle + math.pi, 2 * math.pi) - math.pi
    return _hat(distance / width)


def _zernike_radial(radius: Tensor, n: int, m: int) -> Tensor:
    total = torch.zeros_like(radius)
    for k in range((n - m) // 2 + 1):
        below = math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k)
        total = total + (-1) ** k * math.factorial(n - k) / below * radius ** (n - 2 * k)
    return total
