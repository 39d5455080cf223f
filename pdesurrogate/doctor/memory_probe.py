"""Measure training steps: ``python -m pdesurrogate.doctor.memory_probe`` reads a request and writes peaks, both JSON.

A peak is what the process holds at most (on a GPU, what PyTorch has allocated at most) above what it held before the
model was built: weights, gradients, state of the optimiser, activations and workspaces.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..fields import Batch, DataSpec, Normaliser
from ..metrics import METRICS
from ..models import MODELS
from ..registry import load_plugins
from ..surrogate import Surrogate
from ..training import UNROLLS
from ..training.optimisation import Optimisation
from ..training.unrolls import ChangingUnroll, build_unroll

AFTER_CURRICULA = 10**9
"""An optimiser step by which unrolls that grow are at their largest."""


def measure(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the peaks of steps on one, two and ``batch`` samples, and the seconds of a step on the last.

    The last is left out if it would take more than ``budget`` bytes by the first two.
    """
    load_plugins(asked["plugins"])
    device = torch.device(asked["device"])
    METRICS.names(), MODELS.names(), UNROLLS.names()  # modules that they import are not the step's
    before = held(device)
    step = _step(asked, device)
    peaks = []
    for batch in (1, 2):
        step(batch)
        peaks.append(held(device) - before)
    growth, budget, batch = peaks[1] - peaks[0], asked["budget"], asked["batch"]
    if budget is not None and peaks[0] + (batch - 1) * growth > budget:
        return {"peaks": peaks}
    step(batch)
    begin = time.perf_counter()
    step(batch)
    return {"peaks": [*peaks, held(device) - before], "seconds": time.perf_counter() - begin}


def held(device: torch.device) -> int:
    """Return the bytes that were held at most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _step(asked: Mapping[str, Any], device: torch.device) -> Any:
    """Return a function that trains on a number of random samples for one step."""
    spec = DataSpec.from_dict(asked["spec"])
    options = dict(asked["model"])
    history, horizon = asked["history"], asked["horizon"]
    model = MODELS.build(options.pop("kind"), spec, history, horizon, **options)
    ones, zeros = [1.0] * spec.num_channels, [0.0] * spec.num_channels
    of_parameters = [0.0] * spec.num_parameters, [1.0] * spec.num_parameters
    normaliser = Normaliser(zeros, ones, *of_parameters, increment_std=ones)
    dtype = torch.float64 if asked["precision"].startswith("64") else torch.float32
    surrogate = Surrogate(spec, normaliser, model, history=history, horizon=horizon, predict=asked["predict"])
    surrogate = surrogate.to(device, dtype).train()
    unroll = build_unroll(asked["unroll"], horizon)
    metric = METRICS.get(asked["loss"]["kind"])
    optimiser, _ = Optimisation(**asked["optim"]).build(surrogate.parameters(), 100)

    def context() -> AbstractContextManager[Any]:
        mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(asked["precision"])
        return nullcontext() if mixed is None else torch.autocast(device.type, dtype=mixed)

    def step(batch: int) -> None:
        shape = (spec.num_channels, *asked["grid"])
        index = torch.zeros(batch, dtype=torch.long, device=device)
        window = Batch(
            torch.randn(batch, history, *shape, device=device, dtype=dtype),
            torch.randn(batch, asked["future"], *shape, device=device, dtype=dtype),
            torch.randn(batch, spec.num_parameters, device=device, dtype=dtype),
            index,
            index,
        )
        with context():
            if isinstance(unroll, ChangingUnroll):
                prediction, truth = unroll.learn(surrogate, window, AFTER_CURRICULA)
            else:
                prediction, truth = unroll(surrogate, window), window.future
            loss = metric(prediction, truth, spec).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


if __name__ == "__main__":
    try:
        answer = measure(json.loads(sys.stdin.read()))
    except torch.OutOfMemoryError:
        sys.exit(137)
    sys.stdout.write(json.dumps(answer) + "\n")
