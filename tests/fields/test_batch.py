from __future__ import annotations

import pytest
import torch

from pdesurrogate.fields import Batch


@pytest.fixture
def batch():
    return Batch(
        history=torch.randn(3, 2, 1, 4, 5),
        future=torch.randn(3, 4, 1, 4, 5),
        parameters=torch.zeros(3, 0),
        trajectory=torch.tensor([0, 0, 1]),
        start=torch.tensor([0, 5, 2]),
    )


def test_the_length_of_a_batch_is_its_number_of_windows(batch):
    assert len(batch) == 3


def test_moving_a_batch_moves_every_tensor_and_leaves_the_original(batch):
    moved = batch.to("meta")
    for name in ("history", "future", "parameters", "trajectory", "start"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(batch, name).shape
        assert getattr(batch, name).device.type == "cpu"


def test_lightning_can_move_a_batch(batch):
    from lightning.fabric.utilities import move_data_to_device

    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, Batch)
    assert moved.history.device.type == "meta"


@pytest.mark.gpu
def test_a_pinned_batch_keeps_its_values(batch):
    pinned = batch.pin_memory()
    assert pinned.history.is_pinned()
    torch.testing.assert_close(pinned.history, batch.history)


@pytest.mark.parametrize("name", ["future", "parameters", "trajectory", "start"])
def test_parts_of_different_batch_size_do_not_make_a_batch(batch, name, as_users_run):
    parts = {k: getattr(batch, k) for k in ("history", "future", "parameters", "trajectory", "start")}
    parts[name] = parts[name][:2]
    with pytest.raises(ValueError, match=f"{name} .* 2 windows and history 3"):
        Batch(**parts)


def test_history_and_future_share_channels_and_grid(batch, as_users_run):
    with pytest.raises(ValueError, match=r"history .* and future .* differ in channels or grid"):
        Batch(batch.history, batch.future[..., :4], batch.parameters, batch.trajectory, batch.start)
