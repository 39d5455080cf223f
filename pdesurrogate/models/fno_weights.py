"""State dicts of a Fourier neural operator between neuraloperator 2.0's FNO and ours.

They describe the same function for neuraloperator's defaults (dense weights, channel MLP with soft gating,
linear skip, no norm): width is ``hidden_channels``, depth ``n_layers``, num_modes ``n_modes``. Its
``positional_embedding="grid"`` is our ``coordinates="linear"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..layers import spectral_weight_from_neuralop, spectral_weight_to_neuralop

_MLPS = {"lift": "lifting", "project": "projection"}
_MLP_LAYERS = {"0": "0", "2": "1"}
"""Index of a linear layer in our MLP, where the GELU is number 1, and in theirs."""


def fno_state_from_neuralop(state: Mapping[str, Tensor], *, dense: bool = True) -> dict[str, Tensor]:
    """Return the state dict of our FNO that computes what neuraloperator's computes.

    Args:
        state: of neuraloperator's.
        dense: whether dense spectral weights are to be among the tensors; without them the rest is converted.

    Raises:
        ValueError: for a state dict with other tensors (factorised weights, norms), naming them.
    """
    rest = {name: value for name, value in state.items() if name != "_metadata"}
    depth = sum(name.startswith("fno_blocks.fno_skips.") for name in rest)
    ours: dict[str, Tensor] = {}
    try:
        for mlp, theirs in _MLPS.items():
            _take_mlp(ours, rest, mlp, theirs)
        for i in range(depth):
            block, conv = f"blocks.{i}", f"fno_blocks.convs.{i}"
            if dense:
                ours[f"{block}.spectral.weight"] = spectral_weight_from_neuralop(
                    rest.pop(f"{conv}.weight.tensor")
                )
            ours[f"{block}.skip.bias"] = rest.pop(f"{conv}.bias").flatten()
            ours[f"{block}.skip.weight"] = rest.pop(f"fno_blocks.fno_skips.{i}.conv.weight").squeeze(-1)
            ours[f"{block}.gate"] = rest.pop(f"fno_blocks.channel_mlp_skips.{i}.weight").flatten()
            _take_mlp(ours, rest, f"{block}.channel_mlp", f"fno_blocks.channel_mlp.{i}")
    except KeyError as error:
        raise ValueError(
            f"the state dict lacks {error}; only neuraloperator's default FNO converts."
        ) from error
    if rest:
        raise ValueError(f"no place for {sorted(rest)}; only neuraloperator's default FNO converts.")
    return ours


def fno_state_to_neuralop(state: Mapping[str, Tensor], num_modes: Sequence[int]) -> dict[str, Tensor]:
    """Return the state dict of neuraloperator's FNO that computes what our default FNO computes."""
    ndim = len(num_modes)
    theirs: dict[str, Tensor] = {}
    for name, value in state.items():
        head, _, tail = name.partition(".")
        if head in _MLPS:
            layer, kind = tail.split(".")
            theirs[f"{_MLPS[head]}.fcs.{_MLP_LAYERS[layer]}.{kind}"] = _as_conv(value)
            continue
        i, _, part = tail.partition(".")
        if part == "spectral.weight":
            weight = spectral_weight_to_neuralop(value, num_modes)
            theirs[f"fno_blocks.convs.{i}.weight.tensor"] = weight
        elif part == "skip.bias":
            theirs[f"fno_blocks.convs.{i}.bias"] = value.view(-1, *[1] * ndim)
        elif part == "skip.weight":
            theirs[f"fno_blocks.fno_skips.{i}.conv.weight"] = _as_conv(value)
        elif part == "gate":
            theirs[f"fno_blocks.channel_mlp_skips.{i}.weight"] = value.view(1, -1, *[1] * ndim)
        else:
            _, layer, kind = part.split(".")
            theirs[f"fno_blocks.channel_mlp.{i}.fcs.{_MLP_LAYERS[layer]}.{kind}"] = _as_conv(value)
    return theirs


def _take_mlp(ours: dict[str, Tensor], rest: dict[str, Tensor], mlp: str, theirs: str) -> None:
    for mine, layer in _MLP_LAYERS.items():
        ours[f"{mlp}.{mine}.weight"] = rest.pop(f"{theirs}.fcs.{layer}.weight").squeeze(-1)
        ours[f"{mlp}.{mine}.bias"] = rest.pop(f"{theirs}.fcs.{layer}.bias")


def _as_conv(value: Tensor) -> Tensor:
    return value.unsqueeze(-1) if value.ndim == 2 else value
