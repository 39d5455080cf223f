"""What a run says of its speed is what it did."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning
import pytest
import torch

from pdesurrogate.fields import Batch
from pdesurrogate.training.throughput import Throughput, resident_memory

BATCH, STEPS = 4, 6
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec:FutureWarning",  # raised by lightning itself
    "ignore:.*does not have many workers:UserWarning",
)


class Loader:
    """Hands out batches, each after a while, and counts how long it was waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.seconds_waited = seconds, 0.0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Any:
        for _ in range(STEPS):
            time.sleep(self.seconds)
            self.seconds_waited += self.seconds
            zeros = torch.zeros(BATCH, dtype=torch.int64)
            yield Batch(
                torch.zeros(BATCH, 1, 1, 4), torch.zeros(BATCH, 1, 1, 4), torch.zeros(BATCH, 0), zeros, zeros
            )


class Steps(lightning.LightningModule):
    """Takes its time for every step."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.weight, self.seconds = torch.nn.Parameter(torch.zeros(())), seconds

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        time.sleep(self.seconds)
        return (self.weight - batch.future).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("loading", "computing", "low", "high"), [(0.02, 0.0, 0.5, 1.0), (0.0, 0.02, 0.0, 0.02)]
)
def test_the_data_wait_is_the_share_of_time_that_the_loader_took(
    tmp_path: Any, caplog: pytest.LogCaptureFixture, loading: float, computing: float, low: float, high: float
) -> None:
    speed = Throughput()
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=2, log_every_n_steps=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, callbacks=[speed],
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="pdesurrogate"):
        trainer.fit(Steps(computing), Loader(loading))
    assert len(speed.epochs) == 2
    for epoch in speed.epochs:
        assert low <= epoch["speed/data_wait"] <= high
        assert 0 < epoch["speed/samples_per_second"] <= BATCH / 0.02
        assert epoch["memory/resident_mib"] == pytest.approx(resident_memory() / 2**20, rel=0.2)
    for name, value in speed.epochs[-1].items():
        assert float(trainer.callback_metrics[name]) == pytest.approx(value)
    assert "samples/s;" in caplog.text
