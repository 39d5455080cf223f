"""Memory and time of a training step, measured in a process of its own, which may fail without harm."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import torch

from ..data.datamodule import TrajectoryDataModule
from ..data.memory import available_memory
from .environment import devices_per_node, num_ranks, uses_gpu
from .findings import Finding, ok, problem, warning

log = logging.getLogger(__name__)

SHARE = 0.9
"""Share of the free memory that a step may take; the rest is for data, validation and fragments."""


def look_at_memory(config: Mapping[str, Any], data: TrajectoryDataModule) -> list[Finding]:
    """Return what a step of the chosen batch takes, measured, and whether that is there.

    Steps on one and two samples are measured first. If the chosen batch would not fit by them, it is not tried. What
    the data will take of a GPU is not free for steps.
    """
    ranks = num_ranks(config["trainer"], os.environ)
    batch = max(1, int(config["data"].get("batch_size", 16)) // ranks)
    on_gpu = uses_gpu(config["trainer"]) and torch.cuda.is_available()
    here = 1 if on_gpu else devices_per_node(config["trainer"])
    free = torch.cuda.mem_get_info()[0] if on_gpu else available_memory()
    if free is not None and on_gpu:
        try:
            free -= data.planned_on(torch.device("cuda"))
        except ValueError as error:
            return [problem("memory", str(error))]
    budget = None if free is None else int(SHARE * free / here)
    measured = probe(request(config, data, batch, budget, "cuda" if on_gpu else "cpu"))
    return [judge(measured, batch, budget, here, steps_per_epoch(data, config), config)]


def request(
    config: Mapping[str, Any], data: TrajectoryDataModule, batch: int, budget: int | None, device: str
) -> dict[str, Any]:
    """Return what the measuring process is told, plain types."""
    return {
        "plugins": list(config.get("plugins") or []),
        "spec": data.spec.to_dict(),
        "history": config["data"].get("history", 1),
        "horizon": config["data"].get("horizon", 1),
        "future": data.horizon,
        "grid": list(data.grid),
        "batch": batch,
        "budget": budget,
        "device": device,
        "precision": str(config["trainer"]["precision"]),
        **{key: config[key] for key in ("model", "unroll", "loss", "optim", "predict")},
    }


def probe(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Measure in a new process and return what it says; ``{"killed": signal}`` if it did not live to say it."""
    command = [sys.executable, "-m", "pdesurrogate.doctor.memory_probe"]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode < 0 or done.returncode == 137:
        return {"killed": done.returncode}
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def judge(
    measured: Mapping[str, Any],
    batch: int,
    budget: int | None,
    processes: int,
    steps: int,
    config: Mapping[str, Any],
) -> Finding:
    """Return what a measurement means for the batch of one process.

    Args:
        measured: answer of `probe`.
        batch: samples of one process.
        budget: bytes that one process may take, None where they are not known.
        processes: on this machine.
        steps: optimiser steps of an epoch.
        config: sections of a training.
    """
    advice = (
        "Or take data.grid smaller, model.width smaller, model.memory=minimal where the model has it, or more "
        "processes with the same data.batch_size."
    )
    if "error" in measured:
        return problem("memory", f"a training step fails: {measured['error']}")
    if "killed" in measured:
        return problem("memory", f"a step on {batch} samples was killed for want of memory. {advice}")
    one, two = measured["peaks"][:2]
    fits = "unknown" if budget is None else max(0, int((budget - one) / max(1, two - one)) + 1)
    if len(measured["peaks"]) < 3:
        there = "" if budget is None else f" and {_mib(budget)} are free for each of {processes} process(es)"
        return problem(
            "memory",
            f"one sample takes {_mib(one)} and two {_mib(two)}: {batch} would take about "
            f"{_mib(one + (batch - 1) * (two - one))}{there}. About {fits} fit: set data.batch_size. {advice}",
        )
    peak, seconds = measured["peaks"][2], measured["seconds"]
    epochs = int(config["trainer"]["max_epochs"])
    text = (
        f"a step on {batch} samples takes {_mib(peak)} at its peak and {seconds:.2g} s, measured; an epoch has {steps} "
        f"steps, {epochs} epochs about {_duration(epochs * steps * seconds)}"
    )
    if budget is not None and peak > budget:
        return warning(
            "memory", f"{text}; {_mib(budget)} are free for it. Take a smaller data.batch_size. {advice}"
        )
    return ok("memory", f"{text}{'' if budget is None else f'; {_mib(budget)} are free for it'}.")


def steps_per_epoch(data: TrajectoryDataModule, config: Mapping[str, Any]) -> int:
    """Return the number of optimiser steps of an epoch."""
    train = data.dataset.splits["train"]
    span = data.stride * (data.history + data.horizon - 1) + 1
    windows = train.num_trajectories * (train.num_frames - span + 1)
    return max(1, windows // min(windows, int(config["data"].get("batch_size", 16))))


def _mib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
