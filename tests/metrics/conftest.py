from __future__ import annotations

import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field


@pytest.fixture
def vorticity_and_velocity() -> DataSpec:
    """A scalar and a vector on a box that is twice as long as wide."""
    return DataSpec(
        fields=(
            Field("vorticity", kind="pseudoscalar"),
            Field("velocity", kind="vector", components=("x", "y")),
        ),
        axes=(Axis("y", 1.0), Axis("x", 2.0)),
        dt=0.1,
    )


@pytest.fixture
def square() -> DataSpec:
    return DataSpec(
        fields=(Field("vorticity", kind="pseudoscalar"),),
        axes=(Axis("y", 2 * math.pi), Axis("x", 2 * math.pi)),
        dt=1.0,
    )


@pytest.fixture
def wave():
    """cos(ky·y + kx·x + phase) on an (ny, nx) grid of the unit index box, float64."""

    def make(grid: tuple[int, int], ky: int, kx: int, phase: float = 0.3) -> torch.Tensor:
        y = torch.arange(grid[0], dtype=torch.float64) * (2 * math.pi / grid[0])
        x = torch.arange(grid[1], dtype=torch.float64) * (2 * math.pi / grid[1])
        return torch.cos(ky * y[:, None] + kx * x[None, :] + phase)

    return make
