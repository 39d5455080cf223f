"""The error of a model that works by regions, by its halo, where the way that information travels is known.

The problem is advection with diffusion on the unit square as a ring, ``u_t + c·∇u = ν Δu``, over the time in
which ``c`` carries a wave 1/16 of the box along x and 1/32 along y. A region then needs what lies 1/16
upstream of it, and a few diffusion lengths √(2νT) = 1/64 around that. Solutions are sums of waves, hence exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.models import MODELS

SPEC = DataSpec((Field("tracer"),), (Axis("y", 1.0), Axis("x", 1.0)), 1.0, equation="u_t + c·∇u = ν Δu")
TRAVEL = (1 / 32, 1 / 16)
DIFFUSION_LENGTH = 1 / 64
HIGHEST_WAVE, NUM_WAVES = 5, 24


def advected(num: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return random states and what becomes of them, each ``(num, 1, 1, size, size)``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num, NUM_WAVES)
    waves = torch.randint(-HIGHEST_WAVE, HIGHEST_WAVE + 1, (*shape, 2), generator=generator).float()
    amplitude = torch.randn(shape, generator=generator) / (1 + waves.norm(dim=-1))
    phase = 2 * math.pi * torch.rand(shape, generator=generator)
    x = torch.arange(size) / size
    angle_y = 2 * math.pi * waves[..., 0, None] * x + phase[..., None]
    angle_x = 2 * math.pi * waves[..., 1, None] * x
    turn = 2 * math.pi * (waves @ torch.tensor(TRAVEL))
    decay = torch.exp(-0.5 * (2 * math.pi * DIFFUSION_LENGTH * waves.norm(dim=-1)) ** 2)
    before = _superposed(amplitude, angle_y, angle_x)
    after = _superposed(amplitude * decay, angle_y - turn[..., None], angle_x)
    return before[:, None, None], after[:, None, None]


def trained_error(
    model_options: Mapping[str, Any], *, size: int, steps: int, batch: int, seed: int
) -> list[float]:
    """Train a model and return its relative L2 error on each of 64 new samples."""
    torch.manual_seed(seed)
    options = dict(model_options)
    model = MODELS.build(options.pop("kind"), SPEC, 1, 1, **options)
    states, futures = advected(256, size, seed=1000 + seed)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(states), (batch,), generator=order)
        optimiser.zero_grad(set_to_none=True)
        _errors(model, states[chosen], futures[chosen]).mean().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found: list[float] = _errors(model, *advected(64, size, seed=1)).tolist()
        return found


def means_over_seeds(errors: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return the mean error over samples, its mean over seeds, and the seeds' smallest and largest."""
    means = [sum(e) / len(e) for e in errors]
    rounded = {"mean": sum(means) / len(means), "least": min(means), "largest": max(means)}
    return {key: float(f"{value:.3g}") for key, value in rounded.items()}


def _superposed(amplitude: Tensor, angle_y: Tensor, angle_x: Tensor) -> Tensor:
    cosines = torch.einsum("bw,bwy,bwx->byx", amplitude, angle_y.cos(), angle_x.cos())
    return cosines - torch.einsum("bw,bwy,bwx->byx", amplitude, angle_y.sin(), angle_x.sin())


def _errors(model: nn.Module, states: Tensor, futures: Tensor) -> Tensor:
    difference = model(states, states.new_zeros(len(states), 0)) - futures
    return difference.flatten(1).norm(dim=1) / futures.flatten(1).norm(dim=1)
