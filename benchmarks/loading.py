"""Random windows from files: our store and our readers against the loaders of the field.

    python -m benchmarks.loading grid=128 name=loading

One file is written in each layout, and the same random windows are fetched from it in batches, in the process that
measures:

- The Well's schema: `WellDataset` with grids and boundaries switched off and its samples collated, our reader of the
  same file, and our store.
- PDEArena's shards: a read with h5py for each window and field, as its loaders do, our reader, and our store.
- neuraloperator's ``.pt``: its `PTDataset`, which holds the file in memory, our reader, which maps it, and our store,
  which is held in memory too.

Files lie in the page cache. Batches are compared before anything is timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdesurrogate.data import DATASETS
from pdesurrogate.data.loader import Windows
from pdesurrogate.data.opening import open_data
from pdesurrogate.data.rechunked import write_store
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.data.well_writer import write_well
from pdesurrogate.fields import Axis, DataSpec, Field

from .harness import CLOCKS, compare, interleave, require_equal
from .options import OptionError, parse_options, require_one_of, run_command
from .record import Record, check_name

STORE, READER = "pdesurrogate, store", "pdesurrogate, the file"
Contestants = tuple[str, dict[str, Callable[[], list[Tensor]]]]


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
    differences = {}
    with tempfile.TemporaryDirectory() as folder:
        for phase, build in (("The Well", _well), ("PDEArena", _arena), ("neuraloperator", _neuralop)):
            if phase == "The Well" and find_spec("the_well") is None:
                print("The Well's package is not installed; pip install the_well adds it to the table.")
                continue
            baseline, runs = build(Path(folder) / phase.replace(" ", "_"), options)
            expected = _joined(runs[baseline]())
            for name, run in runs.items():
                if name != baseline:
                    error = require_equal(f"{phase}, {name}", _joined(run()), expected, 0.0)
                    differences[phase] = max(differences.get(phase, 0.0), error)
            seconds = interleave(runs, repeats=options.repeats, clock=CLOCKS[options.clock])
            phases[phase] = compare(seconds, baseline)
            for name, row in phases[phase].items():
                rate = 1e3 * options.windows / row["milliseconds"]["median"]
                row["windows a second"] = float(f"{rate:.4g}")
                speedup = f"  {row['speedup']['median']:.2f}x" if "speedup" in row else ""
                print(f"{phase:16s} {name:28s} {rate:10.0f} windows/s{speedup}")
    record.add("phases", phases)
    record.add("equality", differences)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _set(folder: Path, options: LoadingOptions, fields: tuple[Field, ...]) -> Path:
    """Write a store of random numbers, all of it the train split, and return its folder."""
    spec = DataSpec(fields=fields, axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=1.0)
    rng = np.random.default_rng(0)
    shape = (options.frames, spec.num_channels, options.grid, options.grid)
    with StoreWriter(
        folder / "store" / "train.h5",
        spec=spec,
        grid=shape[2:],
        num_trajectories=options.trajectories,
        times=np.arange(options.frames, dtype=float),
        attributes={},
    ) as writer:
        for i in range(options.trajectories):
            writer.write(i, rng.standard_normal(shape, dtype=np.float32), np.zeros(0, np.float32))
        writer.finish()
    return folder / "store"


def _chosen(options: LoadingOptions, starts: int) -> list[int]:
    """Return the windows of every run, by number ``trajectory · starts + start``."""
    rng = np.random.default_rng(1)
    return [int(i) for i in rng.integers(0, options.trajectories * starts, options.windows)]


def _ours(
    section: Mapping[str, Any], options: LoadingOptions, chosen: Sequence[int]
) -> Callable[[], list[Tensor]]:
    module = open_data({"history": options.history, "horizon": 1, "cache": "none", **section})
    windows: Windows = module._open("train")

    def run() -> list[Tensor]:
        batches = []
        for first in range(0, len(chosen), options.batch):
            batch = windows.batch(chosen[first : first + options.batch])
            batches.append(torch.cat([batch.history, batch.future], dim=1))
        return batches

    return run


def _well(folder: Path, options: LoadingOptions) -> Contestants:
    from the_well.data import WellDataset
    from torch.utils.data import default_collate

    velocity = Field("velocity", kind="vector", components=("x", "y"))
    store = _set(folder, options, (Field("tracer"), Field("pressure"), velocity))
    splits = {"train": "train.h5"}
    write_well(DATASETS.build("store", root=str(store), splits=splits), folder / "well")
    theirs = WellDataset(
        path=str(folder / "well" / "data" / "train"),
        normalization_path=str(folder / "well" / "stats.yaml"),
        n_steps_input=options.history,
        n_steps_output=1,
        return_grid=False,
        boundary_return_type=None,
    )
    chosen = _chosen(options, options.frames - options.history)

    def run() -> list[Tensor]:
        batches = []
        for first in range(0, len(chosen), options.batch):
            batch = default_collate([theirs[i] for i in chosen[first : first + options.batch]])
            # Views in our order of axes; nothing is copied.
            parts = [batch[key].permute(0, 1, 4, 3, 2) for key in ("input_fields", "output_fields")]
            batches.append(torch.cat(parts, dim=1))
        return batches

    ours = {
        READER: _ours({"kind": "the_well", "root": str(folder / "well")}, options, chosen),
        STORE: _ours({"kind": "store", "root": str(store), "splits": splits}, options, chosen),
    }
    return "the_well", {"the_well": run, **ours}


def _arena(folder: Path, options: LoadingOptions) -> Contestants:
    import h5py

    velocity = Field("velocity", kind="vector", components=("x", "y"))
    store = _set(folder, options, (Field("density"), velocity))
    splits = {"train": "train.h5"}
    split = DATASETS.build("store", root=str(store), splits=splits).splits["train"]
    shard = folder / "arena" / "NavierStokes2D_train_1_0.50000.h5"
    shard.parent.mkdir(parents=True)
    with h5py.File(shard, "w") as file:
        frames = np.stack([split.frames(i, 0, options.frames) for i in range(options.trajectories)])
        for channel, name in enumerate(("u", "vx", "vy")):
            file[f"train/{name}"] = frames[:, :, channel].swapaxes(-1, -2).astype(np.float64)
        file["train/dt"] = np.ones(options.trajectories)
        file["train/buo_y"] = np.full(options.trajectories, 0.5)
    starts = options.frames - options.history
    chosen = _chosen(options, starts)

    def run() -> list[Tensor]:
        batches = []
        for first in range(0, len(chosen), options.batch):
            samples = []
            for window in chosen[first : first + options.batch]:
                trajectory, start = divmod(window, starts)
                with h5py.File(shard, "r") as file:
                    parts = [
                        torch.from_numpy(
                            file["train"][name][trajectory, start : start + options.history + 1]
                        ).float()
                        for name in ("u", "vx", "vy")
                    ]
                samples.append(torch.stack(parts, dim=1).transpose(-1, -2))
            batches.append(torch.stack(samples))
        return batches

    copy = write_store(DATASETS.build("pdearena", root=str(shard)), folder / "copy")["train"]
    ours = {
        READER: _ours({"kind": "pdearena", "root": str(shard)}, options, chosen),
        STORE: _ours({"kind": "store", "root": str(copy.parent), "splits": splits}, options, chosen),
    }
    return "h5py, a window a read", {"h5py, a window a read": run, **ours}


def _neuralop(folder: Path, options: LoadingOptions) -> Contestants:
    from neuralop.data.datasets.pt_dataset import PTDataset

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
    chosen = _chosen(options, options.frames - options.history)
    from torch.utils.data import default_collate

    def run() -> list[Tensor]:
        batches = []
        for first in range(0, len(chosen), options.batch):
            batch = default_collate([theirs[i] for i in chosen[first : first + options.batch]])
            batches.append(torch.cat([batch["y"], batch["x"]], dim=1))
        return batches

    path = folder / f"nsforcing_train_{options.grid}.pt"
    section = {"kind": "neuralop_pt", "path": str(path), "equation": "nsforcing", "valid": 0, "history": 1}
    store = write_store(
        DATASETS.build("neuralop_pt", path=str(path), equation="nsforcing", valid=0), folder / "store"
    )
    held = {
        "kind": "store",
        "root": str(store["train"].parent),
        "splits": {"train": "train.h5"},
        "history": 1,
    }

    def second(run: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        return lambda: [batch[:, 1] for batch in run()]

    ours = {
        READER: second(_ours(section, options, chosen)),
        STORE: second(_ours({**held, "cache": "ram"}, options, chosen)),
    }
    return "neuraloperator", {"neuraloperator": run, **ours}


def _joined(batches: Sequence[Tensor]) -> dict[str, Tensor]:
    return {"windows": torch.cat(list(batches))}


if __name__ == "__main__":
    run_command(main)
