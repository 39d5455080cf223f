"""Random windows from files: our store and our readers against the loaders of the field.

    python -m benchmarks.loading grid=128 name=loading

One file is written in each layout, and the same random windows are fetched from it in batches, in the process that
measures:

- The Well's schema: `WellDataset` with grids and boundaries switched off and its samples collated, our reader of the
  same file, and our store.
- PDEArena's shards of 14 frames in double precision: what its training pipe does with h5py for a window, which is to
  read the whole trajectory of every field, to convert it and to cut the window out; our reader, and our store.
- neuraloperator's ``.pt``: its `PTDataset`, which holds the file in memory and collates samples, and our reader, which
  maps the file. A window of ours holds four maps (nothing, the forcing, the solution, the forcing) and a sample of
  theirs two.

Our store is measured as it is read from its file, and as it is held in memory, which is the default where it fits. The
floor is one copy of the numbers of our batches from memory to memory: no loader that hands out batches of their own is
faster. Files lie in the page cache. Batches are compared before anything is timed; only what a loader does is timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdesurrogate.data import DATASETS
from pdesurrogate.data.opening import open_data
from pdesurrogate.data.rechunked import write_store
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.data.well_writer import write_well
from pdesurrogate.fields import Axis, Batch, DataSpec, Field

from .harness import CLOCKS, compare, interleave, require_equal
from .options import OptionError, parse_options, require_one_of, run_command
from .record import Record, check_name

STORE, HELD, READER = "pdesurrogate, store", "pdesurrogate, held in memory", "pdesurrogate, the file"
FLOOR = "floor: one copy of our batches"
ARENA_FRAMES = 14
COLD_BYTES = 2**28
"""More than a processor's caches hold."""


@dataclass(frozen=True)
class Contestant:
    """A loader.

    Attributes:
        run: makes all batches, one after the other, in its own form.
        windows: from such a batch to ``(window, time, channel, *space)``, for the comparison.
    """

    run: Callable[[], Iterator[Any]]
    windows: Callable[[Any], Tensor]

    def joined(self) -> dict[str, Tensor]:
        """Return the windows of all batches."""
        return {"windows": torch.cat([self.windows(batch) for batch in self.run()])}

    def exhaust(self) -> None:
        """Make all batches and let go of each, as training does."""
        for _ in self.run():
            pass


Contestants = tuple[str, dict[str, Contestant]]


