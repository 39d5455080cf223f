"""Solving a batch of trajectories: one thread each on CPUs, together elsewhere.

Library kernels round differently when work is cut up differently. On CPUs each trajectory is therefore solved by
itself on one thread, many at a time: neither the batch size nor the number of threads can change a bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float32

from pdesurrogate.solvers.generator import TrajectoryGenerator

from .split_files import SplitFile


def solve_batch(
    file: SplitFile,
    generator: TrajectoryGenerator,
    batch: Sequence[int],
    device: torch.device,
    advance: Callable[[int], None],
) -> Iterator[tuple[int, Float32[np.ndarray, "time channel *space"]]]:
    """Yield the trajectories of a batch as they are ready.

    Args:
        file: whose trajectories they are.
        generator: the ensemble.
        batch: which of the file's trajectories.
        device: where to solve.
        advance: told how many frames have been solved.
    """
    stop = threading.Event()

    def solve(trajectories: Sequence[int]) -> Float32[np.ndarray, "batch time channel *space"]:
        indices = [file.first_trajectory + i for i in trajectories]
        names = [f"{file.start + i} of {file.split}" for i in trajectories]
        shape = (len(indices), len(generator.times), generator.spec.num_channels, *generator.grid)
        frames = np.empty(shape, dtype=np.float32)
        with torch.inference_mode():
            for k, frame in enumerate(generator.frames(indices, device, names)):
                if stop.is_set():
                    break
                frames[:, k] = frame.cpu().numpy()
                advance(len(indices))
        return frames

    groups = [[i] for i in batch] if device.type == "cpu" else [list(batch)]
    with _one_thread_each(device) as num_threads, ThreadPoolExecutor(min(num_threads, len(groups))) as pool:
        try:
            jobs = {pool.submit(solve, group): group for group in groups}
            for job in as_completed(jobs):
                yield from zip(jobs[job], job.result(), strict=True)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _one_thread_each(device: torch.device) -> Iterator[int]:
    """Give every trajectory one thread of torch; yield how many threads there are to share out."""
    if device.type != "cpu":
        yield 1
        return
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(num_threads)
