"""Multilayer perceptron at every point of a field: ``y = W₂ σ(W₁ u + b₁) + b₂``, σ the exact GELU.

Its backward pass keeps the input alone and works through the points in pieces that stay in cache; the
hidden layer, usually the widest field of a model, never exists at full size.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from . import native
from .native import native_applies
from .precision import check_precision, products_in, working_dtype
from .tracing import needs_plain_operations

CACHE_BYTES = 4 * 2**20
"""Size of one activation in a piece of the work on a CPU: its share of the last-level cache, measured best."""


def piece_rows(device: torch.device, row_bytes: int, num_rows: int) -> int:
    """Return how many points are worked on at a time: those that fit the cache on a CPU, all of them elsewhere."""
    if device.type != "cpu":
        return max(num_rows, 1)
    return max(1, CACHE_BYTES // row_bytes)


class PointwiseLinear(nn.Linear):
    """A linear map of the channels, the last axis, in the wider dtype of field and weights, whatever autocast says."""

    def forward(self, u: Float[Tensor, "*points in_channel"]) -> Float[Tensor, "*points out_channel"]:
        """Return ``W u + b`` at every point."""
        return pointwise_linear(u, self.weight, self.bias)


def pointwise_linear(
    u: Float[Tensor, "*points in_channel"],
    weight: Float[Tensor, "out_channel in_channel"],
    base: Float[Tensor, " out_channel"] | Float[Tensor, "*points out_channel"],
    *,
    precision: str = "full",
) -> Float[Tensor, "*points out_channel"]:
    """Return ``W u + b`` at every point, by weights that may be functions of parameters; see `PointwiseLinear`.

    Args:
        u: fields, channels last.
        weight: ``W``.
        base: ``b``, or a field to which the product is added.
        precision: see `pdesurrogate.layers.precision`.
    """
    dtype = working_dtype(torch.promote_types(u.dtype, weight.dtype), precision)
    u, weight, base = u.to(dtype), weight.to(dtype), base.to(dtype)
    with products_in(precision, u.device):
        if base.ndim == 1:
            return F.linear(u, weight, base)
        return torch.addmm(base.flatten(0, -2), u.flatten(0, -2), weight.t()).view_as(base)


class PointwiseMLP(nn.Sequential):
    """Two linear maps on the channels, with a GELU between them; channels are the last axis.

    Args:
        in_channels, hidden, out_channels: widths.
        memory: ``"speed"`` keeps all activations for the backward pass, anything else only the input.
        precision: see `pdesurrogate.layers.precision`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        *,
        memory: str = "lean",
        precision: str = "full",
    ) -> None:
        super().__init__(nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, out_channels))
        check_precision(precision)
        self.memory, self.precision = memory, precision

    def forward(self, u: Float[Tensor, "*points in_channel"]) -> Float[Tensor, "*points out_channel"]:
        """Return the perceptron's output at every point."""
        return pointwise_mlp(u, *self.weights().values(), memory=self.memory, precision=self.precision)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by their names in `FourierLayerWeights`."""
        inward, outward = cast(nn.Linear, self[0]), cast(nn.Linear, self[2])
        return {
            "inward": inward.weight,
            "inward_bias": inward.bias,
            "outward": outward.weight,
            "outward_bias": outward.bias,
        }


def pointwise_map(in_channels: int, hidden: int, out_channels: int, **engine: Any) -> nn.Module:
    """Return a perceptron at every point, or a linear map where ``hidden`` is 0; ``engine`` is the perceptron's."""
    if hidden == 0:
        return PointwiseLinear(in_channels, out_channels)
    return PointwiseMLP(in_channels, hidden, out_channels, **engine)


def pointwise_mlp(
    u: Float[Tensor, "*points in_channel"],
    weight1: Float[Tensor, "hidden in_channel"],
    bias1: Float[Tensor, " hidden"],
    weight2: Float[Tensor, "out_channel hidden"],
    bias2: Float[Tensor, " out_channel"],
    *,
    memory: str = "lean",
    precision: str = "full",
) -> Float[Tensor, "*points out_channel"]:
    """Return ``W₂ σ(W₁ u + b₁) + b₂`` at every point, by weights that may be functions of parameters.

    Args:
        u: fields, channels last.
        weight1: ``W₁``.
        bias1: ``b₁``.
        weight2: ``W₂``.
        bias2: ``b₂``.
        memory: ``"speed"`` keeps all activations for the backward pass, anything else only the input.
        precision: see `pdesurrogate.layers.precision`.
    """
    weights = weight1, bias1, weight2, bias2
    dtype = working_dtype(torch.promote_types(u.dtype, weight1.dtype), precision)
    with products_in(precision, u.device):
        if memory == "speed" or needs_plain_operations(u, *weights):
            return plain_mlp(u.to(dtype), *weights)
        rows = u.to(dtype).reshape(-1, u.shape[-1]).contiguous()
        y = _PointwiseMLP.apply(rows, *weights, precision)
        return y.view(*u.shape[:-1], -1)


