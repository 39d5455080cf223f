"""The Lightning data module: a data set cut into windows, batched, cached and shared out over ranks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from torch import Tensor

from pdesurrogate.fields import ChannelStatistics, DataSpec, Normaliser
from pdesurrogate.registry import check_options

from .augmentation import Augmentation
from .held import HeldSplits
from .loader import WindowLoader, Windows
from .placement import check_cache
from .sampling import WindowBatches
from .trajectories import DataSet, Trajectories
from .views import Regridded, Strided, Subset
from .windows import WindowIndex

log = logging.getLogger(__name__)


class TrajectoryDataModule(lightning.LightningDataModule):
    """Windows of a data set's trajectories in physical units, as `Batch` objects.

    Which batch comes next follows from ``seed``, the epoch and the number of batches done, so that a
    resumed run sees exactly the batches that an uninterrupted one would have seen, on any number of ranks.

    Args:
        dataset: the trajectories of each split.
        history: input frames of a window.
        horizon: frames to be forecast.
        stride: stored frames from one frame of a window to the next; the time step grows by this factor.
        grid: points along each axis at which to load; one number for all axes if the stored grid has
            equal sizes; None for the stored grid.
        regrid: how to reach that grid: ``"auto"``, ``"stride"``, ``"cells"`` or ``"spectral"`` (see `Regridded`).
        batch_size: windows of one batch over all ranks together.
        num_workers: processes that read ahead when the split is not held in memory; 0 for a thread.
        cache: where each split is held on the loading grid: ``"gpu"``, on the GPU that trains, which then cuts windows
            without the host; ``"ram"``, in the host's memory; ``"none"`` reads every window from its file; ``"auto"``
            is the first of these for which a split takes at most 60 % of the GPU's or a quarter of the host's free
            memory. Batches are the same.
        seed: seed of the permutations of the training windows.
        ranks_per_window: consecutive ranks that read the same windows, because they share out the work on each.
        augment: options of `Augmentation`, ``group`` and ``shift``, for the windows of training; None for none.

    Attributes:
        spec: what the fields are, with the time step between the frames of a window.
        grid: points along each axis of the loaded fields.

    Raises:
        ValueError: for options out of range, a grid that cannot be reached, trajectories that are too short.
    """

    def __init__(
        self,
        dataset: DataSet,
        *,
        history: int = 1,
        horizon: int = 1,
        stride: int = 1,
        grid: int | Sequence[int] | None = None,
        regrid: str = "auto",
        batch_size: int = 16,
        num_workers: int = 0,
        cache: str = "auto",
        seed: int = 0,
        ranks_per_window: int = 1,
        augment: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_cache(cache)
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("ranks_per_window", ranks_per_window, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        self.dataset = dataset
        self.history, self.horizon, self.stride = history, horizon, stride
        self.regrid, self.batch_size, self.num_workers = regrid, batch_size, num_workers
        self.cache, self.seed, self.ranks_per_window = cache, seed, ranks_per_window
        self.spec: DataSpec = dataset.spec.replace(dt=dataset.spec.dt * stride)
        self.grid: tuple[int, ...] = _as_grid(grid, dataset)
        self.augment = dict(augment or {})
        check_options("augment", Augmentation, self.augment, num_positional=2)
        self.augmentation = Augmentation(self.spec, self.grid, **{"seed": seed, **self.augment})
        self._sources = {name: Regridded(split, self.grid, regrid) for name, split in dataset.splits.items()}
        self._indices = {
            name: WindowIndex(source.num_trajectories, source.num_frames, history, horizon, stride)
            for name, source in self._sources.items()
        }
        self._held = HeldSplits(self._sources, self._indices, cache)
        self._loaders: list[WindowLoader] = []  # those whose threads or worker processes are to be ended
        self._log_grids()

    def train_dataloader(self) -> WindowLoader:
        """Return the shuffled windows of the train split."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> WindowLoader | list[WindowLoader]:
        """Return the windows of the valid split in order; an empty list if there is no such split."""
        return self._loader("valid", shuffle=False) if "valid" in self.dataset.splits else []

    def test_dataloader(self) -> WindowLoader:
        """Return the windows of the test split in order; refused while a model is being fitted."""
        return self._loader("test", shuffle=False)

    def teardown(self, stage: str) -> None:
        """End threads and worker processes after a fit or an evaluation."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def on_exception(self, exception: BaseException) -> None:
        """End threads and worker processes after an error or an interruption."""
        self.teardown("exception")

    def trajectories(self, split: str, grid: Sequence[int] | None = None) -> Trajectories:
        """Return whole trajectories of a split, ``stride`` stored frames apart, at any reachable grid.

        Raises:
            ValueError: for an unknown split, for ``"test"`` while a model is being fitted, and for a grid
                that is finer than the stored one.
        """
        self._require(split)
        wanted = self.grid if grid is None else tuple(grid)
        regridded = Regridded(self.dataset.splits[split], wanted, self.regrid)
        return Strided(regridded, self.stride) if self.stride > 1 else regridded

    def windows(self, split: str) -> Windows:
        """Return all windows of a split, in order: number ``i`` is that of trajectory and start in its ``index``.

        Raises:
            ValueError: for an unknown split, and for ``"test"`` while a model is being fitted.
        """
        self._require(split)
        return self._held.open(split)

    def with_training_trajectories(self, indices: Sequence[int]) -> TrajectoryDataModule:
        """Return a module of the same data that trains on some of the trajectories, renumbered from 0.

        Raises:
            ValueError: if there is no such trajectory.
        """
        splits = {**self.dataset.splits, "train": Subset(self.dataset.splits["train"], indices)}
        return TrajectoryDataModule(
            DataSet(self.dataset.name, splits, self.dataset.provenance),
            history=self.history,
            horizon=self.horizon,
            stride=self.stride,
            grid=self.grid,
            regrid=self.regrid,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            cache=self.cache,
            seed=self.seed,
            ranks_per_window=self.ranks_per_window,
            augment=self.augment,
        )

    def fit_normaliser(self) -> Normaliser:
        """Return the normalisation fitted to every frame of the train split at the loading grid.

        Statistics are gathered one trajectory at a time in float64 and do not depend on the windows. They are those of
        all transformed copies where windows are transformed in training.
        """
        self._require("train")
        source = self._sources["train"]
        statistics: ChannelStatistics | None = None
        increments: ChannelStatistics | None = None
        for frames in self._held.trajectories("train"):
            statistics = _merge(statistics, frames)
            increments = _merge(increments, frames[self.stride :] - frames[: -self.stride])
        if statistics is None:
            raise ValueError(f"data set {self.dataset.name!r}: the train split is empty.")
        parameters = np.stack([source.parameters(i) for i in range(source.num_trajectories)])
        fitted = Normaliser.fit(statistics, torch.from_numpy(parameters), increments)
        return fitted.symmetrised(self.augmentation.action)

    def require_validation(self) -> None:
        """Refuse to train without a split that chooses which weights are kept.

        Raises:
            ValueError: saying what to do.
        """
        if "valid" not in self.dataset.splits:
            raise ValueError(
                f"data set {self.dataset.name!r} has no split 'valid'; it has {', '.join(self.dataset.splits)}. The "
                "best weights are chosen by validation: keep trajectories for it, by data.valid where the source has "
                "that option, else by data.split={rule: trajectory, train: 0.8, valid: 0.1, test: 0.1}."
            )

    def planned_on(self, device: torch.device) -> int:
        """Return the bytes of the train and valid splits that a training will hold on a device, beside its own.

        Raises:
            ValueError: if ``cache="gpu"`` and they do not fit.
        """
        return self._held.planned_on(device, [s for s in ("train", "valid") if s in self.dataset.splits])

    @property
    def reads_once(self) -> bool:
        """Whether the train split will be held in memory, so that its windows are not read from files."""
        return self._held.reads_once("train") if "train" in self.dataset.splits else False

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the sampling's settings and its position, plain types."""
        epoch, next_batch = 0, 0
        if getattr(getattr(self.trainer, "state", None), "fn", None) == TrainerFn.FITTING:
            epochs, batches = self._progress()
            epoch = epochs.processed
            # Between two epochs the trainer still holds the count of the one that ended.
            next_batch = 0 if epochs.processed == epochs.started else batches.processed
        return {**self._sampling(), "epoch": epoch, "next_batch": next_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that a checkpoint's position means the same batches here.

        The position itself is kept by the trainer's loops, which the loader asks when an epoch begins.

        Raises:
            ValueError: if the checkpoint was taken inside an epoch of other batches.
        """
        mine = self._sampling()
        differences = [f"{k} was {state.get(k)} and is {mine[k]}" for k in mine if state.get(k) != mine[k]]
        if not differences:
            return
        if state.get("next_batch", 0):
            raise ValueError(
                f"the checkpoint was taken inside an epoch of other batches: {'; '.join(differences)}. "
                "Resume with the settings that the run was started with."
            )
        log.warning("resuming with other batches than the run was started with: %s", "; ".join(differences))

    def _sampling(self) -> dict[str, Any]:
        num_windows = len(self._indices["train"]) if "train" in self._indices else 0
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_windows": num_windows,
            **self.augmentation.settings,
        }

    def _position(self) -> tuple[int, int] | None:
        """Return (epoch, training batches done in it) as counted by a fit in progress, else None.

        The trainer's count is the one that it resumes from, so data and optimiser cannot disagree.
        """
        if not self._is_fitting():
            return None
        epochs, batches = self._progress()
        return epochs.processed, batches.processed

    def _progress(self) -> tuple[Any, Any]:
        """Return the trainer's counters of epochs, and of batches within the epoch."""
        loop: Any = self.trainer.fit_loop  # type: ignore[union-attr]
        return loop.epoch_progress.current, loop.epoch_loop.batch_progress.current

    def _is_fitting(self) -> bool:
        state = getattr(self.trainer, "state", None)
        return state is not None and state.fn == TrainerFn.FITTING and state.status == TrainerStatus.RUNNING

    def _require(self, split: str) -> None:
        if split not in self.dataset.splits:
            raise ValueError(
                f"data set {self.dataset.name!r} has no split {split!r}; it has {', '.join(self.dataset.splits)}."
            )
        if split == "test" and self._is_fitting():
            raise ValueError(
                "the test split is not available while a model is being fitted: a model chosen on test data "
                "has no honest error. Use the valid split, and evaluate on test afterwards."
            )

    def _loader(self, split: str, *, shuffle: bool) -> WindowLoader:
        self._require(split)
        rank, world_size = _rank_and_world_size()
        device = self._device()
        windows = self._held.place(split, device)
        loader = WindowLoader(
            windows,
            WindowBatches(
                len(windows),
                self.batch_size,
                shuffle=shuffle,
                seed=self.seed,
                rank=rank // self.ranks_per_window,
                world_size=world_size // self.ranks_per_window,
            ),
            num_workers=self.num_workers,
            device=device,
            augment=self.augmentation if shuffle and self.augmentation.changes_windows else None,
            position=self._position if shuffle else None,
        )
        self._loaders.append(loader)
        return loader

    def _device(self) -> torch.device:
        """Return the device that the trainer computes on; the CPU without one."""
        strategy = getattr(self.trainer, "strategy", None)
        return torch.device("cpu") if strategy is None else torch.device(strategy.root_device)

    def _log_grids(self) -> None:
        for name, source in self._sources.items():
            stored = source.base.grid
            log.info(
                "%s: %d trajectories of %d frames, %d windows, %s",
                name,
                source.num_trajectories,
                source.num_frames,
                len(self._indices[name]),
                f"on the stored grid {_size(stored)}"
                if source.method == "native"
                else f"from {_size(stored)} to {_size(self.grid)} by {source.method} regridding",
            )


def _as_grid(grid: int | Sequence[int] | None, dataset: DataSet) -> tuple[int, ...]:
    stored = next(iter(dataset.splits.values())).grid
    if grid is None:
        return stored
    if not isinstance(grid, int):
        return tuple(int(n) for n in grid)
    if len(set(stored)) > 1:
        raise ValueError(
            f"grid={grid} is one number and the stored grid is {_size(stored)}; give one size for each axis: "
            f"grid={[grid * n // stored[0] for n in stored]}."
        )
    return (grid,) * len(stored)


def _size(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))


def _rank_and_world_size() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _merge(statistics: ChannelStatistics | None, frames: Tensor) -> ChannelStatistics:
    block = ChannelStatistics.of(frames.flatten(2))
    return block if statistics is None else statistics.merge(block)
