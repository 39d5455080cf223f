"""neuraloperator's localised operator with differential kernels, put together from its own layers.

Its LocalNO cannot be imported without torch-harmonics. A block of it adds the differential kernel's field to that of
the spectral convolution and is the FNO's otherwise; this does the same inside its FNO. Its integral kernel is another
function than ours (it keeps its taps on every grid and pads with zeros), so there is nothing to be equal to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from neuralop.layers.differential_conv import FiniteDifferenceConvolution
from neuralop.models import FNO
from torch import Tensor, nn

from pdesurrogate.models.fno_weights import fno_state_from_neuralop, fno_state_to_neuralop

from .options import OptionError


class SpectralAndDifferential(nn.Module):
    """A spectral convolution and a differential kernel on one field; spacings count in those of the grid at hand."""

    def __init__(self, spectral: nn.Module, differential: nn.Module) -> None:
        super().__init__()
        self.spectral, self.differential = spectral, differential

    def forward(self, x: Tensor, output_shape: Any = None) -> Tensor:
        """Return the sum of both."""
        waves: Tensor = self.spectral(x, output_shape=output_shape)
        return waves + self.differential(x, 1.0)

    def transform(self, x: Tensor, output_shape: Any = None) -> Tensor:
        """Return the field on the output grid, as the spectral convolution does for skips."""
        resampled: Tensor = self.spectral.transform(x, output_shape=output_shape)
        return resampled


def build(ours: nn.Module, width: int, num_modes: Sequence[int]) -> tuple[nn.Module, float]:
    """Return neuraloperator's model with our weights, and the seconds that its constructor took.

    Raises:
        OptionError: if our model has other local kernels than generic differential ones in every layer, or no channel
            MLP, without which neuraloperator's blocks apply the activation twice.
    """
    blocks: Any = ours.blocks
    for block in blocks:
        kinds = [type(kernel).__name__ for kernel in block.kernels]
        if kinds != ["DifferentialKernel"] or block.kernels[0].stencil.antisymmetric:
            raise OptionError(
                "neuraloperator has the same function for differential kernels in every layer only: give "
                "model.local=differential, or peer=none."
            )
    if blocks[0].channel_mlp is None:
        raise OptionError(
            "without channel MLP neuraloperator's blocks apply the activation twice, which is another function: give "
            "model.channel_mlp=0.5, or peer=none."
        )
    size = blocks[0].kernels[0].stencil.size
    start = time.perf_counter()
    peer = FNO(
        n_modes=tuple(num_modes),
        in_channels=1,
        out_channels=1,
        hidden_channels=width,
        n_layers=len(blocks),
    )
    for i in range(len(blocks)):
        difference = FiniteDifferenceConvolution(width, width, len(num_modes), size)
        peer.fno_blocks.convs[i] = SpectralAndDifferential(peer.fno_blocks.convs[i], difference)
    seconds = time.perf_counter() - start
    peer.load_state_dict(_to_neuralop(ours.state_dict(), num_modes, size))
    return peer, seconds


def from_neuralop(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under our names."""
    kernels, rest = {}, {}
    for name, value in state.items():
        head, differential, _ = name.partition(".differential.")
        if differential:
            taps = value.flatten(2)
            centre = taps.shape[-1] // 2
            free = torch.cat([taps[..., :centre], taps[..., centre + 1 :]], -1)
            kernels[f"blocks.{head.rpartition('.')[2]}.kernels.0.weight"] = free.permute(2, 1, 0)
        else:
            rest[name.replace(".spectral.", ".")] = value
    return {**fno_state_from_neuralop(rest), **kernels}


def _to_neuralop(state: Mapping[str, Tensor], num_modes: Sequence[int], size: int) -> dict[str, Tensor]:
    rest = {name: value for name, value in state.items() if ".kernels." not in name}
    theirs = {
        name.replace(f"convs.{i}.", f"convs.{i}.spectral."): value
        for name, value in fno_state_to_neuralop(rest, num_modes).items()
        for i in [name.split(".")[2] if ".convs." in name else ""]
    }
    for name in state.keys() - rest.keys():
        free = state[name].permute(2, 1, 0)
        centre = free.shape[-1] // 2
        taps = torch.cat([free[..., :centre], torch.zeros_like(free[..., :1]), free[..., centre:]], -1)
        # Both names are of one tensor there.
        for tensor in ("conv.weight", "weight"):
            theirs[f"fno_blocks.convs.{name.split('.')[1]}.differential.{tensor}"] = taps.unflatten(
                -1, (size,) * len(num_modes)
            )
    return theirs
