"""Weights that follow from parameters, computed once for every change of these.

A group convolution repeats its parameters, rotated, over the whole of its matrix. That costs nothing in evaluation if
the matrix is kept, provided that it is never older than the parameters: it is kept with the version that torch counts
for every tensor and raises with every change in place, by an optimiser or a loaded state. Fused optimisers change
weights without raising it (torch 2.13), so a hook that torch calls after the step of any optimiser does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from .tracing import needs_plain_operations


def _raise_versions(optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimiser.param_groups:
        if group.get("fused"):
            torch.autograd.graph.increment_version(group["params"])


register_optimizer_step_post_hook(_raise_versions)


class DerivedWeight:
    """``f(parameters)``, kept until a parameter changes.

    With gradients, the result is kept with its graph, which several forward and backward passes may then share: ``f``
    must be made of operations that save no tensor for their backward pass, views and `gather_blocks` among them. A copy
    of the object starts with nothing kept.

    Args:
        derive: ``f``.
    """

    def __init__(self, derive: Callable[..., Tensor]) -> None:
        self.derive = derive
        self.num_built = 0
        self._key: tuple[Any, ...] = ()
        self._value: Tensor | None = None

    def __call__(self, *parameters: Tensor) -> Tensor:
        """Return the weight of the parameters' present values."""
        if needs_plain_operations(*parameters) or _is_captured(parameters):
            return self.derive(*parameters)
        key = _key(parameters)
        if self._value is None or key != self._key:
            self._key, self._value = key, self.derive(*parameters)
            self.num_built += 1
        return self._value

    def __deepcopy__(self, memo: dict[int, Any]) -> DerivedWeight:
        return DerivedWeight(copy.deepcopy(self.derive, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return DerivedWeight, (self.derive,)


def gather_blocks(rows: Tensor, index: Tensor, signs: Tensor | None = None) -> Tensor:
    """Return ``rows[index]``, saving nothing for the backward pass, which adds the rows up again.

    Args:
        rows: ``(row, ..)``.
        index: of rows, of any shape.
        signs: of the shape of ``index``; -1 where a row, of pairs (real, imaginary) on its last axis, is conjugated.
    """
    if needs_plain_operations(rows):
        return _conjugated(rows[index], signs)
    gathered: Tensor = _Gather.apply(rows, index, signs)
    return gathered


def _is_captured(parameters: tuple[Tensor, ...]) -> bool:
    """Whether operations are being recorded as a graph, which must contain this one: its replays change parameters."""
    on_gpu = any(p.device.type == "cuda" for p in parameters)
    return on_gpu and torch.cuda.is_current_stream_capturing()


def _key(parameters: tuple[Tensor, ...]) -> tuple[Any, ...]:
    # An inference tensor has no version; it cannot change outside of inference mode either, where it is made anew.
    facts = [
        (id(p), p.data_ptr(), p.dtype, p.device, None if p.is_inference() else p._version, p.requires_grad)
        for p in parameters
    ]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *facts


def _conjugated(blocks: Tensor, signs: Tensor | None) -> Tensor:
    if signs is None:
        return blocks
    signs = signs.to(blocks.dtype).view(*signs.shape, *[1] * (blocks.ndim - signs.ndim - 1))
    return torch.stack([blocks[..., 0], blocks[..., 1] * signs], dim=-1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, signs: Tensor | None) -> Tensor:
        ctx.index, ctx.signs, ctx.num_rows = index, signs, rows.shape[0]  # not saved: see `DerivedWeight`
        return _conjugated(rows[index], signs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Scatter.apply(gradient, ctx.index, ctx.signs, ctx.num_rows), None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: Tensor, index: Tensor, signs: Tensor | None, num_rows: int) -> Tensor:
        ctx.index, ctx.signs = index, signs
        flat = _conjugated(blocks, signs).reshape(index.numel(), *blocks.shape[index.ndim :])
        return flat.new_zeros(num_rows, *flat.shape[1:]).index_add_(0, index.flatten(), flat)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Gather.apply(gradient, ctx.index, ctx.signs), None, None, None
