"""Running out of memory, said in a sentence: how much a step takes, and which settings lower it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

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
        if not (isinstance(error, torch.OutOfMemoryError) or _CPU_ALLOCATOR in str(error)):
            raise
        raise ValueError(_advice(model, kind, grid, batch_size)) from error


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


def _is_set(model: nn.Module, option: str) -> bool:
    name, _, value = option.partition("=")
    return bool(value) and getattr(model, name, None) == value
