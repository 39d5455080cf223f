"""Folding of frames and PDE parameters into channels, and back: how time enters a spatial operator."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def fold_inputs(
    history: Float[Tensor, "batch history channel *space"], parameters: Float[Tensor, "batch parameter"]
) -> Float[Tensor, "batch folded *space"]:
    """Return the history's frames as channels, oldest first, and each PDE parameter as a constant channel.

    The result has ``history · channel + parameter`` channels on the same grid.

    Raises:
        TypeError: if the frames are not real and floating.
    """
    if not history.is_floating_point():
        raise TypeError(
            f"A model acts on real fields; the history is {history.dtype}. Give the real and the imaginary part as "
            "two channels, and convert whole numbers to float32."
        )
    space = history.shape[3:]
    folded = history.flatten(1, 2)
    if parameters.shape[1] == 0:
        return folded
    constant = parameters.to(history.dtype).view(*parameters.shape, *[1] * len(space))
    return torch.cat([folded, constant.expand(-1, -1, *space)], dim=1)


def unfold_frames(
    folded: Float[Tensor, "batch folded *space"], horizon: int
) -> Float[Tensor, "batch horizon channel *space"]:
    """Return ``horizon`` frames from ``horizon · channel`` channels, the inverse of folding frames."""
    return folded.unflatten(1, (horizon, -1))
