"""The pointwise half of a Fourier layer and the two-layer MLP, through the compiled library.

With the spectral part ``F⁻¹[R F[v]]`` of a layer given as ``spectral``, per point

    s = spectral + W v + b,    y = M₂ σ(M₁ a + b₁) + b₂ + g ⊙ v,

where σ is the exact GELU and ``a = σ(s)``, or ``s`` itself in the last layer. The backward pass starts from
the previous layer's pre-activation ``u``, ``v = σ(u)`` (``u`` itself in the first layer), needs ``u`` and
``s``, and computes the rest again tile by tile. Weights are held as `torch.nn.Linear` holds them, ``(out,
in)``. Rows are points, ``(.., channel)`` in memory order.

Everything here takes contiguous float32 tensors on the CPU and records no gradients: it is what autograd
nodes are made of. Ask `native_applies` before.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import call, check_arrays


class BlockWeights(NamedTuple):
    """Weights of a layer's pointwise half: ``W``, ``b``, ``M₁``, ``b₁``, ``M₂``, ``b₂`` and ``g``."""

    skip: Float[Tensor, "width width"]
    skip_bias: Float[Tensor, " width"]
    hidden: Float[Tensor, "hidden width"]
    hidden_bias: Float[Tensor, " hidden"]
    back: Float[Tensor, "width hidden"]
    back_bias: Float[Tensor, " width"]
    gate: Float[Tensor, " width"]


class BlockGradients(NamedTuple):
    """Gradients of `block_forward`: of ``s`` (and of ``spectral``), of ``v`` and of the weights.

    The gradient of ``v`` is not yet that of ``u``, because the transform's share has to be added before it
    goes through σ.
    """

    s: Float[Tensor, "*points width"]
    v: Float[Tensor, "*points width"]
    weights: BlockWeights


