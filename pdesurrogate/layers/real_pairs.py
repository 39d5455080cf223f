"""Complex arithmetic on real tensors with a trailing pair (real, imaginary).

Programs that run take complex products; traced ones hold products of real matrices alone, which compilers and ONNX
ask for. ``[z]`` stands for the pairs of ``z``.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

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
            if len(stack) == 1:
                grad_matrix = gradient[0] @ stack[0].mH
            elif stack.shape[2] == 1:
                grad_matrix = gradient[..., 0].t() @ stack[..., 0].conj()
            else:
                grad_matrix = torch.bmm(gradient, stack.mH).sum(0)
        if ctx.needs_input_grad[1]:
            grad_stack = _product(matrix.mH, gradient)
        return grad_matrix, grad_stack


def _product(matrix: Tensor, stack: Tensor) -> Tensor:
    if len(stack) == 1:
        return (matrix @ stack[0])[None]
    if stack.shape[2] == 1:
        return (stack[..., 0] @ matrix.t()).unsqueeze(2)
    return torch.bmm(matrix.expand(len(stack), -1, -1), stack)
