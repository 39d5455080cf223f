"""Checks of FactFormer's options."""

from __future__ import annotations

from ..fields import DataSpec
from .factformer_ends import GROUPS


def count_latent_steps(horizon: int, steps: int | None) -> int:
    """Return the number of states of latent marching, 0 for a one-shot window.

    Raises:
        ValueError: if marching cannot reach the horizon, with the numbers of states that can.
    """
    steps = horizon if steps is None else steps
    if steps < 0 or (steps and horizon % steps):
        below = [n for n in range(1, horizon + 1) if horizon % n == 0]
        raise ValueError(
            f"factformer: latent marching of {steps} states cannot reach a horizon of {horizon} frames, which has to "
            f"be a multiple of the states. Give latent_steps one of {below}, null for one state a frame or 0 for all "
            f"frames at once; or a horizon of {max(steps, 1)} frames, and let rollouts feed them back."
        )
    return steps


def check_head(width: int, head_dim: int, kernel_multiplier: int) -> None:
    """Refuse sizes of heads that do not fit the width, or cannot be turned in pairs.

    Raises:
        ValueError: naming what fits.
    """
    if width % GROUPS:
        raise ValueError(
            f"factformer: width is {width}; it must be a multiple of {GROUPS}, the groups of the decoder."
        )
    if width % head_dim:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        raise ValueError(
            f"factformer: head_dim is {head_dim} and does not divide the width {width}. Give one of {divisors}."
        )
    if head_dim * kernel_multiplier % 2:
        raise ValueError(
            f"factformer: queries and keys have head_dim x kernel_multiplier = {head_dim * kernel_multiplier} "
            "channels; rotary embeddings turn pairs of them. Make one of both even."
        )


def check_padding(padding: float, spec: DataSpec) -> None:
    """Refuse padding that is no fraction, or has no axis to act on.

    Raises:
        ValueError: saying which.
    """
    if not 0 <= padding <= 1:
        raise ValueError(f"factformer: padding is {padding}; it is a fraction of the axis, between 0 and 1.")
    if padding and spec.is_periodic:
        raise ValueError(
            f"factformer: padding is {padding} but every axis is periodic ({', '.join(spec.axis_names)}) and needs "
            "none. Set padding to 0."
        )


def check_latent(latent: int, multiplier: float) -> None:
    """Refuse a latent state whose channels do not fall into the decoder's groups.

    Raises:
        ValueError: naming both.
    """
    groups = int(GROUPS * multiplier)
    if groups < 1 or latent % groups or latent % GROUPS:
        raise ValueError(
            f"factformer: latent_multiplier is {multiplier} and gives {latent} channels of the latent state, which "
            f"have to be a multiple of {GROUPS} and of {max(groups, 1)} groups. Give a whole number, or 1.5 with a "
            "width that is a multiple of 16."
        )
