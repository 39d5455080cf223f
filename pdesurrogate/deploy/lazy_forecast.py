"""Forecasts as dask arrays: a chain of tasks a batch of samples, each of which takes one step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..surrogate import Surrogate
from .labelled_input import LabelledInput
from .prediction import finite, forecast_channels


def lazy_arrays(surrogate: Surrogate, given: LabelledInput, steps: int, batch_size: int) -> dict[str, Any]:
    """Return the channels of a forecast, ``(sample, lead_time, *space)``, as dask arrays in chunks of one step.

    A task hands on the window that the next one starts from, so that a scheduler that stores chunks as they come holds
    a few frames however long the forecast is. Two threads never run the model at once.
    """
    import dask.array as da
    from dask.delayed import delayed
    from dask.utils import SerializableLock

    channels, lock = forecast_channels(given), SerializableLock()
    read = delayed(_read, pure=False)
    advance = delayed(_advance, nout=2, pure=False)
    owner = delayed(_Stepper(surrogate, given, lock), traverse=False)
    rows: dict[str, list[Any]] = {name: [] for name in channels}
    for first in range(0, given.num_samples, batch_size):
        samples = range(first, min(first + batch_size, given.num_samples))
        window = read(owner, samples)
        blocks: dict[str, list[Any]] = {name: [] for name in channels}
        for start in range(0, steps, surrogate.horizon):
            count = min(surrogate.horizon, steps - start)
            frames, window = advance(owner, window, samples, start, count)
            for name, channel in channels.items():
                shape = (len(samples), count, *given.grid)
                blocks[name].append(da.from_delayed(frames[:, :, channel], shape, dtype="float32"))
        for name in channels:
            rows[name].append(da.concatenate(blocks[name], axis=1))
    return {name: da.concatenate(row, axis=0) for name, row in rows.items()}


class _Stepper:
    """What every task needs, in one node of the graph."""

    def __init__(self, surrogate: Surrogate, given: LabelledInput, lock: Any) -> None:
        self.surrogate, self.given, self.lock = surrogate, given, lock


def _read(owner: _Stepper, samples: range) -> tuple[Tensor, Tensor]:
    return owner.given.window(samples)


def _advance(
    owner: _Stepper, window: tuple[Tensor, Tensor], samples: range, start: int, count: int
) -> tuple[Any, tuple[Tensor, Tensor]]:
    """Return ``count`` frames ``(sample, time, channel, *space)`` and the window that follows them."""
    surrogate, device = owner.surrogate, owner.surrogate.normaliser.mean.device
    history, parameters = (tensor.to(device) for tensor in window)
    with owner.lock:
        frames = list(surrogate.rollout(history, parameters, count))
    arrays = [finite(owner.given, samples, start + i, frame) for i, frame in enumerate(frames)]
    following = torch.cat([history, torch.stack(frames, dim=1)], dim=1)[:, -surrogate.history :]
    return np.stack(arrays, axis=1), (following.cpu(), parameters.cpu())
