"""When hand-written backward passes must step aside for ordinary operations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def needs_plain_operations(*tensors: Tensor | None) -> bool:
    """Whether a program is being traced, or a transform of ``torch.func`` or forward-mode derivatives act.

    All of these look inside an operation, where a hand-written backward pass has nothing to show them.
    """
    if torch.compiler.is_compiling():
        return True
    if torch._C._are_functorch_transforms_active():
        return True
    # Without an open level there are no tangents, and unpacking would be refused.
    if forward_ad._current_level < 0:
        return False
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)
