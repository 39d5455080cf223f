"""Spectral weights as low-rank tensors: what is learned are factors, a fraction of the dense weights' numbers.

Kossaifi, Kovachki, Azizzadenesheli, Anandkumar, "Multi-Grid Tensorized Fourier Neural Operator for High-Resolution
PDEs", TMLR 2024, arXiv:2310.00120. The weights of a layer are a tensor ``(in, out, k_1, .., k_d)``, one entry a kept
mode, full axes ``0, 1, .., -2, -1`` and the last a half axis; ``(channel, k_1, .., k_d)`` where channels are not mixed
(separable). All layers together are one tensor with a leading layer axis (joint), or a tensor each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields.fourier import kept_shape
from ..registry import did_you_mean
from .channel_mixing import ChannelMixing
from .precision import products_in
from .real_pairs import pair_contract, pair_expand, pair_multiply
from .tensor_factorisations import FACTORISATIONS, check_factorisation

CONTRACTIONS = ("auto", "factorised", "reconstructed")


class FactorisedSpectralWeights(nn.Module):
    """Spectral weights of some layers, as factors.

    Initially the reconstructed weights have the standard deviation that keeps the variance of every mode, as in
    `pdesurrogate.layers.SpectralConv`: ``√(2 / (in + out))``, and 1 where channels are not mixed.

    Args:
        num_layers: number of layers.
        in_channels, out_channels: channels of every layer's input and output.
        num_modes: kept modes per axis in space order, counting both signs.
        factorisation: ``"tucker"``, ``"cp"`` or ``"tt"``, see `pdesurrogate.layers.tensor_factorisations`.
        rank: share of the dense weights' numbers that the factors have, above 0 and at most 1.
        joint: one tensor for all layers, with a leading layer axis, or a tensor for each.
        separable: a factor for every channel and mode, which mixes no channels.
        contraction: how the weights act. ``"reconstructed"``: multiplied out to one matrix a mode.
            ``"factorised"``: modes pass through the factors of the channels one after the other. ``"auto"``: what
            takes fewer products for the batch at hand. They differ by rounding.

    Raises:
        ValueError: if an option is out of range, or channels that are not mixed differ in number.
    """

    def __init__(
        self,
        num_layers: int,
        in_channels: int,
        out_channels: int,
        num_modes: Sequence[int],
        *,
        factorisation: str = "tucker",
        rank: int | float = 0.1,
        joint: bool = False,
        separable: bool = False,
        contraction: str = "auto",
    ) -> None:
        super().__init__()
        check_factorisation(factorisation)
        if contraction not in CONTRACTIONS:
            raise ValueError(
                f"contraction is {contraction!r}.{did_you_mean(str(contraction), CONTRACTIONS)} "
                f"Allowed: {', '.join(CONTRACTIONS)}."
            )
        if separable and in_channels != out_channels:
            raise ValueError(
                f"separable weights mix no channels, so that as many leave as enter; there are {in_channels} and "
                f"{out_channels}. Give equal numbers, or separable=false."
            )
        self.num_layers, self.joint, self.contraction = num_layers, joint, contraction
        self.factorisation, self.num_axes = factorisation, len(num_modes)
        channels = (in_channels,) if separable else (in_channels, out_channels)
        layers = (num_layers,) if joint else ()
        self.shape = (*layers, *channels, *kept_shape(num_modes))
        form = FACTORISATIONS[factorisation]
        self.ranks = form.ranks(self.shape, rank)
        std = 1.0 if separable else math.sqrt(2 / (in_channels + out_channels))
        self.tensors = nn.ModuleList(
            nn.ParameterList(form.draw(self.shape, self.ranks, std))
            for _ in range(1 if joint else num_layers)
        )

    @property
    def num_parameters(self) -> int:
        """Number of real parameters."""
        return sum(factor.numel() for factor in self.parameters())

    @property
    def num_dense_parameters(self) -> int:
        """Number of real parameters of the tensors that the factors stand for."""
        return 2 * len(self.tensors) * math.prod(self.shape)

    def mixing(self, layer: int, batch: int) -> ChannelMixing:
        """Return a layer's map of the modes in the form that suits a batch; a traced program counts one sample."""
        mixing = self.factors(layer)
        batch = 1 if torch.compiler.is_compiling() else batch
        is_cheaper = mixing.cost(batch) <= mixing.cost_of_dense(batch)
        if self.contraction == "factorised" or (self.contraction == "auto" and is_cheaper):
            return mixing
        with products_in("full", mixing.weight.device):
            return mixing.dense()

    def factors(self, layer: int) -> ChannelMixing:
        """Return a layer's map of the modes as a product of its factors."""
        tensor, row = (self.tensors[0], layer) if self.joint else (self.tensors[layer], None)
        factors: list[Tensor] = list(tensor.parameters())
        with products_in("full", factors[0].device):
            return _MIXINGS[self.factorisation](factors, row, self.num_axes)

    def reconstructed(self, layer: int) -> Float[Tensor, "mode in_channel out_channel 2"]:
        """Return a layer's dense weight as `pdesurrogate.layers.SpectralConv` holds it."""
        mixing = self.factors(layer)
        with products_in("full", mixing.weight.device):
            return mixing.dense().weight

    def extra_repr(self) -> str:
        """Form, sizes and ranks, for printing."""
        return (
            f"{self.factorisation}, shape={self.shape}, ranks={self.ranks}, contraction={self.contraction!r}"
        )


