from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor


@pytest.fixture
def mode() -> Callable[..., Tensor]:
    """A single real mode ``a cos(2π k·x/L + φ)`` on any grid, float64."""

    def build(grid: Sequence[int], k: Sequence[int], amplitude: float = 1.0, phase: float = 0.0) -> Tensor:
        angle = torch.full((), phase, dtype=torch.float64)
        for dim, (n, number) in enumerate(zip(grid, k, strict=True)):
            # Exact phases: the product k·j is reduced modulo n before it becomes an angle.
            turns = (torch.arange(n) * number % n).to(torch.float64) / n
            angle = angle + (2 * math.pi * turns).view(-1, *[1] * (len(grid) - dim - 1))
        return amplitude * torch.cos(angle).expand(tuple(grid))

    return build


@pytest.fixture
def band_limited() -> Callable[..., Tensor]:
    """A random real field with all modes ``|k_i| <= cutoff`` on any grid; the same function on each."""

    def build(grid: Sequence[int], cutoff: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        ndim = len(grid)
        sides = (2 * cutoff + 1,) * ndim
        coefficients = torch.randn(*sides, dtype=torch.complex128, generator=generator)
        numbers = torch.arange(-cutoff, cutoff + 1, dtype=torch.float64)
        field = coefficients
        for n in grid:  # contracts the first axis and appends the new one: axes come out in order
            points = torch.arange(n, dtype=torch.float64) / n
            wave = torch.exp(2j * math.pi * torch.outer(numbers, points))
            field = torch.tensordot(field, wave, dims=([0], [0]))
        return field.real.contiguous()

    return build
