"""Running out of memory, said in a sentence: how much a step or the weights take, and which settings lower it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..fields import DataSpec
from ..models import MODELS
from ..models.counting import count_parameters

_CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"


@contextmanager
def explain_out_of_memory(
    model: nn.Module, kind: str, grid: Sequence[int], batch_size: int
) -> Iterator[None]:
    """Turn a failed allocation into advice.

    Args:
        model: the one that is trained; see `pdesurrogate.models` for what it may tell of its memory.
        kind: its registered name.
        grid: sizes in space.
        batch_size: windows a step over all devices together.

    Raises:
        ValueError: if memory runs out meanwhile.
    """
    try:
        yield
    except RuntimeError as error:
        if not _ran_out(error):
            raise
        raise ValueError(_advice(model, kind, grid, batch_size)) from error


@contextmanager
def explain_too_large_model(
    kind: str, spec: DataSpec, history: int, horizon: int, options: Mapping[str, Any]
) -> Iterator[None]:
    """Turn a failed allocation while a model is built into advice.

    Args:
        kind: its registered name.
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        options: of the model.

    Raises:
        ValueError: if memory runs out meanwhile.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what was built so far
        count = count_parameters(kind, spec, history, horizon, options)
        raise ValueError(_advice_on_size(kind, count)) from error


def _ran_out(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _CPU_ALLOCATOR in str(error)


def _advice_on_size(kind: str, count: int | None) -> str:
    takes = "its weights do not fit"
    if count is not None:
        takes = (
            f"its {count:,} real parameters are {_gigabytes(4 * count)} of weights, in training "
            f"{_gigabytes(16 * count)} with gradients and moments (estimate)"
        )
    lowered = [f"model.{o}" for o in getattr(MODELS.get(kind), "memory_options", ()) if "=" not in o]
    advice = f"one of {', '.join(lowered)}" if lowered else "those of its options that set its size"
    return f"memory ran out while {kind} was built: {takes}. Lower {advice}."


def _advice(model: nn.Module, kind: str, grid: Sequence[int], batch_size: int) -> str:
    step = f"a step of {kind} on {' x '.join(map(str, grid))} points with data.batch_size={batch_size}"
    estimate = getattr(model, "training_memory", None)
    takes = (
        "" if estimate is None else f" takes about {estimate(grid, batch_size) / 1e9:.3g} GB (estimate) and"
    )
    has = (
        f", which has {torch.cuda.get_device_properties(0).total_memory / 1e9:.3g} GB"
        if torch.cuda.is_available()
        else ""
    )
    options = [option for option in getattr(model, "memory_options", ()) if not _is_set(model, option)]
    ways = ", ".join(["data.batch_size", "data.grid", *(f"model.{o}" for o in options if "=" not in o)])
    settings = " or ".join(f"model.{o}" for o in options if "=" in o)
    first = f"Set {settings}, or lower" if settings else "Lower"
    return (
        f"memory ran out: {step}{takes} does not fit this device{has}. {first} one of {ways}. What was trained "
        "before is in the run folder's checkpoints."
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.0f} GB" if size > 1e11 else f"{size / 1e9:.3g} GB"


def _is_set(model: nn.Module, option: str) -> bool:
    name, _, value = option.partition("=")
    return bool(value) and getattr(model, name, None) == value