def _tucker(tensors: list[Tensor], layer: int | None, num_axes: int) -> ChannelMixing:
    core, *factors = tensors
    if layer is not None:
        row, *factors = factors
        core = pair_contract(row[layer : layer + 1], core, 0)[0]
    channels, modes = factors[:-num_axes], factors[-num_axes:]
    weight = pair_expand(core, modes)
    weight = weight.flatten(0, num_axes - 1)
    if len(channels) == 1:
        return ChannelMixing(pair_contract(channels[0], weight, 1))
    return ChannelMixing(weight, channels[0], channels[1].transpose(0, 1))


def _cp(tensors: list[Tensor], layer: int | None, num_axes: int) -> ChannelMixing:
    weight, *factors = tensors
    if layer is not None:
        row, *factors = factors
        weight = pair_multiply(weight, row[layer])
    channels, modes = factors[:-num_axes], factors[-num_axes:]
    for done, factor in enumerate(reversed(_half_axis_first(modes))):
        weight = pair_multiply(factor.view(-1, *[1] * done, *factor.shape[1:]), weight)
    weight = weight.flatten(0, num_axes - 1)
    if len(channels) == 1:
        return ChannelMixing(pair_contract(channels[0], weight, 1))
    return ChannelMixing(weight, channels[0], channels[1].transpose(0, 1))


def _tensor_train(tensors: list[Tensor], layer: int | None, num_axes: int) -> ChannelMixing:
    if layer is not None:
        row, second, *rest = tensors
        tensors = [pair_contract(row[:, layer], second, 0), *rest]
    channels, modes = tensors[:-num_axes], tensors[-num_axes:]
    train = modes[-1].squeeze(2)
    for core in reversed(modes[:-1]):
        train = pair_contract(core.flatten(0, 1), train, 0).unflatten(0, core.shape[:2])
    # (rank, k_1, .., k_d) to (k_d, k_1, .., k_{d-1}, rank)
    weight = train.movedim(0, -2).movedim(num_axes - 1, 0).flatten(0, num_axes - 1)
    inward = channels[0].squeeze(0)
    if len(channels) == 1:
        return ChannelMixing(pair_contract(inward, weight, 1))
    outward = channels[1]
    weight = pair_contract(outward.flatten(0, 1), weight, 1).unflatten(1, outward.shape[:2])
    return ChannelMixing(weight, inward)


_MIXINGS = {"tucker": _tucker, "cp": _cp, "tt": _tensor_train}


def _half_axis_first(modes: list[Tensor]) -> list[Tensor]:
    return [modes[-1], *modes[:-1]]
