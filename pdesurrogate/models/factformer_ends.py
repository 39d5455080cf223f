"""What FactFormer has before and after its blocks: a lift field by field, a look at the walls, the march, the decoder.

Li, Shu, Barati Farimani 2023, arXiv:2305.17560, and the authors' code for what the paper leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..layers import BoundaryConv, PointwiseMLP

GROUPS = 8
"""Groups of channels in the decoder; the width is a multiple of them."""


class GroupedLift(nn.Module):
    """Features of every field at every time, ``σ(a_c u_c(t) + b_c)``, and a linear map of them and of parameters.

    Args:
        channels: fields a frame.
        num_parameters: of the PDE.
        history: frames.
        width: channels of the lifted field; there are ``width / 2`` features a frame.

    Raises:
        ValueError: if the features cannot be shared out among the fields.
    """

    def __init__(self, channels: int, num_parameters: int, history: int, width: int) -> None:
        super().__init__()
        if (width // 2) % channels:
            raise ValueError(
                f"factformer: lift=grouped shares width / 2 = {width // 2} features out among {channels} fields, which "
                f"does not come out even. Use lift=linear, or a width that is a multiple of {2 * channels}."
            )
        features = width // 2 // channels
        # Uniform in ±1, as a convolution of one input channel starts.
        self.scale = nn.Parameter(2 * torch.rand(channels, features) - 1)
        self.shift = nn.Parameter(2 * torch.rand(channels, features) - 1)
        self.mix = nn.Linear(history * channels * features, width, bias=False)
        self.condition = nn.Linear(num_parameters, width, bias=False) if num_parameters else None

    def forward(
        self, u: Float[Tensor, "batch *space history channel"], parameters: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch *space width"]:
        """Return the lifted field."""
        features = F.gelu(torch.addcmul(self.shift, u.unsqueeze(-1), self.scale))
        lifted: Tensor = self.mix(features.flatten(-3))
        if self.condition is None:
            return lifted
        constant = self.condition(parameters)
        return lifted + constant.view(len(u), *[1] * (lifted.ndim - 2), -1)


class BoundaryBranch(nn.Module):
    """Convolutions on the grid and on one twice as coarse; zeros beyond the ends of an axis tell where they are.

    Args:
        width: channels.
        boundaries: of every axis; periodic ones are continued.
    """

    def __init__(self, width: int, boundaries: Sequence[str]) -> None:
        super().__init__()
        half = width // 2
        sizes = [(width, half, 2), (half, half, 1), (half, half, 1), (half, width, 1)]
        self.convs = nn.ModuleList(
            BoundaryConv(into, out, boundaries, stride=stride, beyond="constant")
            for into, out, stride in sizes
        )

    def forward(self, u: Float[Tensor, "batch *space width"]) -> Float[Tensor, "batch *space width"]:
        """Return the branch's field on the same grid."""
        v = u.movedim(-1, 1)
        everywhere = tuple(range(2, v.ndim))
        v = v - v.mean(everywhere, keepdim=True)
        v = v * (v.square().mean(everywhere, keepdim=True) + 1e-5).rsqrt()
        v = self.convs[1](F.gelu(self.convs[0](v)))
        v = F.interpolate(v, size=u.shape[1:-1], mode="nearest")
        return self.convs[3](F.gelu(self.convs[2](v))).movedim(1, -1)


class LatentMarch(nn.Module):
    """Steps of a latent state, ``z ← z + e_l``, ``z ← z + MLP(LayerNorm(z))``; only ``e_l`` differs from step to step.

    Args:
        encoded: channels of the encoded field.
        latent: channels of the state.
        hidden: of the MLP.
        num_steps: states after the first.
        memory: of the MLP.
    """

    def __init__(self, encoded: int, latent: int, hidden: int, num_steps: int, memory: str) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.expand = nn.Linear(encoded, latent, bias=False)
        self.times = nn.Parameter(0.02 * torch.randn(num_steps, latent))
        self.layer_norm = nn.LayerNorm(latent)
        self.mlp = PointwiseMLP(latent, hidden, latent, memory=memory)

    def forward(
        self, z: Float[Tensor, "batch *space latent"], step: int
    ) -> Float[Tensor, "batch *space latent"]:
        """Return the state after a step, counted from 0."""
        z = z + self.times[step]
        return z + self.mlp(self.layer_norm(z))


class Decoder(nn.Module):
    """Frames of a state: group normalisation, a linear map within groups of channels, and a perceptron over all.

    Args:
        latent: channels of the state.
        width: channels after the first map; the perceptron has half as many hidden ones.
        out_channels: channels of all frames of the state.
        groups: of the normalisation.
    """

    def __init__(self, latent: int, width: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.latent, self.width, self.groups = latent, width, groups
        self.scale = nn.Parameter(torch.ones(latent))
        self.shift = nn.Parameter(torch.zeros(latent))
        within = torch.empty(GROUPS, latent // GROUPS, width // GROUPS)
        bound = math.sqrt(GROUPS / latent)
        self.within = nn.Parameter(within.uniform_(-bound, bound))
        self.hidden = nn.Linear(width, width // 2, bias=False)
        self.out = nn.Linear(width // 2, out_channels)

    def forward(self, z: Float[Tensor, "batch *space latent"]) -> Float[Tensor, "batch *space out_channel"]:
        """Return the channels of the state's frames."""
        rows = z.flatten(1, -2)
        v = rows - self._over_groups(rows.mean(1, keepdim=True))
        variance = self._over_groups(v.square().mean(1, keepdim=True))
        v = torch.addcmul(self.shift, v, self.scale * (variance + 1e-5).rsqrt())
        v = torch.einsum("bngi,gio->bngo", v.unflatten(-1, (GROUPS, -1)), self.within).flatten(-2)
        y: Tensor = self.out(F.gelu(self.hidden(F.gelu(v))))
        return y.view(*z.shape[:-1], -1)

    def _over_groups(self, means: Float[Tensor, "batch 1 latent"]) -> Float[Tensor, "batch 1 latent"]:
        """Return for every channel the mean over the channels of its group."""
        grouped = means.unflatten(-1, (self.groups, -1))
        return grouped.mean(-1, keepdim=True).expand_as(grouped).flatten(-2)
