"""Conversion of a data set to our store, to The Well's schema or to PDEBench's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdesurrogate.registry import did_you_mean, load_plugins

from .opening import open_dataset
from .pdebench_writer import write_pdebench
from .progress import Progress
from .rechunked import write_store
from .well_writer import write_well

log = logging.getLogger(__name__)

TARGETS = ("store", "the_well", "pdebench")


def convert(config: Mapping[str, Any]) -> None:
    """Write the data set of a composed configuration in another format.

    Args:
        config: plain containers with ``data``, ``to`` (one of `TARGETS`), ``out`` (a folder), ``overwrite`` and
            ``plugins``.

    Raises:
        ValueError: for an unknown format, data that cannot be read, or files that are there already.
    """
    load_plugins(config.get("plugins", []))
    to, overwrite = config["to"], config["overwrite"]
    if to not in TARGETS:
        raise ValueError(f"to is {to!r}.{did_you_mean(str(to), TARGETS)} Allowed: {', '.join(TARGETS)}.")
    if not config.get("out"):
        raise ValueError(
            "out is empty; give the folder that the converted files go to: out=data/converted/NAME."
        )
    if not isinstance(overwrite, bool):
        raise ValueError(f"overwrite is {overwrite!r}; it must be true or false.")
    dataset = open_dataset(config["data"])
    folder = Path(config["out"])
    total = sum(split.num_trajectories for split in dataset.splits.values())
    with Progress(f"{dataset.name} to {to}", total, units_per_item=1) as progress:

        def report(split: str, trajectory: int) -> None:
            progress.advance()

        if to == "store":
            paths = list(write_store(dataset, folder, overwrite=overwrite, report=report).values())
        elif to == "the_well":
            paths = write_well(dataset, folder, overwrite, report)
        else:
            paths = write_pdebench(dataset, folder, overwrite, report)
    for path in paths:
        log.info("%s: %.1f MiB", path, path.stat().st_size / 2**20)
