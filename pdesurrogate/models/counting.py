"""How large a model would be, without the memory that it would take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..fields import DataSpec
from . import MODELS
from .matching import num_real_parameters

_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn})
_SMALL = 2**16
"""Numbers of a tensor that is made all the same: what a constructor reads, such as tables, can be read then."""


def count_parameters(
    kind: str, spec: DataSpec, history: int, horizon: int, options: Mapping[str, Any]
) -> int | None:
    """Return the real degrees of freedom of a model, built with large tensors that have a shape and no numbers.

    The state of the random numbers is left as it was.

    Args:
        kind: registered name of the model.
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        options: of the model.

    Returns:
        The number; None for a model whose constructor cannot do without the numbers.
    """
    try:
        with torch.random.fork_rng(devices=[]), _LargeTensorsEmpty():
            return num_real_parameters(MODELS.build(kind, spec, history, horizon, **options))
    except (RuntimeError, MemoryError):  # memory is short, or numbers are asked for that are not there
        return None


class _LargeTensorsEmpty(TorchFunctionMode):
    """Makes large new tensors on the device ``meta``."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES and _size(args, kwargs) > _SMALL:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _size(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    shape = kwargs.get("size", args)
    if len(shape) == 1 and not isinstance(shape[0], int):
        shape = shape[0]
    return math.prod(shape)
