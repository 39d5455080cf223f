"""Positions in attention: rotary embeddings of physical coordinates, and random waves.

A rotary embedding (Su et al., "RoFormer", 2021, arXiv:2104.09864) turns the pair ``(j, j + m)`` of ``2m`` channels of a
query or key at ``x`` by the angle ``ω_j x``, so that products of queries and keys depend on differences of positions
alone. With coordinates in units of length, and not numbers of points, the angles belong to the field and not to the
grid (Li, Shu, Barati Farimani 2023, arXiv:2305.17560).

Random waves are the Fourier features of Tancik et al. (2020, arXiv:2006.10739), ``sin 2πbx`` and ``cos 2πbx`` with
normally distributed ``b``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Axis

BASE = 10000.0
"""Ratio of the highest to the lowest frequency of a rotary embedding, as in the original."""


def positions(
    axis: Axis, size: int, padded: int | None = None, device: torch.device | None = None
) -> Float[Tensor, " points"]:
    """Return coordinates of the points of an axis, float64; on a periodic axis both ends are one point, counted once.

    Args:
        axis: a uniform one.
        size: number of points on its length.
        padded: number of points that are wanted, continued beyond the end with the same spacing.
        device: of the result.
    """
    points = torch.arange(size if padded is None else padded, dtype=torch.float64, device=device)
    if axis.is_descending:
        points = size - 1 - points
    return axis.origin + (points + axis.offset) * (axis.length / size)


def rotary_frequencies(
    axis: Axis, channels: int, highest: float, *, whole_periods: bool, device: torch.device | None = None
) -> Float[Tensor, " pair"]:
    """Return the angles per length ``ω_j = ω_0 10000^(-j/m)`` of the ``m`` pairs of channels, float64.

    With ``whole_periods`` those of a periodic axis are moved to the nearest whole number of turns on its length: the
    embedding then is the same at both ends, and products depend on differences modulo the length.
    """
    pairs = torch.arange(channels // 2, dtype=torch.float64, device=device)
    frequencies = highest * BASE ** (-2 * pairs / channels)
    if whole_periods and axis.boundary == "periodic":
        unit = 2 * math.pi / axis.length
        frequencies = (frequencies / unit).round() * unit
    return frequencies


def rotate(
    features: Float[Tensor, "*batch points channel"], angles: Float[Tensor, "points pair"]
) -> Float[Tensor, "*batch points channel"]:
    """Return features whose pairs of channels ``(j, j + m)`` are turned by the angles of their points."""
    cos, sin = angles.cos().to(features.dtype), angles.sin().to(features.dtype)
    first, second = features.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def random_directions(
    axes: Sequence[Axis], num_waves: int, scale: float, *, whole_periods: bool
) -> Float[Tensor, "axis wave"]:
    """Return wave vectors, periods per length: normal with the standard deviation ``scale`` along every axis.

    With ``whole_periods`` those along periodic axes are moved to the nearest whole number of periods on the length.
    """
    directions = scale * torch.randn(len(axes), num_waves)
    if whole_periods:
        for row, axis in zip(directions, axes, strict=True):
            if axis.boundary == "periodic":
                row.mul_(axis.length).round_().div_(axis.length)
    return directions


def wave_features(
    directions: Float[Tensor, "axis wave"], coordinates: Sequence[Float[Tensor, " _points"]]
) -> Float[Tensor, "*space features"]:
    """Return ``(sin 2πbx, cos 2πbx)`` at all points of a grid, float64."""
    phases: Tensor | None = None
    for axis, (along, x) in enumerate(zip(directions.double(), coordinates, strict=True)):
        own = 2 * math.pi * x.unsqueeze(-1) * along
        own = own.view(-1, *[1] * (len(coordinates) - 1 - axis), along.shape[0])
        phases = own if phases is None else phases + own
    if phases is None:
        raise ValueError("random waves need at least one axis.")
    return torch.cat([phases.sin(), phases.cos()], dim=-1)
