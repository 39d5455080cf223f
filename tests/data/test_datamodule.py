from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.loader import WindowLoader, Windows
from pdesurrogate.data.sampling import WindowBatches
from pdesurrogate.data.store import StoredTrajectories
from pdesurrogate.data.trajectories import DataSet
from pdesurrogate.data.windows import WindowIndex
from pdesurrogate.fields import Batch, DataSpec

WriteStore = Callable[..., np.ndarray]


def seen(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(int(t), int(s)) for batch in batches for t, s in zip(batch.trajectory, batch.start, strict=True)]


@pytest.mark.parametrize("cache", ["ram", "none"])
@pytest.mark.parametrize("grid", [None, 8, [7, 10]])
def test_a_batch_holds_the_windows_that_it_names(torus_set: DataSet, cache: str, grid: Any) -> None:
    module = TrajectoryDataModule(
        torus_set, history=2, horizon=3, grid=grid, batch_size=5, cache=cache, seed=4
    )
    source = module.trajectories("train")
    batches = list(module.train_dataloader())
    assert len(batches) == 18 // 5
    for batch in batches:
        assert batch.history.shape == (5, 2, 1, *module.grid)
        assert batch.future.shape == (5, 3, 1, *module.grid)
        assert batch.history.dtype == torch.float32
        for row in range(len(batch)):
            trajectory, start = int(batch.trajectory[row]), int(batch.start[row])
            frames = torch.from_numpy(source.frames(trajectory, start, start + 5))
            torch.testing.assert_close(batch.history[row], frames[:2], rtol=0, atol=0)
            torch.testing.assert_close(batch.future[row], frames[2:], rtol=0, atol=0)
            assert batch.parameters[row].tolist() == [0.5 + trajectory]


def test_stride_skips_frames_and_lengthens_the_time_step(torus_set: DataSet) -> None:
    module = TrajectoryDataModule(torus_set, history=2, horizon=1, stride=3, batch_size=6)
    assert module.spec == torus_set.spec.replace(dt=3.0)
    (batch,) = module.train_dataloader()
    assert set(batch.start.tolist()) == {0}
    strided = module.trajectories("train")
    assert strided.spec == module.spec
    frames = np.stack([strided.frames(int(i), 0, 3) for i in batch.trajectory])
    np.testing.assert_array_equal(torch.cat([batch.history, batch.future], dim=1).numpy(), frames)
    np.testing.assert_array_equal(strided.frames(0, 1, 2), torus_set.splits["train"].frames(0, 3, 4))


def test_epochs_shuffle_training_windows_and_keep_validation_in_order(torus_set: DataSet) -> None:
    module = TrajectoryDataModule(torus_set, batch_size=4)
    loader = module.train_dataloader()
    first, again = seen(list(loader)), seen(list(loader))
    assert first == again
    loader.set_epoch(1)
    assert seen(list(loader)) != first
    assert len(set(first)) == len(first) == 36
    assert seen(list(module.val_dataloader())) == [(t, s) for t in range(3) for s in range(6)]
    assert seen(list(module.test_dataloader())) == [(t, s) for t in range(2) for s in range(6)]
    other = TrajectoryDataModule(torus_set, batch_size=4, seed=1)
    assert seen(list(other.train_dataloader())) != first


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_worker_processes_return_the_same_batches_in_the_same_order(
    torus_set: DataSet, start_method: str
) -> None:
    source = torus_set.splits["train"]
    windows = Windows(source, WindowIndex(6, 7, history=2))
    source.frames(0, 0, 1)  # this process has the file open: a child must not use that handle
    alone = WindowLoader(windows, WindowBatches(len(windows), 4, shuffle=True))
    shared = WindowLoader(
        windows, WindowBatches(len(windows), 4, shuffle=True), num_workers=2, start_method=start_method
    )
    for epoch in range(2):  # the second epoch meets workers that live on
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        pairs = list(zip(alone, shared, strict=True))
        assert len(pairs) == 7
        for mine, theirs in pairs:
            for name in ("history", "future", "parameters", "trajectory", "start"):
                assert torch.equal(getattr(mine, name), getattr(theirs, name))
    shared.close()
    assert active_children() == []


def test_a_closed_loader_starts_new_workers(torus_set: DataSet) -> None:
    windows = Windows(torus_set.splits["train"], WindowIndex(6, 7))
    loader = WindowLoader(windows, WindowBatches(36, 6, shuffle=False), num_workers=1, start_method="fork")
    first = seen(list(loader))
    loader.close()
    assert seen(list(loader)) == first
    loader.close()


