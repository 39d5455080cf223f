"""Processes that cannot run are refused before anything heavy happens."""

import socket

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.models import MODELS
from pdesurrogate.training.model_parts import repeated_parts
from pdesurrogate.training.processes import build_strategy, check_processes
from pdesurrogate.training.sharded import FullySharded

SPEC = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
ALONE = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "region_parallel": 1}
TWO = {**ALONE, "devices": 2, "strategy": "ddp"}


@pytest.mark.parametrize(
    ("changes", "batch_size", "message"),
    [
        ({"strategy": "fdsp"}, 4, r"trainer.strategy is 'fdsp'. Did you mean 'fsdp'"),
        ({"accelerator": "gpus"}, 4, r"trainer.accelerator is 'gpus'. Did you mean 'gpu'"),
        ({"devices": 0}, 4, r"trainer.devices is 0; give their number, a list"),
        ({"devices": []}, 4, r"trainer.devices is \[\]; give their number"),
        ({"devices": "two"}, 4, r"trainer.devices is 'two'; give their number"),
        ({"num_nodes": "two"}, 4, r"trainer.num_nodes is 'two'; give the number of machines"),
        ({"strategy": "fsdp"}, 4, r"shares the weights out over processes, and .* is 1. Use more devices"),
        (
            {"devices": 2, "strategy": "fsdp", "region_parallel": 2},
            4,
            r"they do not go together. Use trainer",
        ),
        ({"devices": 2}, 5, r"data.batch_size is 5, .* and 2 share a batch out .* such as data.batch_size=4"),
        ({"devices": 2, "num_nodes": 3}, 16, r"and 6 share a batch out .* such as data.batch_size=18"),
        ({"devices": 4, "region_parallel": 2}, 3, r"and 2 share a batch out .* over trainer.region_parallel"),
    ],
)
def test_processes_that_cannot_work_together_are_refused(changes, batch_size, message):
    with pytest.raises(ValueError, match=message):
        check_processes({**ALONE, **changes}, batch_size)


def test_shares_are_not_averaged():
    check_processes(TWO, 4, ema=0.99)
    with pytest.raises(
        ValueError, match=r"optim.ema=0.99 averages whole weights .* Use trainer.strategy=ddp"
    ):
        check_processes({**TWO, "strategy": "fsdp"}, 4, ema=0.99)


def test_what_can_work_is_not_refused():
    check_processes(ALONE, 3)
    check_processes(TWO, 2)
    check_processes({**TWO, "devices": "auto", "strategy": "fsdp"}, 3)  # the processes themselves will see
    check_processes({**TWO, "devices": 4, "region_parallel": 4}, 1)


def test_gpus_that_do_not_exist_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"trainer.accelerator=gpu and .* sees no GPU here. Use trainer=cpu"):
        check_processes({**ALONE, "accelerator": "gpu"}, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes({**ALONE, "accelerator": "gpu", "devices": [1]}, 4)
    for devices in (3, [0, 2]):
        with pytest.raises(ValueError, match=r"this machine has 2 GPUs, number 0 to 1"):
            check_processes({**ALONE, "accelerator": "gpu", "devices": devices}, 12)


def test_a_port_in_use_is_refused_by_the_process_that_would_open_it(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MASTER_PORT", str(server.getsockname()[1]))
        with pytest.raises(ValueError, match=r"\(MASTER_PORT\), which another program uses"):
            check_processes(TWO, 4)
        check_processes(ALONE, 4)  # meets nobody
        monkeypatch.setenv("LOCAL_RANK", "1")
        check_processes(TWO, 4)
    monkeypatch.setenv("LOCAL_RANK", "0")
    check_processes(TWO, 4)


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_what_is_no_port_is_refused(monkeypatch, port):
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(ValueError, match=rf"MASTER_PORT is '{port}'; give a number from 1 to 65535"):
        check_processes(TWO, 4)
    check_processes(ALONE, 4)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.complex64))


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))


def test_models_whose_weights_cannot_be_shared_out_are_refused():
    fsdp = {**TWO, "strategy": "fsdp"}
    boosted = MODELS.build("specboost", SPEC, 1, 1, base_options={"width": 2, "depth": 1, "num_modes": 4})
    for model, message in (
        (boosted, r"model=mine has stages that are trained one after the other. Use trainer.strategy=ddp"),
        (Complex(), r"the weight 'weight' of model=mine: it is complex"),
        (Scalar(), r"the weight 'gain' of model=mine: it is a single number"),
    ):
        with pytest.raises(ValueError, match=message):
            build_strategy(fsdp, model, "mine")
        assert isinstance(build_strategy(TWO, model, "mine"), DDPStrategy)
    fno = MODELS.build("fno", SPEC, 1, 1, width=2, depth=3, num_modes=4)
    assert isinstance(build_strategy(fsdp, fno, "fno"), FullySharded)
    assert list(repeated_parts(fno)) == list(fno.blocks)


def test_a_training_refuses_before_it_looks_for_data(compose_train):
    from pdesurrogate.training.run import train

    with pytest.raises(ValueError, match=r"such as data\.batch_size=8"):
        train(compose_train("data.root=nowhere", "data.batch_size=7", "trainer.devices=2"))
