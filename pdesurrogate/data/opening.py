"""From a plain ``data`` section of a configuration to a data module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import DATASETS
from .datamodule import TrajectoryDataModule
from .files import MissingFiles
from .rechunked import rechunked
from .trajectories import DataSet
from .windows import require_room

# Keys of a data section that say how windows are cut and batched; the rest describes the data set.
LOADING = frozenset(
    {"history", "horizon", "stride", "grid", "regrid", "batch_size", "num_workers", "cache", "seed"}
)
_GENERATOR = "generator"  # how the set is made, for the solver; of no concern to a reader
_MADE_BY = "made_by"  # the command that does so, for messages; the command line adds it
_RECHUNK = "rechunk"  # the folder of copies in our store, which are quick to read at random


def open_data(
    section: Mapping[str, Any],
    *,
    num_steps: int = 1,
    steps_option: str = "the number of model steps",
    seed: int = 0,
    ranks_per_window: int = 1,
    augment: Mapping[str, Any] | None = None,
) -> TrajectoryDataModule:
    """Open a data set and wrap it in a data module.

    Args:
        section: the ``data`` section: ``kind``, the data set's options, the loading options, and perhaps ``rechunk``, a
            folder: windows are then read from a copy in our store, made there once; and ``made_by``, the command that
            makes the files, for the message where they are missing.
        num_steps: model steps per training sample; windows carry that many horizons of future.
        steps_option: what sets their number, for the message where trajectories are too short.
        seed: of the shuffling.
        ranks_per_window: consecutive ranks that read the same windows.
        augment: options of `pdesurrogate.data.augmentation.Augmentation` for the windows of training.

    Raises:
        ValueError: for an unknown kind or option, trajectories that are too short, and whatever the reader refuses.
    """
    loading = {k: v for k, v in section.items() if k in LOADING}
    dataset = open_dataset(section)
    if folder := section.get(_RECHUNK):
        dataset = rechunked(dataset, Path(folder))
    if num_steps > 1:
        num_frames = min(split.num_frames for split in dataset.splits.values())
        history, horizon, stride = (loading.get(name, 1) for name in ("history", "horizon", "stride"))
        require_room(num_frames, history, horizon, stride, num_steps, steps_option)
        loading["horizon"] = horizon * num_steps
    return TrajectoryDataModule(
        dataset, **{"seed": seed, **loading}, ranks_per_window=ranks_per_window, augment=augment
    )


def open_dataset(section: Mapping[str, Any]) -> DataSet:
    """Open the data set of a ``data`` section as it lies in its files; the loading options do not matter.

    Raises:
        ValueError: for an unknown kind or option, and whatever the reader refuses.
    """
    if "kind" not in section:
        raise ValueError("the data section has no kind; choose a data set by data=NAME.")
    options = {
        k: v for k, v in section.items() if k not in LOADING | {"kind", _GENERATOR, _MADE_BY, _RECHUNK}
    }
    try:
        dataset: DataSet = DATASETS.build(section["kind"], **options)
    except MissingFiles as error:
        raise MissingFiles(error.what, section.get(_MADE_BY)) from error
    return dataset
