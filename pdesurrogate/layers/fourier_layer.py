"""One layer of a Fourier neural operator, from one pre-activation to the next.

With ``u`` what the previous layer left before its activation (Li et al. 2021, arXiv:2010.08895, equation 2;
channel MLP and soft gate as in neuraloperator 2.0, where given):

    v = σ(u)                                  (v = u in the first layer)
    s = W v + b + F⁻¹[ R(k) · F[v](k) ]
    y = s                                     without channel MLP
    y = M₂ σ(M₁ σ(s) + c₁) + c₂ + g ⊙ v       with it (M₁ s in the last layer)

Leaving the outer σ to the next layer lets one field serve as output of the one and saved input of the other.
Memory modes choose what the backward pass keeps beside ``u`` and the kept modes of ``v``; they do not change
the numbers. With ``V`` the size of one field and ``h`` the MLP's hidden width over the width: ``speed`` keeps
``s`` and the hidden layer before its activation, ``(2 + h) V`` in all, ``lean`` keeps ``s``, ``2 V``, and
``minimal`` neither, ``1 V``. Where the compiled kernel runs (`pdesurrogate.layers.native`), computing the hidden
layer again costs less than reading it, and ``speed`` keeps what ``lean`` keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..registry import did_you_mean
from .channel_mixing import ChannelMixing
from .filter_bank import FilterBank
from .fourier_layer_node import FourierLayerNode, LayerOptions
from .local_operator import check_filters, plain_local_operator
from .local_spectrum import TransferMap, transfer_table
from .pointwise_mlp import plain_mlp
from .precision import note_slow_bfloat16, products_in, working_dtype
from .spectral_backends import BACKENDS, choose_backend
from .spectral_conv import check_spectral_input
from .spectral_operator import Box, spectral_operator
from .tracing import needs_plain_operations

MEMORY_MODES = ("speed", "lean", "minimal")


def check_memory(memory: str) -> None:
    """Refuse a memory mode that does not exist.

    Raises:
        ValueError: with the nearest name and all names.
    """
    if memory not in MEMORY_MODES:
        raise ValueError(
            f"Unknown memory mode {memory!r}.{did_you_mean(memory, MEMORY_MODES)} Allowed: {', '.join(MEMORY_MODES)}."
        )


@dataclass(frozen=True)
class FourierLayerWeights:
    """Weights of a layer; the last five are None without a channel MLP.

    Attributes:
        spectral: ``R``, ``(mode, in, out, 2)``, or a map of the modes that stands for it.
        skip, skip_bias: ``W`` ``(out, in)`` and ``b``.
        inward, inward_bias: ``M₁`` ``(hidden, in)`` and ``c₁``.
        outward, outward_bias: ``M₂`` ``(out, hidden)`` and ``c₂``.
        gate: ``g``.
    """

    spectral: Tensor | ChannelMixing
    skip: Tensor
    skip_bias: Tensor
    inward: Tensor | None = None
    inward_bias: Tensor | None = None
    outward: Tensor | None = None
    outward_bias: Tensor | None = None
    gate: Tensor | None = None

    @property
    def mixing(self) -> ChannelMixing:
        """``R`` as a map of the modes."""
        return self.spectral if isinstance(self.spectral, ChannelMixing) else ChannelMixing(self.spectral)

    @property
    def pointwise(self) -> tuple[Tensor, ...]:
        """All others that are there, in the order of the attributes."""
        return tuple(t for t in list(vars(self).values())[1:] if t is not None)


def fourier_layer(
    u: Float[Tensor, "batch *layout width"],
    weights: FourierLayerWeights,
    num_modes: Sequence[int],
    *,
    first: bool = False,
    last: bool = False,
    backend: str = "auto",
    memory: str = "lean",
    precision: str = "full",
    filters: tuple[FilterBank, Tensor] | None = None,
) -> Float[Tensor, "batch *layout width"]:
    """Return the layer's pre-activation from that of the layer before it.

    Args:
        u: previous pre-activation, or the lifted field for the first layer; half axis first, channels last.
        weights: of the layer.
        num_modes: kept modes per axis in space order, counting both signs.
        first: whether ``u`` is no pre-activation but the lifted field.
        last: whether the channel MLP acts on ``s`` itself.
        backend: of the transforms, see `pdesurrogate.layers.spectral_conv`.
        memory: one of `MEMORY_MODES`.
        precision: see `pdesurrogate.layers.precision`.
        filters: a local operator on a periodic grid that joins ``R`` in ``s``, as a bank and its matrices or factors,
            see `local_operator`; the layer then works on all modes of the grid, and ``R`` is multiplied out.

    Raises:
        ValueError, TypeError: as `pdesurrogate.layers.spectral_conv`.
    """
    num_modes, grid = tuple(num_modes), (*u.shape[2:-1], u.shape[1])
    mixing = weights.mixing
    check_spectral_input(u, mixing.weight, Box(num_modes, None, backend, precision), grid, grid)
    tensors = *mixing.tensors, *weights.pointwise
    dtype = working_dtype(u.dtype, precision)

    bank, worked_on = None, num_modes
    if filters is not None:
        bank, matrices = filters
        check_filters(u, bank, matrices)
        tensors = mixing.dense().weight, matrices, None, *weights.pointwise
        worked_on = grid

    def plain(u: Tensor, *tensors: Any) -> Tensor:
        return _plain_layer(u, *tensors, num_modes=num_modes, options=options, bank=bank)

    with products_in(precision, u.device):
        traced = needs_plain_operations(u, *tensors)
        route = "dft"
        if not traced:
            batch, channels = u.shape[0], u.shape[-1]
            route = choose_backend(
                backend, grid, worked_on, batch=batch, channels=channels, dtype=dtype, device=u.device
            )
        options = LayerOptions(first, last, route, memory, precision)
        if traced:
            return plain(u.to(dtype), *tensors)
        if dtype == torch.bfloat16:
            note_slow_bfloat16(u.device.type)
        transform = BACKENDS[route].build(grid, worked_on, dtype, str(u.device))
        mode_map: Callable[..., Any] = ChannelMixing
        if bank is not None:
            real = torch.promote_types(dtype, torch.float32)
            mode_map = partial(
                TransferMap, transfer_table(bank, tuple(u.shape[1:-1]), num_modes, real, u.device)
            )
        return FourierLayerNode.apply(u.to(dtype).contiguous(), transform, options, plain, mode_map, *tensors)


def _plain_layer(
    u: Tensor,
    weight: Tensor,
    second: Tensor | None,
    third: Tensor | None,
    skip: Tensor,
    skip_bias: Tensor,
    *mlp: Tensor,
    num_modes: tuple[int, ...],
    options: LayerOptions,
    bank: FilterBank | None,
) -> Tensor:
    """The layer by ordinary operations: what tracers see, and what is differentiated twice.

    Without filters the first three tensors are those of a map of the modes, with them ``R`` and the filters' matrices.
    """
    dtype = u.dtype
    v = u if options.first else F.gelu(u)
    base = F.linear(v, skip.to(dtype), skip_bias.to(dtype))
    if bank is not None and second is not None:
        base = base + plain_local_operator(v, second.to(dtype), bank, ("periodic",) * (u.ndim - 2))
        second = None
    mixing = ChannelMixing(weight, second, third)
    s = spectral_operator(
        v, mixing, num_modes, base=base, backend=options.backend, precision=options.precision
    )
    if not mlp:
        return s
    *perceptron, gate = mlp
    a = s if options.last else F.gelu(s)
    return torch.addcmul(plain_mlp(a, *perceptron), v, gate.to(dtype))