@dataclass(frozen=True)
class LoadingOptions:
    """What can be given as ``key=value``."""

    grid: int = 128
    trajectories: int = 16
    frames: int = 40
    history: int = 4
    windows: int = 64
    batch: int = 16
    repeats: int = 21
    clock: str = "thread"
    name: str = ""

    def __post_init__(self) -> None:
        if min(self.grid, self.trajectories, self.history, self.windows, self.batch, self.repeats) < 1:
            raise OptionError("grid, trajectories, history, windows, batch and repeats must be at least 1.")
        if self.frames <= self.history:
            raise OptionError(f"frames={self.frames} must be more than history={self.history}.")
        require_one_of("clock", self.clock, list(CLOCKS))
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write if there is a name."""
    options = parse_options(LoadingOptions, words)
    torch.set_num_threads(1)
    settings = {
        "threads": 1,
        "clock": options.clock,
        "allocator": "default",
        "repeats": options.repeats,
        "precision": "float32",
    }
    title = (
        f"Loading {options.windows} random windows of {options.history} + 1 frames, {options.grid} x {options.grid} "
        f"points, in batches of {options.batch}"
    )
    record = Record("loading", title, words, settings)
    if find_spec("the_well") is not None:
        record.content["versions"]["the_well"] = version("the_well")
    phases: dict[str, Any] = {}
    differences: dict[str, float] = {}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for phase, build in (("The Well", _well), ("PDEArena", _arena), ("neuraloperator", _neuralop)):
            if phase == "The Well" and find_spec("the_well") is None:
                print("The Well's package is not installed; pip install the_well adds it to the table.")
                continue
            baseline, loaders = build(Path(folder) / phase.replace(" ", "_"), options)
            expected = loaders[baseline].joined()
            for name, loader in loaders.items():
                if name != baseline:
                    error = require_equal(f"{phase}, {name}", loader.joined(), expected, 0.0)
                    differences[phase] = max(differences.get(phase, 0.0), error)
            runs = {name: loader.exhaust for name, loader in loaders.items()}
            runs[FLOOR], size = _floor(list(loaders[READER].run()))
            sizes[phase] = round(size / 2**20, 3)
            seconds = interleave(runs, repeats=options.repeats, clock=CLOCKS[options.clock])
            phases[phase] = compare(seconds, baseline)
            for name, row in phases[phase].items():
                rate = 1e3 * options.windows / row["milliseconds"]["median"]
                row["windows a second"] = float(f"{rate:.4g}")
                speedup = f"  {row['speedup']['median']:.2f}x" if "speedup" in row else ""
                print(f"{phase:16s} {name:32s} {rate:10.0f} windows/s{speedup}")
    record.add("phases", phases)
    record.add("equality", differences)
    record.add("MiB of our batches", sizes)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _set(folder: Path, options: LoadingOptions, fields: tuple[Field, ...], num_frames: int) -> Path:
    """Write a store of random numbers, all of it the train split, and return its folder."""
    spec = DataSpec(fields=fields, axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=1.0)
    rng = np.random.default_rng(0)
    shape = (num_frames, spec.num_channels, options.grid, options.grid)
    with StoreWriter(
        folder / "store" / "train.h5",
        spec=spec,
        grid=shape[2:],
        num_trajectories=options.trajectories,
        times=np.arange(num_frames, dtype=float),
        attributes={},
    ) as writer:
        for i in range(options.trajectories):
            writer.write(i, rng.standard_normal(shape, dtype=np.float32), np.zeros(0, np.float32))
        writer.finish()
    return folder / "store"


def _chosen(options: LoadingOptions, num_windows: int) -> list[list[int]]:
    """Return the windows of every batch, by number."""
    rng = np.random.default_rng(1)
    chosen = [int(i) for i in rng.integers(0, num_windows, options.windows)]
    return [chosen[first : first + options.batch] for first in range(0, len(chosen), options.batch)]


def _ours(
    section: Mapping[str, Any], options: LoadingOptions, chosen: Sequence[list[int]], cache: str = "none"
) -> Contestant:
    module = open_data({"history": options.history, "horizon": 1, "cache": cache, **section})
    windows = module.windows("train")

    def run() -> Iterator[Batch]:
        return (windows.batch(numbers) for numbers in chosen)

    return Contestant(run, lambda batch: torch.cat([batch.history, batch.future], dim=1))


def _of_store(folder: Path, options: LoadingOptions, chosen: Sequence[list[int]]) -> dict[str, Contestant]:
    section = {"kind": "store", "root": str(folder), "splits": {"train": "train.h5"}}
    return {STORE: _ours(section, options, chosen), HELD: _ours(section, options, chosen, "ram")}


def _floor(batches: Sequence[Batch]) -> tuple[Callable[[], None], int]:
    """Return a copy of the numbers of each batch, and how many bytes they are in all.

    What is copied changes from call to call, so that it comes from memory like the windows and not from a cache.
    """
    blocks = [torch.cat([batch.history.flatten(), batch.future.flatten()]) for batch in batches]
    size = sum(block.nbytes for block in blocks)
    sources = cycle([[block.clone() for block in blocks] for _ in range(min(64, 1 + COLD_BYTES // size))])

    def copy() -> None:
        for block in next(sources):
            block.clone()

    return copy, size


def _well(folder: Path, options: LoadingOptions) -> Contestants:
    from the_well.data import WellDataset
    from torch.utils.data import default_collate

    velocity = Field("velocity", kind="vector", components=("x", "y"))
    store = _set(folder, options, (Field("tracer"), Field("pressure"), velocity), options.frames)
    write_well(DATASETS.build("store", root=str(store), splits={"train": "train.h5"}), folder / "well")
    theirs = WellDataset(
        path=str(folder / "well" / "data" / "train"),
        normalization_path=str(folder / "well" / "stats.yaml"),
        n_steps_input=options.history,
        n_steps_output=1,
        return_grid=False,
        boundary_return_type=None,
    )
    chosen = _chosen(options, options.trajectories * (options.frames - options.history))

    def run() -> Iterator[Any]:
        return (default_collate([theirs[i] for i in numbers]) for numbers in chosen)

    def windows(batch: Any) -> Tensor:
        parts = [batch[key].permute(0, 1, 4, 3, 2) for key in ("input_fields", "output_fields")]
        return torch.cat(parts, dim=1)

    ours = {READER: _ours({"kind": "the_well", "root": str(folder / "well")}, options, chosen)}
    return "the_well", {"the_well": Contestant(run, windows), **ours, **_of_store(store, options, chosen)}


def _arena(folder: Path, options: LoadingOptions) -> Contestants:
    import h5py

    velocity = Field("velocity", kind="vector", components=("x", "y"))
    store = _set(folder, options, (Field("density"), velocity), ARENA_FRAMES)
    split = DATASETS.build("store", root=str(store), splits={"train": "train.h5"}).splits["train"]
    shard = folder / "arena" / "NavierStokes2D_train_1_0.50000.h5"
    shard.parent.mkdir(parents=True)
    with h5py.File(shard, "w") as file:
        frames = np.stack([split.frames(i, 0, ARENA_FRAMES) for i in range(options.trajectories)])
        for channel, name in enumerate(("u", "vx", "vy")):
            file[f"train/{name}"] = frames[:, :, channel].swapaxes(-1, -2).astype(np.float64)
        file["train/dt"] = np.ones(options.trajectories)
        file["train/buo_y"] = np.full(options.trajectories, 0.5)
    starts = ARENA_FRAMES - options.history
    chosen = _chosen(options, options.trajectories * starts)
    shards = h5py.File(shard, "r")["train"]

    def window(trajectory: int, start: int) -> tuple[Tensor, Tensor]:
        """Cut one window out of the trajectory that was read for it."""
        smoke, *components = (torch.tensor(shards[name][trajectory]) for name in ("u", "vx", "vy"))
        scalars, vectors = smoke[:, None].float(), torch.stack(components, dim=1).float()
        stop = start + options.history
        history, future = (
            torch.cat([scalars[part], vectors[part]], dim=1)[None]
            for part in (slice(start, stop), slice(stop, stop + 1))
        )
        return history, future

    def run() -> Iterator[Any]:
        for numbers in chosen:
            pairs = [window(*divmod(number, starts)) for number in numbers]
            yield tuple(torch.cat(side) for side in zip(*pairs, strict=True))

    baseline = "PDEArena's way, h5py"
    theirs = Contestant(run, lambda pair: torch.cat(pair, dim=1).transpose(-1, -2))
    ours = {READER: _ours({"kind": "pdearena", "root": str(shard)}, options, chosen)}
    copy = write_store(DATASETS.build("pdearena", root=str(shard)), folder / "copy")["train"]
    return baseline, {baseline: theirs, **ours, **_of_store(copy.parent, options, chosen)}


def _neuralop(folder: Path, options: LoadingOptions) -> Contestants:
    from neuralop.data.datasets.pt_dataset import PTDataset
    from torch.utils.data import default_collate

    count = options.trajectories * (options.frames - options.history)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        size = count if split == "train" else 2
        x, y = (torch.randn(size, options.grid, options.grid, generator=generator) for _ in range(2))
        torch.save({"x": x, "y": y}, folder / f"nsforcing_{split}_{options.grid}.pt")
    theirs = PTDataset(
        root_dir=folder,
        dataset_name="nsforcing",
        n_train=count,
        n_tests=[2],
        batch_size=options.batch,
        test_batch_sizes=[2],
        train_resolution=options.grid,
        test_resolutions=[options.grid],
        encode_input=False,
        encode_output=False,
    ).train_db
    chosen = _chosen(options, count)

    def run() -> Iterator[Any]:
        return (default_collate([theirs[i] for i in numbers]) for numbers in chosen)

    path = folder / f"nsforcing_train_{options.grid}.pt"
    section = {"kind": "neuralop_pt", "path": str(path), "equation": "nsforcing", "valid": 0, "history": 1}
    ours = {
        name: replace(_ours(section, options, chosen, cache), windows=lambda batch: batch.future[:, 0])
        for name, cache in ((READER, "none"), (HELD, "ram"))
    }
    collated = Contestant(run, lambda batch: torch.cat([batch["y"], batch["x"]], dim=1))
    return "neuraloperator", {"neuraloperator": collated, **ours}


if __name__ == "__main__":
    run_command(main)