def plain_mlp(u: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Return ``W₂ σ(W₁ u + b₁) + b₂`` by ordinary operations in the dtype of ``u``."""
    dtype = u.dtype
    hidden = F.gelu(F.linear(u, weight1.to(dtype), bias1.to(dtype)))
    return F.linear(hidden, weight2.to(dtype), bias2.to(dtype))


class _PointwiseMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, precision: str
    ) -> Tensor:
        ctx.save_for_backward(u, weight1, bias1, weight2, bias2)
        ctx.precision = precision
        if native_applies(u, weight1, bias1, weight2, bias2):
            return native.mlp_forward(u, weight1, bias1, weight2, bias2)
        into_hidden, hidden_bias, out_of_hidden, bias = _cast(u.dtype, weight1, bias1, weight2, bias2)
        y = u.new_empty(u.shape[0], weight2.shape[0])
        step = _step(u, weight1)
        for start in range(0, u.shape[0], step):
            rows = slice(start, start + step)
            hidden = F.gelu(torch.addmm(hidden_bias, u[rows], into_hidden))
            torch.addmm(bias, hidden, out_of_hidden, out=y[rows])
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs = ctx.saved_tensors
        with products_in(ctx.precision, gradient.device):
            if torch.is_grad_enabled():
                return *differentiable_backward(plain_mlp, inputs, gradient, ctx.needs_input_grad), None
            return *_mlp_backward(inputs, gradient.contiguous(), ctx.needs_input_grad[0]), None


def _mlp_backward(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], gradient: Tensor, wants_input: bool
) -> tuple[Tensor | None, ...]:
    u, weight1, bias1, weight2, bias2 = inputs
    if native_applies(gradient, *inputs):
        return native.mlp_backward(gradient, u, weight1, bias1, weight2, needs_x=wants_input)
    into_hidden, hidden_bias, _, _ = _cast(u.dtype, weight1, bias1, weight2, bias2)
    weight1_, weight2_ = weight1.to(u.dtype), weight2.to(u.dtype)
    grad_u = torch.empty_like(u) if wants_input else None
    sums = [torch.zeros_like(t) for t in (weight1, bias1, weight2, bias2)]
    step = _step(u, weight1)
    for start in range(0, u.shape[0], step):
        rows = slice(start, start + step)
        hidden = torch.addmm(hidden_bias, u[rows], into_hidden)
        add_product(sums[2], gradient[rows], F.gelu(hidden))
        add_sum(sums[3], gradient[rows])
        grad_hidden = torch.ops.aten.gelu_backward(gradient[rows] @ weight2_, hidden)
        add_product(sums[0], grad_hidden, u[rows])
        add_sum(sums[1], grad_hidden)
        if grad_u is not None:
            torch.mm(grad_hidden, weight1_, out=grad_u[rows])
    return grad_u, *sums


def _cast(dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight1, bias1, weight2, bias2 = (w.to(dtype) for w in weights)
    return weight1.t().contiguous(), bias1, weight2.t().contiguous(), bias2


def _step(u: Tensor, weight1: Tensor) -> int:
    return piece_rows(u.device, weight1.shape[0] * u.element_size(), u.shape[0])


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``leftᵀ right``, a sum over points, to a total, in the total's precision.

    The wider factor goes on the right, where a product with few rows is several times faster.
    """
    if left.shape[1] > right.shape[1]:
        total.add_((right.t() @ left).t())
    elif total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total.add_(left.t() @ right)


def add_sum(total: Tensor, rows: Tensor) -> None:
    """Add the sum over points to a total, in the total's precision.

    In bfloat16, blocks of points are summed by products with ones (float32 inside, one rounding a block) and the
    blocks in float32: a sum in another dtype would first copy the field to that dtype.
    """
    if total.dtype == rows.dtype:
        total.add_(rows.sum(0))
        return
    blocks = math.gcd(rows.shape[0], 64)
    ones = rows.new_ones(1, 1, rows.shape[0] // blocks).expand(blocks, -1, -1)
    total.add_(torch.bmm(ones, rows.unflatten(0, (blocks, -1))).sum((0, 1), dtype=total.dtype))


def differentiable_backward(
    plain: Any, inputs: tuple[Tensor | None, ...], gradient: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Return gradients of ``plain(*inputs)`` that can be differentiated again, by ordinary operations.

    The inputs are first given other names: an input that is a function of another one would otherwise count
    that way twice.
    """
    names = [t if t is None or not want else t.view_as(t) for t, want in zip(inputs, wanted, strict=False)]
    out = plain(*names)
    chosen = [t for t, want in zip(names, wanted, strict=False) if want and t is not None]
    gradients = iter(torch.autograd.grad(out, chosen, gradient, create_graph=True))
    return tuple(next(gradients) if want else None for want, _ in zip(wanted, inputs, strict=False))
