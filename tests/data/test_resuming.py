"""A run that is stopped and resumed sees the batches that it would have seen without the stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.trajectories import DataSet
from pdesurrogate.fields import Batch

Seen = list[tuple[int, list[tuple[int, int]]]]


class Scale(lightning.LightningModule):
    """The smallest model: one factor. It keeps a diary of epochs and windows."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.diary: Seen = []
        self.stop_at = stop_at

    def training_step(self, batch: Batch, _: int) -> Tensor:
        if self.stop_at is not None and len(self.diary) == self.stop_at:
            raise KeyboardInterrupt
        places = zip(batch.trajectory.tolist(), batch.start.tolist(), strict=True)
        self.diary.append((self.current_epoch, list(places)))
        return (self.factor * batch.history - batch.future).square().mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveOnInterrupt(Callback):
    """Writes a checkpoint when training is interrupted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        trainer.save_checkpoint(self.path)


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )


def module(torus_set: DataSet, **options: Any) -> TrajectoryDataModule:
    return TrajectoryDataModule(torus_set, **{"batch_size": 5, **options})  # 7 batches an epoch


@pytest.fixture(autouse=True)
def _sigint() -> Iterator[None]:
    """Give Ctrl-C back to pytest; the trainer ignores it for good once it has been interrupted."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def uninterrupted(torus_set: DataSet, tmp_path: Path) -> Scale:
    model = Scale()
    trainer(tmp_path).fit(model, datamodule=module(torus_set))
    return model


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec:FutureWarning",  # raised by lightning itself
    "ignore:Checkpoint directory:UserWarning",
    "ignore:Be aware that when using .ckpt_path:UserWarning",
    "ignore:Found keys that are not in the model state dict:UserWarning",
)


def test_without_a_stop_every_epoch_is_whole_and_differs(uninterrupted: Scale) -> None:
    epochs = [[windows for e, windows in uninterrupted.diary if e == epoch] for epoch in range(3)]
    assert [len(batches) for batches in epochs] == [7, 7, 7]
    assert all(len({w for batch in batches for w in batch}) == 35 for batches in epochs)
    assert len({str(batches) for batches in epochs}) == 3


@pytest.mark.parametrize(
    ("stop_at", "options"),
    [
        *((stop_at, {"cache": "ram"}) for stop_at in (0, 3, 6, 7, 11, 13, 14)),
        *((stop_at, {"cache": "none", "num_workers": 1}) for stop_at in (3, 7, 11)),
    ],
)
def test_a_run_interrupted_anywhere_goes_on_with_the_batches_that_were_left(
    torus_set: DataSet, tmp_path: Path, uninterrupted: Scale, stop_at: int, options: dict[str, Any]
) -> None:
    stopped, checkpoint = Scale(stop_at), tmp_path / "stopped.ckpt"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, SaveOnInterrupt(checkpoint)).fit(stopped, datamodule=module(torus_set, **options))
    resumed = Scale()
    trainer(tmp_path).fit(resumed, datamodule=module(torus_set, **options), ckpt_path=checkpoint)
    assert stopped.diary + resumed.diary == uninterrupted.diary
    assert active_children() == [], "worker processes outlive the fit"
    assert torch.equal(resumed.factor, uninterrupted.factor)


@pytest.mark.parametrize("every", [2, 7])
def test_checkpoints_taken_every_few_steps_resume_exactly(
    torus_set: DataSet, tmp_path: Path, uninterrupted: Scale, every: int
) -> None:
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=every, save_top_k=-1)
    trainer(tmp_path, keep).fit(Scale(), datamodule=module(torus_set))
    for step in range(every, 21, every):
        resumed = Scale()
        data = module(torus_set)
        trainer(tmp_path).fit(resumed, datamodule=data, ckpt_path=tmp_path / f"step={step}.ckpt")
        assert resumed.diary == uninterrupted.diary[step:], f"resumed after step {step}"


@pytest.mark.parametrize("moment", ["on_validation_end", "on_train_epoch_end"])
def test_checkpoints_taken_between_epochs_resume_exactly(
    torus_set: DataSet, tmp_path: Path, uninterrupted: Scale, moment: str
) -> None:
    keep = ModelCheckpoint(
        tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=moment == "on_train_epoch_end"
    )
    trainer(tmp_path, keep).fit(Scale(), datamodule=module(torus_set))
    for epoch in range(2):
        resumed = Scale()
        data = module(torus_set)
        trainer(tmp_path).fit(resumed, datamodule=data, ckpt_path=tmp_path / f"epoch={epoch}.ckpt")
        assert resumed.diary == uninterrupted.diary[7 * (epoch + 1) :]


def test_a_run_may_be_interrupted_and_resumed_twice(
    torus_set: DataSet, tmp_path: Path, uninterrupted: Scale
) -> None:
    diary: Seen = []
    checkpoint: Path | None = None
    for part, stop_at in enumerate((4, 6, None)):
        model, saved = Scale(stop_at), tmp_path / f"{part}.ckpt"
        run = trainer(tmp_path, SaveOnInterrupt(saved))
        if stop_at is None:
            run.fit(model, datamodule=module(torus_set), ckpt_path=checkpoint)
        else:
            with pytest.raises((KeyboardInterrupt, SystemExit)):
                run.fit(model, datamodule=module(torus_set), ckpt_path=checkpoint)
        diary += model.diary
        checkpoint = saved
    assert diary == uninterrupted.diary


def test_checkpoints_hold_plain_types_and_other_batches_are_refused_inside_an_epoch(
    torus_set: DataSet, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "stopped.ckpt"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, SaveOnInterrupt(checkpoint)).fit(Scale(10), datamodule=module(torus_set))
    content = torch.load(checkpoint, weights_only=True)
    assert content["TrajectoryDataModule"] == {
        "seed": 0,
        "batch_size": 5,
        "num_windows": 36,
        "augment.group": "p1",
        "augment.shift": False,
        "augment.seed": 0,
        "epoch": 1,
        "next_batch": 3,
    }
    with pytest.raises(ValueError, match=r"batch_size was 5 and is 6.*Resume with the settings"):
        trainer(tmp_path).fit(Scale(), datamodule=module(torus_set, batch_size=6), ckpt_path=checkpoint)
    with pytest.raises(
        ValueError, match=r"augment.group was p1 and is p4; augment.shift was False and is True"
    ):
        trainer(tmp_path).fit(
            Scale(),
            datamodule=module(torus_set, augment={"group": "p4", "shift": True}),
            ckpt_path=checkpoint,
        )


def test_other_batches_are_accepted_between_epochs(
    torus_set: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer(tmp_path, keep).fit(Scale(), datamodule=module(torus_set))
    resumed = Scale()
    data = module(torus_set, batch_size=12)
    trainer(tmp_path).fit(resumed, datamodule=data, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert "batch_size was 5 and is 12" in caplog.text
    assert [len(windows) for _, windows in resumed.diary] == [12, 12, 12]


def test_the_test_split_is_refused_during_fit_and_given_afterwards(
    torus_set: DataSet, tmp_path: Path
) -> None:
    refusals = []

    class Peek(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            for ask in (
                lambda: trainer.datamodule.trajectories("test"),
                trainer.datamodule.test_dataloader,
            ):
                with pytest.raises(ValueError, match="test split is not available while") as caught:
                    ask()
                refusals.append(caught)

    data = module(torus_set)
    trainer(tmp_path, Peek(), limit_train_batches=1).fit(Scale(), datamodule=data)
    assert len(refusals) == 6
    assert data.trajectories("test").num_trajectories == 2
    assert len(list(data.test_dataloader())) == 3
