"""Models of the same function on both sides: ours, and neuraloperator's with our weights."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.models import MODELS

from .options import OptionError

OURS = "pdesurrogate"
NEURALOPERATOR = "neuraloperator"
AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Side:
    """One contestant: a module, how it is called, and its tensors under our names.

    Attributes:
        name: of the contestant.
        module: with parameters that require gradients.
        call: output ``(batch, channel, *space)`` for input of that shape.
        ours: tensors of its state (or gradients by parameter name) under our parameter names.
        build_seconds: time of the constructor.
    """

    name: str
    module: nn.Module
    call: Callable[[Tensor], Tensor]
    ours: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    build_seconds: float

    def gradients(self) -> Mapping[str, Tensor]:
        """Return the gradients that are there, under our names."""
        return self.ours({n: p.grad for n, p in self.module.named_parameters() if p.grad is not None})


def box_spec(ndim: int) -> DataSpec:
    """Return one scalar field on a periodic box of ``ndim`` dimensions.

    Raises:
        OptionError: unless there are one, two or three.
    """
    if not 1 <= ndim <= 3:
        raise OptionError(f"grid has {ndim} axes; give one, two or three sizes.")
    axes = tuple(Axis(name, 1.0) for name in AXES[-ndim:])
    return DataSpec(fields=(Field("u"),), axes=axes, dt=1.0)


def build_ours(
    kind: str, grid: Sequence[int], *, wanted: Mapping[str, Any], also: Mapping[str, Any], name: str = OURS
) -> Side:
    """Return our model ``kind``.

    Args:
        kind: registered name.
        grid: that it will be called on.
        wanted: options that the model must take.
        also: options that are given to models that have them.
        name: of the contestant.

    Raises:
        ValueError: if the model does not exist, lacks an option, or cannot take the grid.
    """
    entry = MODELS.get(kind)
    taken = inspect.signature(entry).parameters
    options = {**{key: value for key, value in also.items() if key in taken}, **wanted}
    start = time.perf_counter()
    module = MODELS.build(kind, box_spec(len(grid)), 1, 1, **options)
    seconds = time.perf_counter() - start
    module.check_grid(tuple(grid))
    if not any(p.requires_grad for p in module.parameters()):
        raise OptionError(f"model {kind!r} has no weights; there is no training step to measure.")

    def call(u: Tensor) -> Tensor:
        future: Tensor = module(u.unsqueeze(1), u.new_empty(u.shape[0], 0))
        return future.squeeze(1)

    return Side(name, module, call, dict, seconds)


def build_peer(kind: str, ours: Side, *, width: int, num_modes: Sequence[int]) -> Side | None:
    """Return neuraloperator's model of the same function with our weights, or None where there is none.

    Raises:
        OptionError: if our model has options that neuraloperator's does not have.
    """
    return _PEERS[kind](ours, width, num_modes) if kind in _PEERS else None


def _fno(ours: Side, width: int, num_modes: Sequence[int]) -> Side:
    from neuralop.models import FNO

    from pdesurrogate.models.fno_weights import fno_state_from_neuralop, fno_state_to_neuralop

    blocks = ours.module.blocks
    start = time.perf_counter()
    peer = FNO(
        n_modes=tuple(num_modes), in_channels=1, out_channels=1, hidden_channels=width, n_layers=len(blocks)
    )
    seconds = time.perf_counter() - start
    state = fno_state_to_neuralop(ours.module.state_dict(), num_modes)
    _load(peer, state)
    return Side(NEURALOPERATOR, peer, peer, fno_state_from_neuralop, seconds)


def _tfno(ours: Side, width: int, num_modes: Sequence[int]) -> Side | None:
    """Return neuraloperator's TFNO of the same form and ranks; there is none with joint or separable weights."""
    from neuralop.models import TFNO

    from pdesurrogate.models.tfno_weights import tfno_state_from_neuralop, tfno_state_to_neuralop

    spectral = ours.module.spectral
    if spectral.joint or len(spectral.shape) == len(num_modes) + 1:
        return None
    form = spectral.factorisation
    ranks = {"tucker": list(spectral.ranks), "cp": spectral.ranks[0], "tt": [1, *spectral.ranks, 1]}
    start = time.perf_counter()
    peer = TFNO(
        n_modes=tuple(num_modes),
        in_channels=1,
        out_channels=1,
        hidden_channels=width,
        n_layers=spectral.num_layers,
        factorization=form,
        rank=ranks[form],
    )
    seconds = time.perf_counter() - start
    state = tfno_state_to_neuralop(ours.module.state_dict(), num_modes, form)
    _load(peer, state)
    return Side(NEURALOPERATOR, peer, peer, lambda state: tfno_state_from_neuralop(state, form), seconds)


def _load(peer: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        missing = peer.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        missing = [str(error)]
    if missing:
        raise OptionError(
            f"neuraloperator's {type(peer).__name__} has no such architecture: leave model.* options that change it "
            f"alone, or give peer=none. It says: {missing[0]}"
        )


def _localno(ours: Side, width: int, num_modes: Sequence[int]) -> Side:
    from . import local_peer

    peer, seconds = local_peer.build(ours.module, width, num_modes)
    return Side(NEURALOPERATOR, peer, peer, local_peer.from_neuralop, seconds)


_PEERS: dict[str, Callable[[Side, int, Sequence[int]], Side | None]] = {
    "fno": _fno,
    "tfno": _tfno,
    "localno": _localno,
}


def activation_bytes(batch: int, width: int, grid: Sequence[int]) -> int:
    """Return ``V``, the bytes of one activation field in float32."""
    return 4 * batch * width * math.prod(grid)


def smooth_input(batch: int, grid: Sequence[int]) -> Tensor:
    """Return standard normal fields; timing does not depend on their smoothness."""
    return torch.randn(batch, 1, *grid)
