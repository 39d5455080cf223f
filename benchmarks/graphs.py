"""Training steps as CUDA graphs: ours as the application records them, and anybody's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pdesurrogate.fields import Batch
from pdesurrogate.training.captured_step import CapturedStep, CudaRecorder

GRAPH = ", CUDA graph"
WARM_UP = 3


def batch_of(history: Tensor, future: Tensor) -> Batch:
    """Return a batch of windows ``(batch, time, channel, *space)`` without parameters."""
    nothing = torch.zeros(len(history), dtype=torch.int64, device=history.device)
    return Batch(history, future, history.new_zeros(len(history), 0), nothing, nothing)


def captured(
    losses: Callable[[Batch], Tensor], optimiser: torch.optim.Optimizer, batch: Batch
) -> Callable[[], object]:
    """Return a recorded step of the application, see `CapturedStep`."""
    step = CapturedStep(losses, optimiser, max_norm=None, warm_up=WARM_UP)
    for _ in range(WARM_UP + 1):  # so that the recording is behind it
        step(batch)
    return lambda: step(batch)


def recorded(step: Callable[[], Tensor]) -> Callable[[], object]:
    """Return the replay of any step; its optimiser must be ``capturable``."""
    recorder = CudaRecorder()
    for _ in range(WARM_UP):
        recorder.warm_up(step)
    replay = recorder.record(step)[0]
    kept = [step]  # and with it the optimiser, whose moments the graph writes

    def run() -> None:
        kept[0]
        replay()

    return run


def steps_or_reasons(
    makers: dict[str, Callable[[], Callable[[], object]]],
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Return the steps that can be recorded, and why others cannot."""
    steps: dict[str, Callable[[], object]] = {}
    reasons: dict[str, str] = {}
    for name, make in makers.items():
        try:
            steps[name] = make()
        except RuntimeError as error:  # what a library does inside may not be recordable
            reasons[name] = str(error).splitlines()[0]
    return steps, reasons
