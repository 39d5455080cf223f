"""Initial states of shallow water on a sphere: one for each seed and index.

Each is a frozen dataclass with a method ``state(equation, sizes, seed, index)`` that returns height of the surface,
vorticity and divergence on a grid in float64; over flat ground the height is the depth. Numbers that may be given as
``[low, high]`` are drawn uniformly for each index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.nodes import latitude_rule
from pdesurrogate.fields.spherical.transforms import SphericalTransform

from . import SPHERICAL_STATES
from .option_checks import check_counts, check_numbers, check_positive, number_range
from .random_fields import random_stream, stream_uniform
from .spherical_shallow_water import SphericalShallowWater

Range = float | Sequence[float]


@runtime_checkable
class SphericalState(Protocol):
    """An ensemble of initial states.

    Attributes:
        mean_depth: depth of the fluid at rest over flat ground, m.
    """

    @property
    def mean_depth(self) -> float: ...  # noqa: D102

    def state(
        self, equation: SphericalShallowWater, sizes: tuple[int, int], seed: int, index: int
    ) -> Float64[Tensor, "3 lat lon"]:
        """Return surface height, vorticity and divergence of one member."""
        ...


def build_state(given: Mapping[str, Any] | str) -> SphericalState:
    """Return the ensemble that a yaml names: its name, or its ``kind`` with options.

    Raises:
        ValueError: for an unknown kind or option.
    """
    options = {"kind": given} if isinstance(given, str) else dict(given)
    if "kind" not in options:
        raise ValueError(
            f"initial_condition needs a kind; given: {', '.join(options) or 'nothing'}. Kinds: "
            f"{', '.join(SPHERICAL_STATES.names())}."
        )
    built: SphericalState = SPHERICAL_STATES.build(options.pop("kind"), **options)
    return built


@SPHERICAL_STATES.register("galewsky")
@dataclass(frozen=True)
class GalewskyJet:
    """A balanced jet of the northern mid-latitudes and a small bump that sets off its barotropic instability.

    ``u = u_max e^{4/(φ1-φ0)²} exp(1/((φ-φ0)(φ-φ1)))`` between ``φ0 = π/7`` and ``φ1 = π/2 - π/7``, 0 elsewhere. The
    height is in gradient wind balance, ``g ∂h/∂φ = -a u (f + u tan φ / a)``, with the given mean, and ``ĥ cos φ
    exp(-((λ-λ2)/(1/3))²) exp(-((φ-φ2)/(1/15))²)`` is added.

    Source: Galewsky, Scott and Polvani (2004), Tellus A 56, 429, section 2.

    Attributes:
        speed: ``u_max``, m/s.
        bump_height: ĥ, m.
        bump_longitude: λ2, degrees east.
        bump_latitude: φ2, degrees north.
        bump: ``"original"``, or ``"torch-harmonics"``, whose last factor is ``exp(-(φ-φ2)²/(1/15))``: almost four
            times as wide in latitude.
        mean_depth: of the balanced state, m.

    Raises:
        ValueError: for a number out of range, or an unknown bump.
    """

    speed: Range = 80.0
    bump_height: Range = 120.0
    bump_longitude: Range = 0.0
    bump_latitude: Range = 45.0
    bump: str = "original"
    mean_depth: float = 1e4

    def __post_init__(self) -> None:
        check_positive(mean_depth=self.mean_depth)
        self._ranges()
        if self.bump not in ("original", "torch-harmonics"):
            raise ValueError(f"bump is {self.bump!r}; allowed: original, torch-harmonics.")

    def state(
        self, equation: SphericalShallowWater, sizes: tuple[int, int], seed: int, index: int
    ) -> Float64[Tensor, "3 lat lon"]:
        """Return surface height, vorticity and divergence of one jet."""
        low, high = np.array(self._ranges()).T
        speed, height, longitude, latitude = low + (high - low) * stream_uniform(seed, index, 4)
        grid = equation.grid_of(sizes)
        phi = grid.latitudes
        surface = self.mean_depth - _balanced_drop(equation, speed, phi)
        nearby = np.remainder(grid.longitudes - math.radians(longitude) + math.pi, 2 * math.pi) - math.pi
        offset = (phi - math.radians(latitude))[:, None]
        across = (15 * offset) ** 2 if self.bump == "original" else 15 * offset**2
        bump = height * np.cos(phi)[:, None] * np.exp(-((3 * nearby) ** 2) - across)
        wind = np.zeros((2, *sizes))
        wind[0] = _jet(speed, phi)[:, None]
        depth = torch.from_numpy(surface[:, None] + bump)
        return equation.state(depth[None], torch.from_numpy(wind)[None])[0]

    def _ranges(self) -> list[tuple[float, float]]:
        return [
            number_range("speed", self.speed),
            number_range("bump_height", self.bump_height),
            number_range("bump_longitude", self.bump_longitude),
            number_range("bump_latitude", self.bump_latitude, -90.0, 90.0),
        ]


JET_START, JET_END = math.pi / 7, math.pi / 2 - math.pi / 7


def _jet(speed: float, latitude: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    product = (latitude - JET_START) * (latitude - JET_END)
    inside = product < 0
    shape = np.exp(1 / np.where(inside, product, -1.0) + 4 / (JET_END - JET_START) ** 2)
    return speed * np.where(inside, shape, 0.0)


def _balanced_drop(
    equation: SphericalShallowWater, speed: float, latitude: Float64[np.ndarray, " lat"]
) -> Float64[np.ndarray, " lat"]:
    """Return how far the balanced surface lies below its mean: ``∫ a u (f + u tan φ / a) dφ / g`` from the south."""

    def drop(phi: np.ndarray) -> np.ndarray:
        theta, weights = latitude_rule("gauss-legendre", 256)
        half = (np.clip(phi, JET_START, JET_END) - JET_START)[:, None] / 2
        along = JET_START + half * (1 + np.cos(theta))
        u = _jet(speed, along)
        slope = u * (2 * equation.rotation * np.sin(along) * equation.radius + u * np.tan(along))
        return (slope * weights * half).sum(1) / equation.gravity

    theta, weights = latitude_rule("gauss-legendre", 512)
    return drop(latitude) - (weights * drop(math.pi / 2 - theta)).sum() / 2


@SPHERICAL_STATES.register("random_harmonics")
@dataclass(frozen=True)
class RandomHarmonics:
    """White noise up to a degree, in height, vorticity and divergence: no balance, strong gravity waves.

    Coefficients of the harmonics of degree and order below ``N = max_degree + 1`` are independent complex normal
    numbers of variance ``4π / (N (N+1))``, times ``amplitude`` for the height and ``mach sqrt(g H) / a`` for vorticity
    and divergence; orders 0 keep the real part. Up to the truncation T that is carried, the mean square over the
    sphere is ``((T+1)² - (T+1)/2) / (N (N+1))`` of the squared scale. Numbers are drawn by ascending degree: a larger
    truncation has the same and more.

    Source: the random state of torch-harmonics' shallow water solver, which Bonev et al. (2023), "Spherical Fourier
    neural operators", ICML, section 5.1 train on, at a Mach number of 0.2.

    Attributes:
        amplitude: of the height, m.
        mach: of vorticity and divergence.
        max_degree: of the harmonics that are drawn.
        mean_depth: H, m.

    Raises:
        ValueError: for a number out of range.
    """

    amplitude: float = 120.0
    mach: float = 0.2
    max_degree: int = 119
    mean_depth: float = 1e4

    def __post_init__(self) -> None:
        check_numbers(amplitude=self.amplitude, mach=self.mach)
        check_positive(mean_depth=self.mean_depth)
        check_counts(max_degree=(self.max_degree, 1))

    def state(
        self, equation: SphericalShallowWater, sizes: tuple[int, int], seed: int, index: int
    ) -> Float64[Tensor, "3 lat lon"]:
        """Return surface height, vorticity and divergence of one member."""
        grid = equation.grid_of(sizes)
        truncation = _truncation(equation, grid)
        size = self.max_degree + 1
        spectra = math.sqrt(4 * math.pi / (size * (size + 1))) * _noise(
            random_stream(seed, index), min(truncation, self.max_degree), truncation, num_fields=3
        )
        spectra[0] *= self.amplitude
        spectra[1:] *= self.mach * math.sqrt(equation.gravity * self.mean_depth) / equation.radius
        spectra[0, 0, 0] += self.mean_depth * math.sqrt(4 * math.pi)
        spectra[1:, 0, 0] = 0.0
        return SphericalTransform(grid, truncation, dtype=torch.float64).synthesise(spectra)


@SPHERICAL_STATES.register("random_winds")
@dataclass(frozen=True)
class RandomWinds:
    """Random winds over a level surface, without divergence: the set ShallowWater-2D of PDEArena.

    ``u = c1 r cos φ - c2 cos² φ + c3 sin φ cos φ + c0`` m/s with integers ``c0`` in 80..120, ``c1`` in -20..30, ``c2``
    and ``c3`` in -20..40 and ``r`` uniform in [0, 1), new at every point; ``ζ = -(cos φ / a) ∂u/∂φ``, without its mean,
    plus a wave ``5e-5 cos(6λ) cos φ exp(-((φ - 45°)/10°)²)`` 1/s, plus noise of 5e-6 on the harmonics of degree 14 and
    orders 0 to 13. What is missing in balance leaves as gravity waves.

    The published code fills its array along the wrong axis: the profile above runs along longitude, twice around the
    sphere, in place of latitude. ``layout = "as_run"`` does the same, as the public data have it; ``"zonal"`` has the
    winds that were meant. ``r`` belongs to grid points, so that the state depends on the solver's grid.

    Source: Gupta and Brandstetter (2023), "Towards multi-spatiotemporal-scale generalized PDE modeling", TMLR, and its
    repository pdearena, ``pdedatagen/shallowwater/modified_init.jl``, kind ``random2``.

    Attributes:
        layout: ``"as_run"`` or ``"zonal"``.
        mean_depth: H, m.

    Raises:
        ValueError: for an unknown layout, or a depth that is not positive.
    """

    layout: str = "as_run"
    mean_depth: float = 1e4

    def __post_init__(self) -> None:
        if self.layout not in ("as_run", "zonal"):
            raise ValueError(f"layout is {self.layout!r}; allowed: as_run, zonal.")
        check_positive(mean_depth=self.mean_depth)

    def state(
        self, equation: SphericalShallowWater, sizes: tuple[int, int], seed: int, index: int
    ) -> Float64[Tensor, "3 lat lon"]:
        """Return surface height, vorticity and divergence of one member."""
        north_first = SphericalGrid(*sizes, equation.nodes)
        truncation = _truncation(equation, north_first)
        if truncation < 14:
            raise ValueError(f"random winds hold noise of degree 14; the truncation is T = {truncation}.")
        draws = random_stream(seed, index)
        transform = SphericalTransform(north_first, truncation, equation.radius, torch.float64)
        phi = torch.from_numpy(north_first.latitudes)[:, None]
        wind = torch.from_numpy(self._wind(draws, north_first))
        northward = transform.gradient(transform.analyse(wind))[1]
        wave = 0.5e-4 * torch.cos(6 * torch.from_numpy(north_first.longitudes))
        wave = wave * phi.cos() * torch.exp(-(((phi.rad2deg() - 45) / 10) ** 2))
        spectrum = transform.analyse(wave - phi.cos() * northward)
        spectrum[14, :14] += 5e-6 * _noise(draws, 14, 14, num_fields=1)[0, 14, :14]
        spectrum[0, 0] = 0.0
        fields = torch.stack([torch.zeros_like(spectrum), spectrum, torch.zeros_like(spectrum)])
        fields[0, 0, 0] = self.mean_depth * math.sqrt(4 * math.pi)
        target = SphericalTransform(equation.grid_of(sizes), truncation, dtype=torch.float64)
        return target.synthesise(fields)

    def _wind(self, draws: np.random.Generator, grid: SphericalGrid) -> Float64[np.ndarray, "lat lon"]:
        offset, c1 = draws.integers(80, 121), draws.integers(-20, 31)
        c2, c3 = draws.integers(-20, 41, size=2)
        sine, cosine = np.sin(grid.latitudes), np.cos(grid.latitudes)
        profiles = c1 * draws.random((grid.num_lon, grid.num_lat)) * cosine
        profiles += offset - c2 * cosine**2 + c3 * sine * cosine
        return profiles.reshape(grid.shape) if self.layout == "as_run" else profiles.T.copy()


def _truncation(equation: SphericalShallowWater, grid: SphericalGrid) -> int:
    return grid.largest_truncation(product=2) if equation.truncation is None else equation.truncation


def _noise(draws: np.random.Generator, max_degree: int, truncation: int, num_fields: int) -> Tensor:
    """Return ``(field, degree, order)``: complex normal numbers of variance 1 up to a degree; real parts at order 0."""
    degree, order = np.tril_indices(max_degree + 1)
    normal = draws.standard_normal((len(degree), num_fields, 2)) / math.sqrt(2)
    normal[order == 0, :, 1] = 0.0
    spectra = np.zeros((num_fields, truncation + 1, truncation + 1), dtype=np.complex128)
    spectra[:, degree, order] = (normal[..., 0] + 1j * normal[..., 1]).T
    return torch.from_numpy(spectra)
