"""Complex arithmetic on real tensors with a trailing pair (real, imaginary), by products of real matrices.

What is written with these functions trains, compiles and exports (to ONNX as well) as it stands, because no complex
number appears in it. ``[z]`` stands for the pairs of ``z``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
    num_axes = tensor.ndim - 1
    if dim == num_axes - 1:
        # On the last axis one product serves all others: [T] (.., 2r) times [[M_re, M_im], [-M_im, M_re]]ᵀ.
        real, imaginary = matrix.transpose(0, 1).unbind(-1)
        block = torch.stack([torch.stack([real, imaginary], -1), torch.stack([-imaginary, real], -1)], 1)
        return torch.matmul(tensor.flatten(-2), block.flatten(2).flatten(0, 1)).unflatten(-1, (-1, 2))
    # Elsewhere the pairs stay with what follows: [M_re, M_im] times [T; i T].
    real, imaginary = tensor.unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1)
    both = torch.cat([tensor, turned], dim=dim)
    after = both.shape[dim + 1 : -1]
    product = torch.matmul(torch.cat(matrix.unbind(-1), dim=1), both.flatten(dim + 1))
    return product.unflatten(-1, (*after, 2))
