"""Generation of data sets: an ensemble of solutions to the split files of a folder.

Every trajectory is a function of the generator's options and of its own number, and of nothing else. On CPUs
each is therefore solved by itself on one thread, many at a time: library kernels round differently when
work is cut up differently, and this way neither the batch size nor the number of threads can change a bit.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float32

from pdesurrogate.registry import did_you_mean, load_plugins
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.generator import TrajectoryGenerator

from .progress import Progress
from .store import StoredTrajectories, StoreWriter

log = logging.getLogger(__name__)

FIRST_TRAJECTORY = {"train": 0, "valid": 2**30, "test": 2**31}
"""Number of each split's first trajectory in the ensemble. Splits share none, and a split that grows keeps its
trajectories and leaves the others alone."""


@dataclass(frozen=True)
class SplitFile:
    """One file to be made.

    Attributes:
        name: the split.
        path: the file's final name.
        num_trajectories: how many trajectories it holds.
    """

    name: str
    path: Path
    num_trajectories: int


def generate(config: Mapping[str, Any]) -> None:
    """Generate the data set of a composed configuration.

    Args:
        config: plain containers with ``data.root``, ``data.generator`` (``kind``, its options and
            ``num_trajectories`` by split), ``batch_size``, ``device``, ``overwrite`` and ``plugins``.

    Raises:
        ValueError: if the configuration names no generator or a wrong option, and as `generate_splits`.
    """
    load_plugins(config.get("plugins", []))
    data = config["data"]
    if not isinstance(config["overwrite"], bool):
        raise ValueError(f"overwrite is {config['overwrite']!r}; it must be true or false.")
    options = dict(data.get("generator") or {})
    if "kind" not in options or "num_trajectories" not in options:
        raise ValueError(
            "this data set cannot be generated: its yaml has no generator with kind and num_trajectories. Choose "
            "one that has (data=navier_stokes), or download the files that its page in data/README.md names. "
            f"Generators: {', '.join(GENERATORS.names())}."
        )
    kind, num_trajectories = options.pop("kind"), options.pop("num_trajectories")
    generator = GENERATORS.build(kind, **options)
    generate_splits(
        generator,
        data["root"],
        num_trajectories,
        batch_size=config["batch_size"],
        device=config["device"],
        overwrite=config["overwrite"],
    )


def generate_splits(
    generator: TrajectoryGenerator,
    root: str | Path,
    num_trajectories: Mapping[str, int],
    *,
    batch_size: int = 16,
    device: str = "auto",
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write ``train.h5``, ``valid.h5`` and ``test.h5`` in a folder and return their paths.

    Finished files with the same options are kept, interrupted ones continued. Memory holds one batch.

    Args:
        generator: the ensemble.
        root: the folder.
        num_trajectories: number of trajectories of each split that is wanted.
        batch_size: trajectories in memory at a time; on a GPU they are solved together.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ..
        overwrite: replace files that were made with other options.

    Raises:
        ValueError: if a split or number is out of range, a file with other options is there and ``overwrite`` is
            false, the disk is too small, or a trajectory cannot be solved (those before it are kept).
        KeyboardInterrupt: on Ctrl-C; says how to go on.
    """
    splits = _plan(Path(root), num_trajectories, batch_size)
    where = _choose_device(device)
    missing = [split for split in splits if not _is_there(split, generator, overwrite)]
    _check_disk_space(missing, generator)
    for split in missing:
        try:
            _generate_split(split, generator, batch_size, where)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                f"Interrupted. Finished trajectories are kept in {_part(split)}; run the same command again to go on."
            ) from interrupt
    return {split.name: split.path for split in splits}


def _plan(root: Path, num_trajectories: Mapping[str, int], batch_size: int) -> list[SplitFile]:
    for name, number in num_trajectories.items():
        if name not in FIRST_TRAJECTORY:
            raise ValueError(
                f"num_trajectories names the split {name!r}.{did_you_mean(name, FIRST_TRAJECTORY)} "
                f"Splits: {', '.join(FIRST_TRAJECTORY)}."
            )
        if not isinstance(number, int) or not 1 <= number <= 2**30:
            raise ValueError(f"num_trajectories.{name} is {number}; it must be an integer from 1 to 2^30.")
    if not num_trajectories:
        raise ValueError(f"num_trajectories is empty; give a number for {', '.join(FIRST_TRAJECTORY)}.")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be an integer from 1 upwards.")
    return [SplitFile(name, root / f"{name}.h5", number) for name, number in num_trajectories.items()]


def _choose_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, dtype=torch.float64, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}, which cannot be used here ({str(error).splitlines()[0]}). Use auto, cpu or a "
            "CUDA device; solvers need float64."
        ) from error


def _attributes(split: SplitFile, generator: TrajectoryGenerator) -> dict[str, Any]:
    return {**generator.attributes, "split": split.name, "first_trajectory": FIRST_TRAJECTORY[split.name]}


