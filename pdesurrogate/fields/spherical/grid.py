"""Grids of latitudes and longitudes: what they resolve and what they integrate exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float64

from ..spec import Axis, DataSpec
from .nodes import LatitudeNodes, exact_degree, latitude_rule


@dataclass(frozen=True)
class SphericalGrid:
    """Points ``(latitude, longitude)``, in array order ``(lat, lon)``; longitudes are evenly spread.

    Attributes:
        num_lat: number of latitudes, at least 2.
        num_lon: number of longitudes.
        nodes: rule of the latitudes, see `latitude_rule`.
        north_first: whether the first row is the northernmost.

    Raises:
        ValueError: for an unknown rule or too few points.
    """

    num_lat: int
    num_lon: int
    nodes: LatitudeNodes | str = "gauss-legendre"
    north_first: bool = True

    def __post_init__(self) -> None:
        latitude_rule(self.nodes, self.num_lat)
        if self.num_lon < 1:
            raise ValueError(f"{self.num_lon} longitudes were asked for; a sphere needs at least 1.")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of latitudes and of longitudes."""
        return self.num_lat, self.num_lon

    @property
    def colatitudes(self) -> Float64[np.ndarray, " lat"]:
        """Angles from the north pole in radians, in array order."""
        theta, _ = latitude_rule(self.nodes, self.num_lat)
        return theta if self.north_first else theta[::-1].copy()

    @property
    def latitudes(self) -> Float64[np.ndarray, " lat"]:
        """Latitudes in radians, in array order."""
        return math.pi / 2 - self.colatitudes

    @property
    def longitudes(self) -> Float64[np.ndarray, " lon"]:
        """Longitudes in radians, from 0 on."""
        return 2 * math.pi / self.num_lon * np.arange(self.num_lon)

    @property
    def weights(self) -> Float64[np.ndarray, " lat"]:
        """Quadrature weights over ``sin(latitude)``, in array order; they sum to 2."""
        return latitude_rule(self.nodes, self.num_lat)[1]

    def largest_truncation(self, product: int = 1) -> int:
        """Return the largest T for which products of so many fields are analysed exactly.

        A product of p fields of degrees up to T, times the harmonic that it is projected on, is a polynomial of
        degree (p + 1) T. ``product=1`` serves analysis of a field; ``product=2`` is the quadratic rule of
        pseudo-spectral solvers (Orszag 1970): ``3T <= 2 num_lat - 1`` on Gauss-Legendre latitudes.
        """
        by_latitude = exact_degree(self.nodes, self.num_lat) // (product + 1)
        return min(by_latitude, (self.num_lon - 1) // (product + 1))

    def require(self, truncation: int, product: int = 1) -> None:
        """Check that a truncation is within `largest_truncation`.

        Raises:
            ValueError: with the largest truncation and the grid that would be needed.
        """
        largest = self.largest_truncation(product)
        if 0 <= truncation <= largest:
            return
        degree = (product + 1) * truncation
        num_lat = degree // 2 + 1 if self.nodes == "gauss-legendre" else 2 * (degree // 2) + 1
        what = "fields" if product == 1 else f"products of {product} fields"
        raise ValueError(
            f"truncation T = {truncation} was asked for on {self.num_lat} {self.nodes} latitudes and {self.num_lon} "
            f"longitudes, which analyse {what} exactly up to T = {largest}. Use a truncation from 0 to {largest}"
            + (f", or at least {num_lat} x {degree + 1} points." if truncation > 0 else ".")
        )


def spherical_axes(
    nodes: LatitudeNodes | str = "gauss-legendre", *, north_first: bool = True
) -> tuple[Axis, Axis]:
    """Return the axes ``(lat, lon)`` of the whole sphere in degrees, from which a spec of spherical data is made.

    Raises:
        ValueError: for an unknown rule of the latitudes.
    """
    lat = Axis(
        "lat",
        180.0,
        "open",
        "degrees_north",
        origin=-90.0,
        nodes=nodes,
        is_descending=north_first,
    )
    return lat, Axis("lon", 360.0, "periodic", "degrees_east")


def spherical_grid(spec: DataSpec, sizes: Sequence[int]) -> SphericalGrid:
    """Return the points of data on a sphere, with their latitudes, quadrature weights and transforms.

    Args:
        spec: of the data.
        sizes: number of latitudes and of longitudes.

    Raises:
        ValueError: for a spec that is not on a sphere, whose axes are not the latitudes of a rule and longitudes from
            0 on, or for sizes of another number of axes.
    """
    if spec.geometry != "sphere" or spec.axis_names != ("lat", "lon") or spec.axes[0].nodes is None:
        axes = ", ".join(
            f"{axis.name} ({'evenly spread' if axis.nodes is None else axis.nodes})" for axis in spec.axes
        )
        raise ValueError(
            "integrals over a sphere need the geometry 'sphere' and axes (lat, lon), latitudes after a rule; given: "
            f"geometry {spec.geometry!r} with the axes {axes}. Make the axes by spherical_axes(nodes), or set "
            f"nodes of lat in the layout of the files: {', '.join(get_args(LatitudeNodes))}."
        )
    lat, lon = spec.axes
    if lon.offset or lon.is_descending or lon.boundary != "periodic":
        raise ValueError(
            f"longitudes must be periodic and run eastwards from the first column; given: {lon}."
        )
    if len(sizes) != 2:
        raise ValueError(f"a spherical grid has two sizes, (lat, lon); given: {tuple(sizes)}.")
    num_lat, num_lon = sizes
    return SphericalGrid(num_lat, num_lon, spec.axes[0].nodes, north_first=lat.is_descending)
