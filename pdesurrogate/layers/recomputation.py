"""Parts of a model whose insides are computed again in the backward pass instead of being kept (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .tracing import needs_plain_operations


def recomputed(part: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Return ``part(*inputs)``; the backward pass keeps the inputs alone and calls it once more.

    Where nothing is kept anyway, and in programs that are being traced, it is an ordinary call. Chen, Xu, Zhang and
    Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174.

    Args:
        part: draws no random numbers.
        inputs: tensors, and whatever else it takes.
    """
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if not torch.is_grad_enabled() or needs_plain_operations(*tensors):
        return part(*inputs)
    result: Tensor = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result
