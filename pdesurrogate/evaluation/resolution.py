"""Resolution transfer, taken apart: what a model does on another grid before any truth is consulted, and after.

A model that is a map between functions gives one answer for one function, however finely that is sampled. On a grid
``g`` other than the training grid ``t``, with ``u`` a test state without the waves that the coarser of the two
cannot carry, ``u_g`` its samples on ``g``, ``f`` one step and ``P`` the projection on the waves that both carry:

- **inconsistency** ``‖P f(u_g) - P f(u_t)‖ / ‖P f(u_t)‖``: how far the output moves with the sampling alone;
- **aliasing** ``‖P' f(u_g) - P' f(u_2g)‖ / ‖P' f(u_2g)‖``, with ``P'`` the waves that ``g`` carries: what the
  nonlinearity folds back on this grid and would not on one twice as fine. Bartolucci et al. 2023, "Representation
  Equivalent Neural Operators", NeurIPS, definition 3.4, with the refined grid in place of the continuum;
- **within** and **beyond**: the rollout's error in waves that the training grid carries and in those it never had, both
  over the norm of the truth, so that their squares add up to that of the relative L2 error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.regridding import can_resample, on_other_grid
from ..metrics.norms import field_norms, ratio_to
from .contenders import Native

Grid = tuple[int, ...]


@dataclass(frozen=True)
class Transfer:
    """What sampling alone does to the output of a model on one grid.

    Attributes:
        label: of the model.
        grid: the other grid.
        inconsistency: one number a test state.
        aliasing: one number a test state; None where the model does not take the refined grid.
        why_no_aliasing: the reason, in a sentence.
    """

    label: str
    grid: Grid
    inconsistency: Float[Tensor, " sample"]
    aliasing: Float[Tensor, " sample"] | None
    why_no_aliasing: str = ""


def carried(grid: Sequence[int], spec: DataSpec) -> Grid:
    """Return the largest grid whose every wave another carries with its phase: no Nyquist wave of even sizes."""
    return tuple(grid) if spec.geometry == "sphere" else tuple(n - 1 + n % 2 for n in grid)


def project(
    u: Float[Tensor, "*lead_and_space"], spec: DataSpec, band: Grid
) -> Float[Tensor, "*lead_and_space"]:
    """Return fields without what a grid does not carry: an orthogonal projection, on the grid of ``u``.

    Axes along which ``band`` is no coarser are left as they are.
    """
    grid = tuple(u.shape[-spec.ndim :])
    band = tuple(min(b, n) for b, n in zip(band, grid, strict=True))
    return u if band == grid else on_other_grid(on_other_grid(u, spec, band), spec, grid)


@torch.no_grad()
def transfer(
    native: Native,
    frames: Float[Tensor, "batch history channel *space"],
    parameters: Float[Tensor, "batch parameter"],
    grid: Grid,
) -> Transfer:
    """Measure what sampling alone does to a model's step, no truth consulted.

    Args:
        native: the model, which takes ``grid`` and the grid of ``frames``.
        frames: test states on the training grid, physical units.
        parameters: of the equation.
        grid: the other grid.
    """
    spec, trained = native.surrogate.spec, tuple(frames.shape[3:])
    both = carried([min(n, m) for n, m in zip(grid, trained, strict=True)], spec)
    states = on_other_grid(frames[:, -native.history :], spec, both)

    def step(on: Grid, seen: Grid) -> Tensor:
        return on_other_grid(native.surrogate.step(on_other_grid(states, spec, on), parameters), spec, seen)

    inconsistency = _relative(step(grid, both), step(trained, both))
    fine = tuple(2 * n for n in grid)
    if reason := native.refuses(fine):
        return Transfer(native.label, grid, inconsistency, None, reason)
    band = carried(grid, spec)
    return Transfer(native.label, grid, inconsistency, _relative(step(grid, band), step(fine, band)))


def error_parts(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
    trained: Grid,
) -> dict[str, Float[Tensor, "batch time field"]]:
    """Return the relative L2 error ``within`` the waves of the training grid and ``beyond`` them.

    ``truth beyond`` is the part of the truth that lies there: the error of a forecast without any of it.
    """
    band = carried(trained, spec)
    error, scale = prediction - target, field_norms(target, spec)
    inside = project(error, spec, band)
    parts = {"within": inside, "beyond": error - inside, "truth beyond": target - project(target, spec, band)}
    return {name: ratio_to(field_norms(part, spec), scale) for name, part in parts.items()}


def goes_beyond(grid: Grid, trained: Grid, spec: DataSpec) -> bool:
    """Return whether a grid carries waves that the training grid does not, and both can be told apart."""
    return can_resample(spec) and any(n > m for n, m in zip(grid, trained, strict=True))


def _relative(found: Tensor, reference: Tensor) -> Tensor:
    difference = torch.linalg.vector_norm((found - reference).flatten(1), dim=1)
    return ratio_to(difference, torch.linalg.vector_norm(reference.flatten(1), dim=1)).cpu().double()
