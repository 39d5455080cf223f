"""Complex arithmetic on real tensors with a trailing pair (real, imaginary).

Programs that run take complex products; traced ones hold products of real matrices alone, which compilers and ONNX
ask for. ``[z]`` stands for the pairs of ``z``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .pointwise_mlp import differentiable_backward
from .tracing import needs_plain_operations


def pair_multiply(a: Float[Tensor, "*shape 2"], b: Float[Tensor, "*shape_too 2"]) -> Float[Tensor, "*both 2"]:
    """Return ``[a b]`` entry by entry; shapes broadcast."""
    if not needs_plain_operations(a, b):
        return torch.view_as_real(
            torch.view_as_complex(a.contiguous()) * torch.view_as_complex(b.contiguous())
        )
    a_real, a_imaginary = a.unbind(-1)
    b_real, b_imaginary = b.unbind(-1)
    real = a_real * b_real - a_imaginary * b_imaginary
    return torch.stack([real, a_real * b_imaginary + a_imaginary * b_real], dim=-1)


def pair_contract(
    matrix: Float[Tensor, "size rank 2"], tensor: Float[Tensor, "*shape 2"], dim: int
) -> Float[Tensor, "*new_shape 2"]:
    """Return ``[Σ_r M_nr T_..r..]``: the mode product ``T ×_dim M``, whose axis ``dim`` then has ``size`` entries."""
    before, after = tensor.shape[:dim], tensor.shape[dim + 1 : -1]
    if needs_plain_operations(matrix, tensor):
        # [M_re, M_im] times [T; i T].
        real, imaginary = tensor.unbind(-1)
        both = torch.cat([tensor, torch.stack([-imaginary, real], dim=-1)], dim=dim)
        product = torch.matmul(torch.cat(matrix.unbind(-1), dim=1), both.flatten(dim + 1))
        return product.unflatten(-1, (*after, 2))
    numbers, factor = (torch.view_as_complex(t.contiguous()) for t in (tensor, matrix))
    stack = numbers.reshape(before.numel(), factor.shape[1], after.numel())
    return torch.view_as_real(_Contract.apply(factor, stack).view(*before, factor.shape[0], *after))


class _Contract(torch.autograd.Function):
    """``M T_b`` for a matrix and a stack of others; of what is large, nothing is conjugated or copied."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, stack: Tensor) -> Tensor:
        ctx.save_for_backward(matrix, stack)
        return _product(matrix, stack)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        matrix, stack = ctx.saved_tensors
        grad_matrix = grad_stack = None
        if ctx.needs_input_grad[0]:
            grad_matrix = _gradient_of_matrix(gradient, stack)
        if ctx.needs_input_grad[1]:
            grad_stack = _product(matrix.conj_physical().t(), gradient)
        return grad_matrix, grad_stack


def _product(matrix: Tensor, stack: Tensor) -> Tensor:
    if stack.shape[2] == 1:
        return (stack[..., 0] @ matrix.t()).unsqueeze(2)
    if len(stack) == 1:
        return (matrix @ stack[0])[None]
    return torch.bmm(matrix.expand(len(stack), -1, -1), stack)


def _gradient_of_matrix(gradient: Tensor, stack: Tensor) -> Tensor:
    """Return ``Σ_b ∂_b T_bᴴ``."""
    if stack.shape[2] == 1:
        return gradient[..., 0].t() @ stack[..., 0].conj()
    if len(stack) == 1:
        return gradient[0] @ stack[0].mH
    each = torch.view_as_real(torch.bmm(gradient, stack.mH))
    return torch.view_as_complex(each.sum(0))


def pair_expand(
    tensor: Float[Tensor, "*channels_and_ranks 2"], factors: Sequence[Float[Tensor, "_size _rank 2"]]
) -> Float[Tensor, "*sizes_and_channels 2"]:
    """Return ``T ×_1 M_1 .. ×_d M_d`` over the last axes of a tensor, as ``(n_d, n_1, .., n_{d-1}, *channels)``."""
    if needs_plain_operations(tensor, *factors):
        return _plainly_expanded(tensor, *factors)
    return _Expand.apply(tensor, *factors)


def _plainly_expanded(tensor: Tensor, *factors: Tensor) -> Tensor:
    t = _ranks_first(tensor, len(factors))
    for dim, factor in enumerate([factors[-1], *factors[:-1]]):
        t = pair_contract(factor, t, dim)
    return t


def _ranks_first(tensor: Tensor, ndim: int) -> Tensor:
    """Return ``(r_d, r_1, .., r_{d-1}, *channels, 2)`` from ``(*channels, r_1, .., r_d, 2)``."""
    order, channels = tensor.ndim - 1, tensor.ndim - 1 - ndim
    return tensor.permute(order - 1, *range(channels, order - 1), *range(channels), order)


class _Expand(torch.autograd.Function):
    """One node for all axes: most of the time of so small products is spent between them."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, *factors: Tensor) -> Tensor:
        matrices = [torch.view_as_complex(t.contiguous()) for t in (factors[-1], *factors[:-1])]
        core = torch.view_as_complex(_ranks_first(tensor, len(factors)).contiguous())
        t, stacks, done = core, [], 1
        for matrix in matrices:
            stacks.append(t.reshape(done, matrix.shape[1], -1))
            t = _product(matrix, stacks[-1])
            done *= len(matrix)
        ctx.save_for_backward(tensor, *factors, *stacks)
        return torch.view_as_real(t.view(*(len(m) for m in matrices), *core.shape[len(factors) :]))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tensor, *rest = ctx.saved_tensors
        factors, stacks = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        if torch.is_grad_enabled():
            return differentiable_backward(
                _plainly_expanded, (tensor, *factors), gradient, ctx.needs_input_grad
            )
        matrices = [torch.view_as_complex(t.contiguous()) for t in (factors[-1], *factors[:-1])]
        g, found = torch.view_as_complex(gradient.contiguous()), []
        for matrix, stack in zip(matrices[::-1], stacks[::-1], strict=True):
            g = g.reshape(len(stack), len(matrix), -1)
            found.append(torch.view_as_real(_gradient_of_matrix(g, stack)))
            g = _product(matrix.conj_physical().t(), g)
        last, *others = found[::-1]
        ndim, order = len(factors), tensor.ndim - 1
        grad = torch.view_as_real(g).view_as(_ranks_first(tensor, ndim))
        back = [*range(ndim, order), *range(1, ndim), 0, order]
        return grad.permute(back).contiguous(), *others, last