@contextmanager
def as_rank(rank: int, world_size: int) -> Iterator[None]:
    """Let this process take part in a group whose other members do not exist."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_two_ranks_share_the_batches_of_one(torus_set: DataSet) -> None:
    module = TrajectoryDataModule(torus_set, batch_size=6)
    train, valid = list(module.train_dataloader()), seen(list(module.val_dataloader()))
    ranks = []
    for rank in range(2):
        with as_rank(rank, 2):
            ranks.append((list(module.train_dataloader()), seen(list(module.val_dataloader()))))
    assert len(train) == 6
    for whole, first, second in zip(train, ranks[0][0], ranks[1][0], strict=True):
        assert torch.equal(torch.cat([first.history, second.history]), whole.history)
    assert sorted(ranks[0][1] + ranks[1][1]) == valid
    with as_rank(0, 4), pytest.raises(ValueError, match="batch_size is 6, counted over all ranks"):
        module.train_dataloader()


def test_iterating_leaves_the_global_random_state_alone(torus_set: DataSet) -> None:
    module = TrajectoryDataModule(torus_set, cache="none")
    before = torch.get_rng_state()
    list(module.train_dataloader())
    list(module.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_normaliser_is_fitted_to_the_train_split_alone(torus_set: DataSet) -> None:
    values = np.stack([torus_set.splits["train"].frames(i, 0, 7) for i in range(6)]).astype(np.float64)
    for cache in ("ram", "none"):
        normaliser = TrajectoryDataModule(torus_set, horizon=6, cache=cache).fit_normaliser()
        np.testing.assert_allclose(normaliser.mean.numpy(), [values.mean()], rtol=1e-5)
        np.testing.assert_allclose(normaliser.std.numpy(), [values.std()], rtol=1e-6)
        np.testing.assert_allclose(normaliser.parameter_mean.numpy(), [3.0])
        np.testing.assert_allclose(normaliser.parameter_std.numpy(), [np.arange(6).std()], rtol=1e-6)
    coarse = TrajectoryDataModule(torus_set, grid=8, regrid="stride").fit_normaliser()
    np.testing.assert_allclose(coarse.std.numpy(), [values[..., ::2, ::2].std()], rtol=1e-6)


def test_the_regridding_method_is_logged(torus_set: DataSet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pdesurrogate"):
        TrajectoryDataModule(torus_set, grid=12)
        TrajectoryDataModule(torus_set, grid=8, regrid="stride")
        TrajectoryDataModule(torus_set)
    assert "from 16 x 16 to 12 x 12 by spectral regridding" in caplog.text
    assert "from 16 x 16 to 8 x 8 by stride regridding" in caplog.text
    assert "on the stored grid 16 x 16" in caplog.text


def test_evaluation_may_ask_for_another_grid(torus_set: DataSet) -> None:
    module = TrajectoryDataModule(torus_set, grid=8)
    assert module.trajectories("test").grid == (8, 8)
    finer = module.trajectories("test", grid=(16, 16))
    np.testing.assert_array_equal(finer.frames(1, 0, 7), torus_set.splits["test"].frames(1, 0, 7))
    with pytest.raises(ValueError, match=r"\(32, 32\) is finer than the stored one, \(16, 16\)"):
        module.trajectories("test", grid=(32, 32))
    with pytest.raises(ValueError, match="no split 'validation'; it has train, valid, test"):
        module.trajectories("validation")


def test_auto_cache_takes_a_quarter_of_the_free_memory(
    torus_set: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 6 * 7 * 16 * 16 * 4
    for free, held in ((4 * needed, True), (4 * needed - 4, False), (None, False)):
        monkeypatch.setattr("pdesurrogate.data.placement.available_memory", lambda free=free: free)
        loader = TrajectoryDataModule(torus_set).train_dataloader()
        assert (loader.windows.frames is not None) == held


def test_a_cache_larger_than_the_free_memory_is_refused(
    torus_set: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdesurrogate.data.placement.available_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"cache=ram needs 0 MiB for the train split .*Use cache=none"):
        TrajectoryDataModule(torus_set, cache="ram").train_dataloader()


def test_ranks_of_one_machine_share_its_memory(torus_set: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 6 * 7 * 16 * 16 * 4
    monkeypatch.setattr("pdesurrogate.data.placement.available_memory", lambda: 4 * needed)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert TrajectoryDataModule(torus_set).train_dataloader().windows.frames is None


@pytest.mark.parametrize(
    "options", [{"cache": "ram"}, {"cache": "none"}, {"cache": "none", "num_workers": 1}]
)
def test_nan_in_the_data_stops_with_file_trajectory_and_frame(
    torus_set: DataSet, options: dict[str, Any]
) -> None:
    source = torus_set.splits["train"]
    assert isinstance(source, StoredTrajectories)
    with h5py.File(source.path, "r+") as file:
        file["vorticity"][4, 2, 3, 3] = np.nan
    module = TrajectoryDataModule(torus_set, **options)
    with pytest.raises(ValueError, match=r"train.h5: trajectory 4 .*channel 'vorticity', frame 2") as caught:
        list(module.train_dataloader())
    module.teardown("fit")
    assert active_children() == []
    assert "Traceback" not in str(caught.value)


def test_a_set_without_a_valid_split_has_no_validation(torus_set: DataSet) -> None:
    module = TrajectoryDataModule(DataSet("a", {"train": torus_set.splits["train"]}))
    assert module.val_dataloader() == []
    with pytest.raises(ValueError, match="no split 'test'"):
        module.test_dataloader()


def test_one_number_for_the_grid_needs_a_square_grid(
    tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "a.h5", torus_spec, grid=(16, 32))
    data = DataSet("a", {"train": StoredTrajectories(tmp_path / "a.h5")})
    with pytest.raises(ValueError, match=r"stored grid is 16 x 32; .*grid=\[8, 16\]"):
        TrajectoryDataModule(data, grid=8)
    assert TrajectoryDataModule(data, grid=[8, 16]).grid == (8, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "rum"}, "Did you mean 'ram'.*Allowed: 'auto', 'gpu', 'ram', 'none'"),
        ({"cache": "gpu"}, "cache=gpu holds the data on a CUDA device and there is none here"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"history": 0}, "history is 0"),
        ({"horizon": 7}, "need trajectories of at least 8 frames; there are 7"),
        ({"grid": 17}, "finer than the stored one"),
        ({"regrid": "nearest"}, "regrid is 'nearest'"),
    ],
)
def test_impossible_options_are_refused_before_data_are_read(
    torus_set: DataSet, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untouched(*_: Any) -> None:
        pytest.fail("data were read before the options were checked")

    monkeypatch.setattr(StoredTrajectories, "frames", untouched)
    with pytest.raises(ValueError, match=message):
        TrajectoryDataModule(torus_set, **options)
