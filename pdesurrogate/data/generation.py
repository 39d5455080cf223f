"""Generation of data sets: an ensemble of solutions to the split files of a folder.

Every trajectory is a function of the generator's options and of its own number, and of nothing else: not of the batch
it is solved in, the number of threads, or the shard. Frames go to disk trajectory by trajectory.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pdesurrogate.launch import local_rank, rank_and_size
from pdesurrogate.registry import did_you_mean, load_plugins
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.generator import TrajectoryGenerator

from .files import size_text
from .progress import Progress
from .shards import Shard, copy_shards, remove_shards
from .solving import solve_batch
from .split_files import FIRST_TRAJECTORY, SplitFile, is_there
from .store import StoreWriter
from .store_writer import FileTaken

log = logging.getLogger(__name__)


def generate(config: Mapping[str, Any]) -> None:
    """Generate the data set of a composed configuration.

    Processes that torchrun or ``srun`` started together share the work out: each solves a shard of it.

    Args:
        config: plain containers with ``data.root``, ``data.generator`` (``kind``, its options and
            ``num_trajectories`` by split), ``batch_size``, ``device``, ``overwrite``, ``shard`` and ``plugins``.

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
        shard=_shard(config.get("shard")),
    )


def _shard(asked: str | None) -> str | None:
    """Return the shard of this process: what is asked for, divided among the processes that work on it."""
    rank, size = rank_and_size()
    shard = (Shard(0, 1) if asked is None else Shard.parse(asked)).divided(rank, size)
    return str(shard) if shard.count > 1 else None


def generate_splits(
    generator: TrajectoryGenerator,
    root: str | Path,
    num_trajectories: Mapping[str, int],
    *,
    batch_size: int = 16,
    device: str = "auto",
    overwrite: bool = False,
    shard: str | None = None,
) -> dict[str, Path]:
    """Write ``train.h5``, ``valid.h5`` and ``test.h5`` in a folder and return their paths.

    Finished files with the same options are kept, interrupted ones continued, complete shards copied. Memory holds
    one batch. With ``shard``, only that part of every split is solved, and a split whose shards are all complete
    is joined from them; the other paths that are returned have no file yet.

    Args:
        generator: the ensemble.
        root: the folder.
        num_trajectories: number of trajectories of each split that is wanted.
        batch_size: trajectories in memory at a time; on a GPU they are solved together.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ..
        overwrite: replace files that were made with other options.
        shard: ``"1/4"`` for the second of four parts, None for everything.

    Raises:
        ValueError: if a split or number is out of range, a file with other options is there and ``overwrite`` is
            false, the disk is too small, or a trajectory cannot be solved (those before it are kept).
        KeyboardInterrupt: on Ctrl-C; says how to go on.
    """
    splits = _plan(Path(root), num_trajectories, batch_size)
    mine = None if shard is None else Shard.parse(shard)
    where = _choose_device(device)
    wanted = [split for split in splits if not is_there(split, generator, overwrite)]
    files = wanted if mine is None else [file for split in wanted if (file := mine.of(split)) is not None]
    missing = [file for file in files if mine is None or not is_there(file, generator, overwrite)]
    _check_disk_space(missing, generator)
    for file in missing:
        _generate_file(file, generator, batch_size, where)
    if mine is not None:
        for split in wanted:
            _join(split, mine, generator, batch_size, where)
    return {split.split: split.path for split in splits}


def _plan(root: Path, num_trajectories: Mapping[str, int], batch_size: int) -> list[SplitFile]:
    if not isinstance(num_trajectories, Mapping):
        raise ValueError(
            f"num_trajectories is {num_trajectories!r}; give a number for each split: {{train: 64, valid: 8}}."
        )
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
    """Return the device; ``auto`` deals the GPUs of a machine out to the processes on it."""
    if device == "auto":
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device("cuda", local_rank() % num_gpus) if num_gpus else torch.device("cpu")
    try:
        return torch.zeros(1, dtype=torch.float64, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}, which cannot be used here ({str(error).splitlines()[0]}). Use auto, cpu or a "
            "CUDA device; solvers need float64."
        ) from error


def _check_disk_space(files: Sequence[SplitFile], generator: TrajectoryGenerator) -> None:
    """Refuse a job that will not fit; unfinished files have their space already.

    Raises:
        ValueError: with the bytes that are needed and free.
    """
    frame_bytes = 4 * generator.spec.num_channels * math.prod(generator.grid)
    fresh = [file for file in files if not file.part.exists()]
    if not fresh:
        return
    needed = frame_bytes * len(generator.times) * sum(file.num_trajectories for file in fresh)
    folder = fresh[0].path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{', '.join(str(file.path) for file in fresh)} need {size_text(needed)} together and "
            f"{size_text(free)} are free there. Free some space, choose another data.root, or ask for fewer "
            "trajectories or frames or a coarser grid."
        )


def _generate_file(
    file: SplitFile, generator: TrajectoryGenerator, batch_size: int, device: torch.device
) -> None:
    """Solve what a file lacks, after taking what complete shards have, and publish it."""
    try:
        writer = StoreWriter(
            file.path,
            spec=generator.spec,
            grid=generator.grid,
            num_trajectories=file.num_trajectories,
            times=generator.times,
            attributes=file.attributes(generator),
        )
        with writer:
            shards = [] if file.shard else copy_shards(file, generator, writer)
            pending = list(writer.pending)
            num_frames = len(generator.times)
            log.info("%s: %d trajectories of %d frames to solve", file.path, len(pending), num_frames)
            with Progress(file.title, len(pending) * num_frames, units_per_item=num_frames) as progress:
                for start in range(0, len(pending), batch_size):
                    batch = pending[start : start + batch_size]
                    for trajectory, frames in solve_batch(file, generator, batch, device, progress.advance):
                        index = file.first_trajectory + trajectory
                        writer.write(trajectory, frames, generator.parameters([index])[0])
            writer.finish()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"Interrupted. Finished trajectories are kept in {file.part}; run the same command again to go on."
        ) from interrupt
    log.info("%s is finished.", file.path)
    remove_shards(file, shards)


def _join(
    split: SplitFile, shard: Shard, generator: TrajectoryGenerator, batch_size: int, device: torch.device
) -> None:
    """Make the file of a split from its shards if all are there; say which are missing otherwise."""
    missing = [file.shard for file in shard.all_of(split) if not file.path.exists()]
    if split.path.exists():  # another process was faster
        return
    if missing:
        log.info("%s is made when all its shards are complete; missing: %s.", split.path, ", ".join(missing))
        return
    try:
        _generate_file(split, generator, batch_size, device)
    except ValueError as error:
        if not isinstance(error, FileTaken) and not split.path.exists():
            raise
        log.info("%s is joined from its shards by another process.", split.path)
