"""Complex arithmetic on real tensors with a trailing pair (real, imaginary).

Programs that run take complex products; traced ones hold products of real matrices alone, which compilers and ONNX
ask for. ``[z]`` stands for the pairs of ``z``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .tracing import needs_plain_operations


def pair_multiply(a: Float[Tensor, "*shape 2"], b: Float[Tensor, "*shape_too 2"]) -> Float[Tensor, "*both 2"]:
    """Return ``[a b]`` entry by entry; shapes broadcast."""
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
    if not after:
        product = torch.mm(numbers.flatten(0, dim - 1), factor.t())
    else:
        stack = numbers.reshape(-1, factor.shape[1], after.numel())
        product = torch.bmm(factor.expand(len(stack), -1, -1), stack)
    return torch.view_as_real(product.reshape(*before, factor.shape[0], *after))
