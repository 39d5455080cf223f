"""The ground under a shallow fluid on a sphere: an isolated mountain, or heights from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.registry import check_options


def build_orography(
    given: Mapping[str, Any] | str | None, grid: SphericalGrid, truncation: int
) -> tuple[Float64[Tensor, "lat lon"], str] | None:
    """Return heights in m on a grid, cut to a truncation, and what they are as text; None for flat ground.

    Args:
        given: None; ``"mountain"`` or ``{kind: mountain, ...}`` with the options of `isolated_mountain`; or ``{path:
            file.nc}``, see `read_orography`.
        grid: the points.
        truncation: T.

    Raises:
        ValueError: for another description, an unknown option, or a file that is not as described.
    """
    if given is None:
        return None
    options = {"kind": given} if isinstance(given, str) else dict(given)
    if set(options) == {"path"}:
        heights, text = read_orography(Path(options["path"]), grid)
    elif options.pop("kind", None) == "mountain":
        check_options("orography mountain", isolated_mountain, options, num_positional=1)
        heights = isolated_mountain(grid, **options)
        text = f"mountain {options}" if options else "mountain"
    else:
        raise ValueError(
            f"orography is {given!r}; give null for flat ground, mountain (with options: kind: mountain, height: 2000, "
            "..) or path: file.nc."
        )
    transform = SphericalTransform(grid, truncation, dtype=torch.float64)
    return transform.synthesise(transform.analyse(torch.from_numpy(heights))), text


def isolated_mountain(
    grid: SphericalGrid,
    height: float = 2000.0,
    latitude: float = 30.0,
    longitude: float = 270.0,
    radius: float = 20.0,
) -> Float64[np.ndarray, "lat lon"]:
    """Return a cone, ``height (1 - r / R)`` with ``r² = min(R², (λ - λc)² + (φ - φc)²)``.

    Source: Williamson et al. (1992), J. Comput. Phys. 102, 211, test case 5.

    Args:
        grid: the points.
        height: of the summit, m.
        latitude: of the summit, degrees.
        longitude: of the summit, degrees.
        radius: R, degrees.

    Raises:
        ValueError: for a radius that is not positive.
    """
    if radius <= 0:
        raise ValueError(f"radius of the mountain is {radius} degrees; it must be positive.")
    phi, lam = np.rad2deg(grid.latitudes)[:, None], np.rad2deg(grid.longitudes)
    distance = np.hypot(np.remainder(lam - longitude + 180.0, 360.0) - 180.0, phi - latitude)
    return height * (1 - np.minimum(distance, radius) / radius)


def read_orography(path: Path, grid: SphericalGrid) -> tuple[Float64[np.ndarray, "lat lon"], str]:
    """Return the variable ``orography`` of a netCDF file, bilinearly interpolated, and its path with a digest.

    The variable has the dimensions ``(lat, lon)``, in either order, with coordinates in degrees and values in m; its
    longitudes go once around the sphere, and its outermost latitudes are continued to the poles.

    Raises:
        ValueError: if there is no such file, or it is another one.
    """
    import xarray

    if not path.is_file():
        raise ValueError(
            f"there is no orography {path}. Give a netCDF file with the variable orography (lat, lon)."
        )
    with xarray.open_dataset(path) as dataset:
        if "orography" not in dataset or set(dataset["orography"].dims) != {"lat", "lon"}:
            raise ValueError(
                f"{path} holds {', '.join(map(str, dataset.variables)) or 'nothing'}; needed is the variable orography "
                "(lat, lon) with coordinates in degrees."
            )
        ground = dataset["orography"].transpose("lat", "lon").sortby(["lat", "lon"]).load().astype(np.float64)
    lat, lon = ground["lat"].values, ground["lon"].values
    values = ground.values
    if not np.isfinite(values).all() or lon[-1] - lon[0] >= 360 or min(values.shape) < 2:
        raise ValueError(
            f"{path}: heights must be finite at two latitudes and longitudes at least, and the longitudes go once "
            f"around, without the end of the circle; they run from {lon[0]:g} to {lon[-1]:g}."
        )
    around = np.concatenate([values[:, -1:], values, values[:, :1]], axis=1)
    lon = np.concatenate([lon[-1:] - 360, lon, lon[:1] + 360])
    wanted = np.remainder(np.rad2deg(grid.longitudes) - lon[0], 360.0) + lon[0]
    rows = np.stack([np.interp(wanted, lon, row) for row in around])
    phi = np.rad2deg(grid.latitudes)
    heights = np.stack([np.interp(phi, lat, column) for column in rows.T], axis=1)
    digest = hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16]
    return heights, f"{path.name} ({digest})"
