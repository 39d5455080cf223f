"""A whole optimisation step as one CUDA graph: forward pass, loss, backward pass, clipping and update.

A small operator on a fast GPU is bound by the host, which starts hundreds of kernels a step. A graph is recorded once
and started by one call. What a step needs from outside goes through memory that stays in place: the batch is copied
into the buffers of the first one, and the learning rate is a number on the device, which schedules fill.

A step whose gradient is not finite changes nothing: the update is skipped on the device, without asking the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch
from ..fields.fourier import keep_tables
from .skipped_steps import clip_or_leave_out

Losses = Callable[[Batch], Tensor]
Step = Callable[[], Tensor]


@runtime_checkable
class Recorder(Protocol):
    """How steps are run before and while they are recorded."""

    def warm_up(self, step: Step) -> Tensor:
        """Run a step that is to be recorded later."""
        ...

    def record(self, step: Step) -> tuple[Callable[[], None], Tensor]:
        """Record a step without running it; return what runs it, and its result, overwritten by every run.

        What the step reads and writes, an optimiser's moments for instance, must be kept for as long as it is run.
        """
        ...


class CudaRecorder:
    """Record steps of a CUDA device."""

    def warm_up(self, step: Step) -> Tensor:
        """Run the step on a stream of its own, where the allocator and libraries prepare what a graph needs."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = step()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def record(self, step: Step) -> tuple[Callable[[], None], Tensor]:
        """Return the replay of the step's graph, and its result."""
        graph = torch.cuda.CUDAGraph()
        # Threads that read ahead may pin memory meanwhile; only this thread's calls belong to the graph.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = step()
        return graph.replay, result


class CapturedStep:
    """Steps of an Adam optimiser on batches of one shape.

    The first ``warm_up`` steps run as they are, the next one is recorded, and it and all others are replayed. All of
    them are steps of the training. Batches of another shape are not taken; run them as usual, in between or later.

    Args:
        losses: from a batch to the loss of every sample; their mean is minimised.
        optimiser: ``Adam`` or ``AdamW``, fused; its learning rates become numbers on the device.
        max_norm: largest norm of the gradient; None for no clipping.
        count: called within every step, with 1 on the device if its gradient was not finite and otherwise 0.
        warm_up: steps before the recording.
        recorder: how steps are recorded.

    Raises:
        ValueError: if the optimiser is not fused, or there is no CUDA device for the default recorder.
    """

    def __init__(
        self,
        losses: Losses,
        optimiser: torch.optim.Optimizer,
        *,
        max_norm: float | None,
        count: Callable[[Tensor], None] | None = None,
        warm_up: int = 3,
        recorder: Recorder | None = None,
    ) -> None:
        weights = [w for group in optimiser.param_groups for w in group["params"]]
        device = weights[0].device
        if recorder is None and device.type != "cuda":
            raise ValueError(
                f"a captured step is a CUDA graph and the weights are on {device.type}. Train on a GPU "
                "(trainer=gpu), or without capture."
            )
        if not all(group.get("fused") for group in optimiser.param_groups):
            raise ValueError("a captured step needs a fused Adam optimiser: build it with fused=True.")
        for group in optimiser.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
            group["capturable"] = device.type == "cuda"
        self.losses, self.optimiser, self.max_norm, self.count = losses, optimiser, max_norm, count
        self.recorder: Recorder = CudaRecorder() if recorder is None else recorder
        self._weights = weights
        self._tables: list[object] = []  # read by the graph, hence not to be freed before it
        self._steps_to_warm_up = warm_up
        self._batch: Batch | None = None
        self._replay: Callable[[], None] | None = None
        self._result: Tensor | None = None

    def takes(self, batch: Batch) -> bool:
        """Return whether a batch has the shape of those before it."""
        return self._batch is None or _form(self._batch) == _form(batch)

    def __call__(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Take one step and return the losses before it; the next step overwrites them.

        Raises:
            ValueError: if the batch has another shape than those before it.
        """
        if self._batch is None:
            self._batch = Batch(*(t.clone() for t in batch.tensors()))
        elif _form(self._batch) != _form(batch):
            raise ValueError(
                f"this step is recorded for batches of {_form(self._batch)} and this one is {_form(batch)}."
            )
        for mine, given in zip(self._batch.tensors(), batch.tensors(), strict=True):
            mine.copy_(given, non_blocking=True)
        if self._steps_to_warm_up > 0:
            self._steps_to_warm_up -= 1
            return self.recorder.warm_up(self._step)
        if self._replay is None or self._result is None:
            # A cache of weights cast by autocast would hand memory of the graph to operations outside of it.
            cached = torch.is_autocast_cache_enabled()
            torch.set_autocast_cache_enabled(False)
            try:
                with keep_tables() as self._tables:
                    self._replay, self._result = self.recorder.record(self._step)
            finally:
                torch.set_autocast_cache_enabled(cached)
        self._replay()
        # A replay changes weights behind torch's back; what is kept with their versions must hear of it.
        torch.autograd.graph.increment_version(self._weights)
        return self._result

    def _step(self) -> Tensor:
        if self._batch is None:
            raise RuntimeError("a step was recorded before it had a batch.")
        self.optimiser.zero_grad(set_to_none=True)
        losses = self.losses(self._batch)
        losses.mean().backward()
        left_out = clip_or_leave_out(self.optimiser, self.max_norm)
        if self.count is not None:
            self.count(left_out)
        try:
            self.optimiser.step()
        finally:
            del self.optimiser.found_inf  # type: ignore[attr-defined]
        return losses.detach()


def _form(batch: Batch) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(t.shape) for t in batch.tensors())
