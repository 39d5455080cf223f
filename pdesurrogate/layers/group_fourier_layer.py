"""One layer of a group-equivariant Fourier neural operator (Helwig et al. 2023, arXiv:2306.05697, section 4).

Skip, MLP and the convolution in the frequency domain commute with the group; the instance norms around the convolution
act on its modes, so that no field is made for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..fields.point_group import PointGroup
from .group_weights import GroupLinear, GroupSpectralWeight, IsotropicSpectralWeight
from .mode_products import Modes
from .pointwise_mlp import pointwise_linear, pointwise_mlp
from .spectral_norm import kept_multiplicity, normalise_kept, normalise_modes
from .spectral_operator import spectral_operator


class GroupFourierLayer(nn.Module):
    """A Fourier layer of fields on a group, from the pre-activation of the layer before it to its own.

    With ``u`` that pre-activation, ``v = σ(u)``, or ``u`` itself in the first layer,

        y = W v + b + M₂ σ( M₁ N[ F⁻¹ ( Ψ ∗ F[N[v]] ) ] + c₁ ) + c₂

    or ``W v + b`` plus the convolution where there is no MLP.

    Args:
        group: on whose elements the fields live.
        in_channels, out_channels: per element.
        hidden: hidden width of the MLP per element; 0 leaves it out.
        num_modes: kept modes of each axis, odd.
        plane: positions of the group's two axes.
        norm: whether modes are normalised before and after the convolution.
        first: whether this is the first layer, whose input is no pre-activation.
        isotropic: the point group of isotropic weights; None for a kernel on the group.
        acts_on_mean: whether the convolution has weights for the mode ``k = 0``.
        bound_by_axis: see `GroupSpectralWeight`.
        backend: of the transforms, see `spectral_conv`.
        precision: see `pdesurrogate.layers.precision`.
    """

    def __init__(
        self,
        group: PointGroup,
        in_channels: int,
        out_channels: int,
        hidden: int,
        *,
        num_modes: Sequence[int],
        plane: tuple[int, int],
        norm: bool,
        first: bool,
        isotropic: PointGroup | None,
        acts_on_mean: bool,
        bound_by_axis: bool,
        backend: str,
        precision: str,
    ) -> None:
        super().__init__()
        self.first, self.norm, self.order, self.num_modes = first, norm, len(group), tuple(num_modes)
        self.engine: dict[str, Any] = {"backend": backend, "precision": precision}
        shape: dict[str, Any] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "num_modes": num_modes,
            "plane": plane,
            "acts_on_mean": acts_on_mean,
        }
        self.spectral = (
            GroupSpectralWeight(group.name, bound_by_axis=bound_by_axis, **shape)
            if isotropic is None
            else IsotropicSpectralWeight(isotropic.name, **shape)
        )
        self.skip = GroupLinear(group, in_channels, out_channels)
        self.inward = GroupLinear(group, out_channels, hidden) if hidden else None
        self.outward = GroupLinear(group, hidden, out_channels) if hidden else None
        self.register_buffer("_multiplicity", kept_multiplicity(num_modes), persistent=False)

    _multiplicity: Tensor

    def forward(
        self, u: Float[Tensor, "batch *layout channel"]
    ) -> Float[Tensor, "batch *layout out_channel"]:
        """Return the layer's pre-activation on the same grid."""
        precision = self.engine["precision"]
        v = u if self.first else F.gelu(u)
        mixing: Any = self.spectral
        if self.norm:
            mixing = _Normalised(self.spectral, v, self._multiplicity, self.order)
        skip, skip_bias = self.skip.weights()
        if self.inward is None or self.outward is None:
            past = pointwise_linear(v, skip, skip_bias, precision=precision)
            return spectral_operator(v, mixing, self.num_modes, base=past, **self.engine)
        waves = spectral_operator(v, mixing, self.num_modes, **self.engine)
        outward, bias = self.outward.weights()
        branch = pointwise_mlp(waves, *self.inward.weights(), outward, bias + skip_bias, precision=precision)
        return pointwise_linear(v, skip, branch, precision=precision)


@dataclass(frozen=True)
class _Normalised:
    """A map of modes between two instance norms, in either form of a spectrum."""

    spectral: nn.Module
    field: Tensor
    multiplicity: Tensor
    order: int

    def __call__(self, modes: Modes) -> Modes:
        mixed = self.spectral(normalise_modes(modes, self.field, self.order))
        return normalise_kept(mixed, self.multiplicity, self.order)

    on_planes = __call__