def _is_there(split: SplitFile, generator: TrajectoryGenerator, overwrite: bool) -> bool:
    """Whether the finished file is there, made with the same options; refuse or remove another."""
    if split.path.exists():
        differences = _differences(split, generator)
        if not differences:
            log.info("%s is already there, made with the same options: kept.", split.path)
            return True
        if not overwrite:
            raise ValueError(
                f"{split.path} is there already and was made with other options: {'; '.join(differences)}. Give "
                "overwrite=true to replace it, another data.root=FOLDER to keep both, or restore the options."
            )
        log.info("%s is replaced: %s.", split.path, "; ".join(differences))
        split.path.unlink()
    part = _part(split)
    if overwrite and part.exists() and _unfinished_differs(part, split, generator):
        log.info("%s, left by an interruption, was made with other options: removed.", part)
        part.unlink()
    return False


def _differences(split: SplitFile, generator: TrajectoryGenerator) -> list[str]:
    """Return what distinguishes a finished file from the one that is asked for, apart from the version."""
    stored = StoredTrajectories(split.path)
    found = stored.spec.mismatches(generator.spec)
    pairs: list[tuple[str, Any, Any]] = [
        ("grid", stored.grid, generator.grid),
        ("num_trajectories", stored.num_trajectories, split.num_trajectories),
        ("num_frames", stored.num_frames, len(generator.times)),
        ("first frame at t", float(stored.times[0]), float(generator.times[0])),
    ]
    wanted = _attributes(split, generator)
    pairs += [
        (name, stored.attributes.get(name), wanted[name]) for name in wanted if name != "pdesurrogate_version"
    ]
    return found + [
        f"{name} is {there} there and {here} here" for name, there, here in pairs if there != here
    ]


def _unfinished_differs(part: Path, split: SplitFile, generator: TrajectoryGenerator) -> bool:
    try:
        with h5py.File(part, "r") as file:
            attributes = dict(file.attrs)
            shape = file[generator.spec.channel_names[0]].shape
    except BlockingIOError as error:
        raise ValueError(
            f"{part} is being written by another process; wait until it has finished."
        ) from error
    except (OSError, KeyError):
        return True
    wanted = _attributes(split, generator)
    return any(attributes.get(name) != value for name, value in wanted.items()) or shape != (
        split.num_trajectories,
        len(generator.times),
        *generator.grid,
    )


def _part(split: SplitFile) -> Path:
    return split.path.with_name(split.path.name + ".part")


def _check_disk_space(splits: Sequence[SplitFile], generator: TrajectoryGenerator) -> None:
    """Refuse a job that will not fit; unfinished files have their space already.

    Raises:
        ValueError: with the bytes that are needed and free.
    """
    frame_bytes = 4 * generator.spec.num_channels * math.prod(generator.grid)
    fresh = [split for split in splits if not _part(split).exists()]
    if not fresh:
        return
    needed = frame_bytes * len(generator.times) * sum(split.num_trajectories for split in fresh)
    folder = fresh[0].path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{', '.join(str(split.path) for split in fresh)} need {needed / 2**30:.2f} GiB together and "
            f"{free / 2**30:.2f} GiB are free there. Free some space, choose another data.root, or ask for fewer "
            "trajectories or frames or a coarser grid."
        )


def _generate_split(
    split: SplitFile, generator: TrajectoryGenerator, batch_size: int, device: torch.device
) -> None:
    writer = StoreWriter(
        split.path,
        spec=generator.spec,
        grid=generator.grid,
        num_trajectories=split.num_trajectories,
        times=generator.times,
        attributes=_attributes(split, generator),
    )
    with writer:
        pending = list(writer.pending)
        num_frames = len(generator.times)
        log.info("%s: %d trajectories of %d frames to solve", split.path, len(pending), num_frames)
        with Progress(split.name, len(pending) * num_frames, units_per_item=num_frames) as progress:
            for start in range(0, len(pending), batch_size):
                batch = pending[start : start + batch_size]
                for trajectory, frames in _solve(split, generator, batch, device, progress.advance):
                    index = FIRST_TRAJECTORY[split.name] + trajectory
                    writer.write(trajectory, frames, generator.parameters([index])[0])
        writer.finish()
    log.info("%s is finished.", split.path)


def _solve(
    split: SplitFile,
    generator: TrajectoryGenerator,
    batch: Sequence[int],
    device: torch.device,
    advance: Callable[[int], None],
) -> Iterator[tuple[int, Float32[np.ndarray, "time channel *space"]]]:
    """Yield the trajectories of a batch as they are ready: one thread each on CPUs, together elsewhere."""
    stop = threading.Event()

    def solve(trajectories: Sequence[int]) -> Float32[np.ndarray, "batch time channel *space"]:
        indices = [FIRST_TRAJECTORY[split.name] + i for i in trajectories]
        names = [f"{i} of {split.name}" for i in trajectories]
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
