"""Time that a GPU takes for Li et al.'s set at viscosity 1e-5: 1200 trajectories to t = 20, 256² points kept at 64².

    python -m benchmarks.li_gpu name=li_gpu

Solves what ``data=navier_stokes/li_v1e-5`` describes and writes it as ``data/generate.py`` does, in steps of one
length for all trajectories: a batch on a GPU advances together. Nothing is timed before a first short batch has
loaded and planned everything.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pdesurrogate.data.generation import generate_splits

from .devices import choose_device
from .options import parse_options, require_at_least_1, run_command
from .record import Record, check_name
from .solver_error import build, yaml_options


@dataclass(frozen=True)
class GpuOptions:
    """What can be given as ``key=value``."""

    data: str = "navier_stokes/li_v1e-5"
    trajectories: int = 1200
    batch: int = 200
    dt: float = 0.003125
    solve_grid: int = 256
    num_frames: int = 20
    device: str = "cuda"
    folder: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "trajectories", "batch", "num_frames")
        choose_device(self.device, "Try it on the processor with device=cpu trajectories=1 num_frames=1.")
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Generate the set, print the seconds, and write them if the result has a name."""
    options = parse_options(GpuOptions, words)
    given = yaml_options(options.data)
    changes: dict[str, Any] = {"courant": None, "dt": options.dt, "solve_grid": options.solve_grid}
    with torch.inference_mode():
        for _ in build(given, {**changes, "num_frames": 1}).frames(range(options.batch), options.device):
            pass
    generator = build(given, {**changes, "num_frames": options.num_frames})
    is_cuda = options.device.startswith("cuda")
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    record = Record(
        "li_gpu", f"{options.data} on {options.device}", words, {"batch": options.batch, "dt": options.dt}
    )
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        generate_splits(
            generator,
            options.folder or scratch,
            {"train": options.trajectories},
            batch_size=options.batch,
            device=options.device,
        )
        seconds = time.perf_counter() - start
    record.add("seconds", round(seconds, 2))
    record.add("trajectories", options.trajectories)
    print(f"{options.trajectories} trajectories of {options.num_frames} frames: {seconds:.1f} s")
    print(f"{1e3 * seconds / options.trajectories:.1f} ms a trajectory, written to disk")
    if is_cuda:
        peak = torch.cuda.max_memory_allocated() / 2**30
        record.add("device", torch.cuda.get_device_name())
        record.add("peak_memory_GiB", round(peak, 2))
        print(f"{torch.cuda.get_device_name()}, {peak:.1f} GiB at the peak")
    if options.name:
        print(f"written to {record.write(options.name).name}")


if __name__ == "__main__":
    run_command(main)