def block_forward(
    spectral: Float[Tensor, "*points width"],
    v: Float[Tensor, "*points width"],
    weights: BlockWeights,
    *,
    last: bool = False,
    s: Float[Tensor, "*points width"] | None = None,
    y: Float[Tensor, "*points width"] | None = None,
) -> Float[Tensor, "*points width"]:
    """Return ``y``.

    Args:
        spectral: the spectral part of the layer.
        v: what the layer acts on.
        weights: of the layer.
        last: whether the channel MLP acts on ``s`` itself.
        s: memory for ``s``, which `block_backward` needs; may be that of ``spectral``.
        y: memory for the result; may be that of ``spectral``, unless ``s`` is, or of ``v``.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: if a tensor is not contiguous float32 on the CPU or has another shape.
    """
    width, hidden = _check_block(weights, v, spectral=spectral, s=s, y=y)
    y = torch.empty_like(v) if y is None else y
    arrays = (v, spectral, *weights, s, y)
    call("block_forward", v.numel() // width, width, hidden, not last, arrays=arrays)
    return y


def block_backward(
    grad: Float[Tensor, "*points width"],
    u: Float[Tensor, "*points width"],
    s: Float[Tensor, "*points width"],
    weights: BlockWeights,
    *,
    first: bool = False,
    last: bool = False,
    into: BlockGradients | None = None,
) -> BlockGradients:
    """Return the gradients of `block_forward` for the gradient ``grad`` of ``y``.

    Args:
        grad: gradient of ``y``.
        u: pre-activation of ``v``.
        s: what `block_forward` wrote there.
        weights: of the layer.
        first: whether ``v`` is ``u`` itself.
        last: as in `block_forward`.
        into: memory for the gradients. Those of the fields are overwritten and may be the memory of ``grad``
            or ``s``; those of the weights are added to, for a batch that is walked in groups.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: as `block_forward`.
    """
    fields = {} if into is None else {"gradient of s": into.s, "gradient of v": into.v}
    width, hidden = _check_block(weights, u, grad=grad, s=s, **fields)
    if into is None:
        zeros = BlockWeights._make(torch.zeros_like(w) for w in weights)
        into = BlockGradients(torch.empty_like(u), torch.empty_like(u), zeros)
    else:
        _check_block(into.weights, u)
    # Biases of what is not inside a GELU take no part in any derivative.
    needed = (weights.skip, weights.hidden, weights.hidden_bias, weights.back, weights.gate)
    arrays = (grad, u, s, *needed, into.s, into.v, *into.weights)
    call("block_backward", u.numel() // width, width, hidden, not first, not last, arrays=arrays)
    return into


def mlp_forward(
    x: Float[Tensor, "*points in_channel"],
    hidden: Float[Tensor, "hidden in_channel"],
    hidden_bias: Float[Tensor, " hidden"],
    out: Float[Tensor, "out_channel hidden"],
    out_bias: Float[Tensor, " out_channel"],
) -> Float[Tensor, "*points out_channel"]:
    """Return ``D σ(A x + a) + d`` for every point.

    Raises:
        RuntimeError: if there is no library here.
        ValueError: if a tensor is not contiguous float32 on the CPU or has another shape.
    """
    sizes = _check_mlp(x, hidden, hidden_bias, out, out_bias)
    y = x.new_empty(*x.shape[:-1], out.shape[0])
    call("mlp_forward", x.numel() // x.shape[-1], *sizes, arrays=(x, hidden, hidden_bias, out, out_bias, y))
    return y


def mlp_backward(
    grad: Float[Tensor, "*points out_channel"],
    x: Float[Tensor, "*points in_channel"],
    hidden: Float[Tensor, "hidden in_channel"],
    hidden_bias: Float[Tensor, " hidden"],
    out: Float[Tensor, "out_channel hidden"],
    *,
    needs_x: bool = True,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``x`` (None unless ``needs_x``), ``hidden``, its bias, ``out`` and its bias.

    Raises:
        RuntimeError, ValueError: as `mlp_forward`.
    """
    sizes = _check_mlp(x, hidden, hidden_bias, out, out.new_empty(out.shape[0]))
    check_arrays({"grad": (grad, (*x.shape[:-1], out.shape[0]))})
    grad_x = torch.empty_like(x) if needs_x else None
    grads = [torch.zeros_like(w) for w in (hidden, hidden_bias, out)] + [out.new_zeros(out.shape[0])]
    arrays = (grad, x, hidden, hidden_bias, out, grad_x, *grads)
    call("mlp_backward", x.numel() // x.shape[-1], *sizes, arrays=arrays)
    return grad_x, grads[0], grads[1], grads[2], grads[3]


def _check_block(weights: BlockWeights, v: Tensor, **fields: Tensor | None) -> tuple[int, int]:
    width, hidden = v.shape[-1], weights.hidden.shape[0]
    shapes: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "v": (v, tuple(v.shape)),
        "skip": (weights.skip, (width, width)),
        "skip_bias": (weights.skip_bias, (width,)),
        "hidden": (weights.hidden, (hidden, width)),
        "hidden_bias": (weights.hidden_bias, (hidden,)),
        "back": (weights.back, (width, hidden)),
        "back_bias": (weights.back_bias, (width,)),
        "gate": (weights.gate, (width,)),
    }
    shapes |= {name: (field, tuple(v.shape)) for name, field in fields.items() if field is not None}
    check_arrays(shapes)
    return width, hidden


def _check_mlp(x: Tensor, hidden: Tensor, hidden_bias: Tensor, out: Tensor, bias: Tensor) -> tuple[int, ...]:
    sizes = (x.shape[-1], hidden.shape[0], out.shape[0])
    check_arrays(
        {
            "x": (x, tuple(x.shape)),
            "hidden": (hidden, (sizes[1], sizes[0])),
            "hidden_bias": (hidden_bias, (sizes[1],)),
            "out": (out, (sizes[2], sizes[1])),
            "out_bias": (bias, (sizes[2],)),
        }
    )
    return sizes
