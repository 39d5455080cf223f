"""State dicts of tensorised Fourier neural operators: from a trained FNO, and between neuraloperator 2.0's and ours.

A TFNO of neuraloperator and ours describe the same function under the conditions of
`pdesurrogate.models.fno_weights`, with a tensor a layer (neuraloperator 2.0 has no joint one) and the same ranks; the
factors differ in where a full axis of modes begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..fields.fourier import kept_shape
from ..layers import FACTORISATIONS, check_factorisation, decompose
from .fno_weights import fno_state_from_neuralop, fno_state_to_neuralop

_FIRST = {"tucker": "core", "cp": "weights"}
"""neuraloperator's name of the factor that belongs to no axis."""


def tfno_state_from_fno(
    state: Mapping[str, Tensor],
    num_modes: Sequence[int],
    *,
    factorisation: str = "tucker",
    rank: int | float = 0.1,
    joint: bool = False,
) -> dict[str, Tensor]:
    """Return the state dict of a TFNO with these options that comes close to a trained FNO.

    All but the spectral weights are copied; these are as near as the ranks allow, in the mean square over the modes.

    Args:
        state: of an FNO with these modes.
        num_modes: kept modes per axis in space order.
        factorisation: ``"tucker"`` or ``"tt"``.
        rank: share of the dense spectral weights' numbers.
        joint: whether the layers are one tensor.

    Raises:
        ValueError: if an option is out of range, or the state has no spectral weights of these modes.
    """
    check_factorisation(factorisation)
    weights: list[Tensor] = []
    while (name := f"blocks.{len(weights)}.spectral.weight") in state:
        weights.append(_as_tensor(state[name], num_modes))
    if not weights:
        raise ValueError(
            "the state dict has no blocks.0.spectral.weight; give that of a model of the kind 'fno'."
        )
    tensors = [torch.stack(weights)] if joint else weights
    ranks = FACTORISATIONS[factorisation].ranks(tensors[0].shape[:-1], rank)
    theirs = {name: value for name, value in state.items() if not name.endswith(".spectral.weight")}
    for i, tensor in enumerate(tensors):
        for j, factor in enumerate(decompose(factorisation, tensor, ranks)):
            theirs[f"spectral.tensors.{i}.{j}"] = factor
    return theirs


def tfno_state_from_neuralop(state: Mapping[str, Tensor], factorisation: str) -> dict[str, Tensor]:
    """Return the state dict of our TFNO that computes what neuraloperator's computes.

    Raises:
        ValueError: for a state dict with other tensors (another form, norms), naming them.
    """
    check_factorisation(factorisation)
    rest, ours = dict(state), {}
    depth = sum(name.startswith("fno_blocks.fno_skips.") for name in rest)
    for i in range(depth):
        names = _neuralop_names(rest, factorisation, f"fno_blocks.convs.{i}.weight.")
        for j, name in enumerate(names):
            ours[f"spectral.tensors.{i}.{j}"] = torch.view_as_real(
                _rolled(rest.pop(name), j, len(names), factorisation, towards=-1)
            )
    return {**ours, **fno_state_from_neuralop(rest, dense=False)}


def tfno_state_to_neuralop(
    state: Mapping[str, Tensor], num_modes: Sequence[int], factorisation: str
) -> dict[str, Tensor]:
    """Return the state dict of neuraloperator's TFNO that computes what ours with a tensor a layer computes."""
    check_factorisation(factorisation)
    spectral = {name: value for name, value in state.items() if name.startswith("spectral.")}
    theirs = fno_state_to_neuralop({n: v for n, v in state.items() if n not in spectral}, num_modes)
    num_factors = len({name.rsplit(".", 1)[1] for name in spectral})
    for name, value in spectral.items():
        *_, i, j = name.split(".")
        factor = torch.view_as_complex(value.contiguous())
        theirs[f"fno_blocks.convs.{i}.weight.{_neuralop_name(int(j), factorisation)}"] = _rolled(
            factor, int(j), num_factors, factorisation, towards=1
        )
    return theirs


def _as_tensor(weight: Tensor, num_modes: Sequence[int]) -> Tensor:
    """Return a dense weight ``(mode, in, out, 2)`` as ``(in, out, k_1, .., k_d, 2)``."""
    kept = kept_shape(num_modes)
    tensor = weight.unflatten(0, (kept[-1], *kept[:-1]))
    ndim = len(kept)
    return tensor.permute(ndim, ndim + 1, *range(1, ndim), 0, ndim + 2)


def _neuralop_name(j: int, factorisation: str) -> str:
    if factorisation not in _FIRST:
        return f"factors.factor_{j}"
    return _FIRST[factorisation] if j == 0 else f"factors.factor_{j - 1}"


def _neuralop_names(state: Mapping[str, Tensor], factorisation: str, prefix: str) -> list[str]:
    names: list[str] = []
    while (name := prefix + _neuralop_name(len(names), factorisation)) in state:
        names.append(name)
    return names


def _rolled(factor: Tensor, j: int, num_factors: int, factorisation: str, *, towards: int) -> Tensor:
    """Move mode 0 of a full axis between the beginning, where we have it, and neuraloperator's middle."""
    first_mode = 2 if factorisation == "tt" else 3
    if not first_mode <= j < num_factors - 1:
        return factor.clone()
    axis = 1 if factorisation == "tt" else 0
    return factor.roll(towards * (factor.shape[axis] // 2), axis)
