"""How much of a training step is spent waiting for data, with the default configurations.

    python -m benchmarks.throughput name=throughput
    python -m benchmarks.throughput device=cuda name=throughput_cuda

Each data set of the house has the fields, the grid and the batch of its yaml, and random numbers for values. Its
windows train the default model as ``train.py`` does, with the Lightning loop and the measurement that every run logs:
for some steps, in epochs of which the first does not count. ``ram`` and, on a GPU, ``gpu`` hold the set; ``none``
reads every window from the file, which lies in the page cache, and takes it to the grid of training.

The goal is a wait of less than 1 % where the set is held and of less than 5 % where it is read.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from pdesurrogate.allocator import keep_freed_memory
from pdesurrogate.cli import conf_dir
from pdesurrogate.data.opening import open_data
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.metrics import METRICS
from pdesurrogate.training import UNROLLS
from pdesurrogate.training.module import SurrogateTraining
from pdesurrogate.training.optimisation import Optimisation
from pdesurrogate.training.run import build_surrogate
from pdesurrogate.training.throughput import Throughput

from .devices import choose_device
from .options import parse_options, require_at_least_1, require_one_of, run_command
from .record import Record, check_name
from .solver_error import build, yaml_options

DATA = {"navier_stokes": "fno", "burgers/li": "fno", "smoke/pdearena": "fno"}
"""Data sets, each with the model that trains on it."""
GOALS = {"gpu": 0.01, "ram": 0.01, "none": 0.05}


@dataclass(frozen=True)
class ThroughputOptions:
    """What can be given as ``key=value``; ``small`` is for trying it out."""

    steps: int = 12
    epochs: int = 5
    device: str = "cpu"
    data: str = ""
    small: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        require_one_of("data", self.data, ["", *DATA])
        require_at_least_1(self, "steps", "epochs")
        choose_device(self.device, "Measure the processor with device=cpu.")
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write if there is a name."""
    options = parse_options(ThroughputOptions, words)
    device = choose_device(options.device, "")
    keep_freed_memory()
    settings = {
        "threads": torch.get_num_threads(),
        "clock": "wall",
        "allocator": "keeps freed memory, as train.py",
        "repeats": options.epochs,
        "precision": "float32",
    }
    title = f"Time of a training step and the share of it spent waiting for data, {options.device}"
    record = Record("throughput", title, words, settings)
    phases: dict[str, Any] = {}
    for data in [options.data] if options.data else DATA:
        with _quiet(), tempfile.TemporaryDirectory() as folder:
            phases[data] = _measured(data, Path(folder), options, device)
        for cache, row in phases[data].items():
            wait = row["data wait"]
            print(
                f"{data:16s} {cache:5s} {row['milliseconds']['median']:8.1f} ms a step, waiting for data "
                f"{100 * wait['median']:.2f} % (at most {100 * wait['largest']:.2f} %, goal {100 * GOALS[cache]:g} %)"
            )
    record.add("phases", phases)
    if options.name:
        print(f"written to {record.write(options.name).name}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Let trainings say nothing but errors."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pdesurrogate")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _measured(data: str, folder: Path, options: ThroughputOptions, device: torch.device) -> dict[str, Any]:
    """Train on one set from every place that it can be held in."""
    config = _composed(data)
    if options.small:
        config["data"].update(grid=None, batch_size=2)
        config["model"].update(num_modes=2, width=4, depth=1)
    _write(folder, data, config, options)
    caches = ("gpu", "ram", "none") if device.type == "cuda" else ("ram", "none")
    return {cache: _trained(config, cache, options, device) for cache in caches}


def _composed(data: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"data={data}", f"model={DATA[data]}"])
    sections = ("data", "model", "unroll", "loss", "optim", "trainer", "predict")
    return {name: OmegaConf.to_container(config, resolve=False)[name] for name in sections}  # type: ignore[call-overload, index]


def _write(folder: Path, data: str, config: dict[str, Any], options: ThroughputOptions) -> None:
    """Write a train split with enough windows for an epoch, of random numbers with the set's fields and grid."""
    generator = build(yaml_options(data), {})
    grid = tuple(min(n, 16) for n in generator.grid) if options.small else generator.grid
    span = config["data"]["history"] + config["data"]["horizon"]
    starts = len(generator.times) - span + 1
    count = -(-options.steps * config["data"]["batch_size"] // starts)
    rng = np.random.default_rng(0)
    shape = (len(generator.times), generator.spec.num_channels, *grid)
    with StoreWriter(
        folder / "train.h5",
        spec=generator.spec,
        grid=grid,
        num_trajectories=count,
        times=np.asarray(generator.times, dtype=float),
        attributes={},
    ) as writer:
        for i in range(count):
            frames = rng.standard_normal(shape, dtype=np.float32)
            writer.write(i, frames, rng.random(generator.spec.num_parameters, dtype=np.float32))
        writer.finish()
    config["data"].update(root=str(folder), splits={"train": "train.h5"})


def _trained(
    config: dict[str, Any], cache: str, options: ThroughputOptions, device: torch.device
) -> dict[str, Any]:
    """Return the time of a step and the share of it that was spent waiting, over the epochs but the first."""
    lightning.seed_everything(0, verbose=False)
    module = open_data({**config["data"], "cache": cache})
    surrogate = build_surrogate(config, module)
    training = SurrogateTraining(
        surrogate,
        UNROLLS.build("one_step"),
        METRICS.get(config["loss"]["kind"]),
        Optimisation(**config["optim"]),
    )
    speed = Throughput()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1 if device.index is None else [device.index] if device.type == "cuda" else 1,
            max_epochs=1 + options.epochs,
            limit_train_batches=options.steps,
            limit_val_batches=0,
            gradient_clip_val=config["trainer"]["gradient_clip"],
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[speed],
        ).fit(training, datamodule=module)
    epochs = speed.epochs[1:]
    batch = min(config["data"]["batch_size"], len(module.windows("train")))
    waits = [epoch["speed/data_wait"] for epoch in epochs]
    rates = [epoch["speed/samples_per_second"] for epoch in epochs]
    found = {
        "milliseconds": {"median": _digits(1e3 * batch / float(np.median(rates)))},
        "samples a second": _digits(float(np.median(rates))),
        "data wait": {"median": _digits(float(np.median(waits))), "largest": _digits(max(waits))},
    }
    if (peak := epochs[-1].get("memory/device_peak_mib")) is not None:
        found["peak MiB on the device"] = _digits(peak)
    return found


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    run_command(main)
