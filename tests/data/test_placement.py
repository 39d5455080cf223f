"""Where frames are held does not change a batch; what does not fit is read from its file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import lightning
import pytest
import torch

from pdesurrogate.data import held, placement
from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.held import HeldSplits
from pdesurrogate.data.loader import WindowLoader, Windows
from pdesurrogate.data.read_ahead import read_ahead
from pdesurrogate.data.sampling import WindowBatches
from pdesurrogate.data.trajectories import DataSet
from pdesurrogate.data.windows import WindowIndex
from pdesurrogate.fields import Batch

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
AUGMENT = {"group": "p4m", "shift": True}


def equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(first.tensors(), second.tensors(), strict=True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("augment", [None, AUGMENT])
def test_gathered_and_streamed_batches_are_the_same_bit_for_bit(
    torus_set: DataSet, stride: int, augment: Any
) -> None:
    options = {"history": 2, "horizon": 2, "stride": stride, "batch_size": 4, "seed": 3, "augment": augment}
    loaders = [
        TrajectoryDataModule(torus_set, cache=cache, **options).train_dataloader()  # type: ignore[arg-type]
        for cache in ("ram", "none")
    ]
    for pair in zip(*loaders, strict=True):
        assert equal(*pair)
        for batch in pair:
            assert batch.history.is_contiguous()
            assert batch.future.is_contiguous()


def test_what_a_gpu_will_hold_is_known_before_training(
    torus_set: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = [torus_set.splits[name] for name in ("train", "valid")]
    train, valid = (4 * s.num_trajectories * s.num_frames * s.grid[0] * s.grid[1] for s in splits)
    monkeypatch.setattr(placement.torch.cuda, "is_available", lambda: True)
    for cache, free, expected in (
        ("auto", 2 * (train + valid), train + valid),
        ("auto", 2 * train, train),  # both would take more than 60 %
        ("auto", valid, 0),
        ("gpu", train + valid, train + valid),
        ("ram", 2 * (train + valid), 0),
    ):
        monkeypatch.setattr(placement, "_free_on", lambda device, free=free: free)
        data = TrajectoryDataModule(torus_set, cache=cache)
        assert data.planned_on(CUDA) == expected, (cache, free)
    monkeypatch.setattr(placement, "_free_on", lambda device: train)
    with pytest.raises(ValueError, match=r"cache=gpu needs .* for the valid split"):
        TrajectoryDataModule(torus_set, cache="gpu").planned_on(CUDA)


def test_unasked_the_data_take_60_percent_of_the_free_memory_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "_free_on", lambda device: 1000)
    for needed, held_there, fits in ((600, 0, True), (601, 0, False), (800, 500, False), (400, 500, True)):
        assert placement.fits_on_device("auto", CUDA, needed, held_there, "the split") == fits
    assert placement.fits_on_device("gpu", CUDA, 1000, 0, "the split")
    assert not placement.fits_on_device("ram", CUDA, 1, 0, "the split")
    assert not placement.fits_on_device("auto", CPU, 1, 0, "the split")
    with pytest.raises(ValueError, match=r"cache=gpu needs .* for the split and 0 MiB are free on cuda"):
        placement.fits_on_device("gpu", CUDA, 1001, 0, "the split")
    with pytest.raises(ValueError, match=r"this run computes on cpu. Use trainer=gpu, or cache=auto"):
        placement.fits_on_device("gpu", CPU, 1, 0, "the split")


@pytest.mark.parametrize("host", [True, False])
def test_a_split_that_goes_to_the_device_leaves_the_host(
    torus_set: DataSet, host: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The device without memory stands for a GPU: what matters is where tensors are."""
    device, source = torch.device("meta"), torus_set.splits["train"]
    splits = HeldSplits({"train": source}, {"train": WindowIndex(6, 7, history=2)}, "auto")
    monkeypatch.setattr(held, "fits_on_host", lambda *_: host)
    monkeypatch.setattr(held, "fits_on_device", lambda *_: True)
    assert (splits.open("train").frames is not None) == host
    with caplog.at_level(logging.INFO, logger="pdesurrogate"):
        windows = [splits.place("train", device) for _ in range(2)]
    assert windows[0] is windows[1] is splits.open("train")
    batch = windows[0].batch([3, 8, 1])
    assert {part.device for part in batch.tensors()} == {device}
    assert (batch.history.shape, batch.future.shape) == ((3, 2, 1, 16, 16), (3, 1, 1, 16, 16))
    assert caplog.text.count("held in the memory of meta") == 1


def test_items_made_ahead_come_in_order_and_an_error_comes_where_its_item_was_due() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the sixth")

    ahead = read_ahead(items())
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="the sixth"):
        next(ahead)


def test_a_loader_that_is_closed_leaves_no_thread_and_knows_what_it_handed_out(torus_set: DataSet) -> None:
    windows = Windows(torus_set.splits["train"], WindowIndex(6, 7))
    loader = WindowLoader(windows, WindowBatches(36, 4, shuffle=True))
    whole = list(loader)
    walk = iter(loader)
    for _ in range(3):
        next(walk)
    state = loader.state_dict()  # the thread is up to three batches further
    assert state == {"epoch": 0, "next_batch": 3}
    loader.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
    loader.load_state_dict(state)
    assert all(equal(*pair) for pair in zip(loader, whole[3:], strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("augment", [None, AUGMENT])
@pytest.mark.parametrize("cache", ["gpu", "auto", "ram", "none"])
def test_batches_for_a_gpu_are_those_of_the_cpu(torus_set: DataSet, cache: str, augment: Any) -> None:
    class Collect(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen: list[Batch] = []

        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            assert {part.device.type for part in batch.tensors()} == {self.device.type}
            self.seen.append(batch.to("cpu"))
            return (self.weight - batch.future).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    seen = {}
    for device in ("cpu", "gpu"):
        module = TrajectoryDataModule(
            torus_set, history=2, batch_size=5, cache=cache if device == "gpu" else "ram", augment=augment
        )
        model = Collect()
        trainer = lightning.Trainer(
            accelerator=device, devices=1, max_epochs=2, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(model, datamodule=module)
        seen[device] = model.seen
    assert len(seen["gpu"]) == 12
    assert all(equal(*pair) for pair in zip(seen["cpu"], seen["gpu"], strict=True))
