"""What a run says of its speed is what it did."""

from __future__ import annotations

import logging
from typing import Any

import lightning
import pytest
import torch

from pdesurrogate.fields import Batch
from pdesurrogate.training.run import train
from pdesurrogate.training.throughput import Throughput, resident_memory

BATCH, STEPS = 4, 6
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec:FutureWarning",  # raised by lightning itself
    "ignore:.*does not have many workers:UserWarning",
)


class Clock:
    """Stands still but where work is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Loader:
    """Hands out batches, each after a while, and counts how long it was waited for."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.seconds_waited = clock, seconds, 0.0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Any:
        for _ in range(STEPS):
            self.clock.now += self.seconds
            self.seconds_waited += self.seconds
            zeros = torch.zeros(BATCH, dtype=torch.int64)
            yield Batch(
                torch.zeros(BATCH, 1, 1, 4), torch.zeros(BATCH, 1, 1, 4), torch.zeros(BATCH, 0), zeros, zeros
            )


class Steps(lightning.LightningModule):
    """Takes its time for every step, and more between epochs."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.clock, self.seconds = clock, seconds

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.clock.now += self.seconds
        return (self.weight - batch.future).square().mean()

    def on_train_epoch_end(self) -> None:
        self.clock.now += 1000.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_data_wait_is_the_share_of_time_that_the_loader_took(
    tmp_path: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, speed = Clock(), Throughput()
    monkeypatch.setattr("pdesurrogate.training.throughput.time", clock)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=2, log_every_n_steps=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, callbacks=[speed],
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="pdesurrogate"):
        trainer.fit(Steps(clock, 3.0), Loader(clock, 1.0))
    assert len(speed.epochs) == 2
    for epoch in speed.epochs:
        assert epoch["speed/data_wait"] == pytest.approx(0.25)
        assert epoch["speed/samples_per_second"] == pytest.approx(BATCH / 4)
        assert epoch["memory/resident_mib"] == pytest.approx(resident_memory() / 2**20, rel=0.2)
    for name, value in speed.epochs[-1].items():
        assert float(trainer.callback_metrics[name]) == pytest.approx(value)
    assert "Trained on 1 samples/s; 25 % of the time went by waiting for data" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("capture", ["true", "false"])
def test_a_run_on_data_held_on_the_gpu_is_that_on_data_read_from_file(
    compose_train: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture, capture: str
) -> None:
    errors = []
    for cache in ("gpu", "ram", "none"):
        with caplog.at_level(logging.INFO, logger="pdesurrogate"):
            errors.append(
                train(
                    compose_train(
                        "trainer=gpu",
                        f"data.cache={cache}",
                        f"trainer.capture={capture}",
                        "trainer.max_epochs=2",
                        run_dir=tmp_path / cache,
                    )
                )
            )
    assert errors == pytest.approx(errors[:1] * 3, rel=1e-4)  # some gradients add up in no fixed order
    assert "held in the memory of cuda:0" in caplog.text
    assert "at most" in caplog.text
