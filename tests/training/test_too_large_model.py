"""Models whose weights do not fit into memory, said in a sentence: how large they are, and what makes them smaller."""

import os
import re
import subprocess
import sys
from functools import wraps

import pytest
import torch

from pdesurrogate.models.t1 import T1
from pdesurrogate.models.unet import UNet
from pdesurrogate.training.run import train

LIMIT = 7_000_000  # KiB, of which torch and its libraries take about half
UNDER_LIMIT = ("sh", "-c", f'ulimit -v {LIMIT} && exec "$@"', "sh", sys.executable)
OF_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you")
OF_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("model=t1", "model.num_modes=15", "model.width=3000"),
            r"its 16,2\d\d,\d{3},\d{3} real parameters are 64\.\d GB of weights, in training 259 GB with gradients and "
            r"moments \(estimate\)\. Lower one of model\.num_modes, model\.depth, model\.width\.",
        ),
        (
            ("model=factformer", "model.width=65536", "model.heads=256", "model.depth=2"),
            r"its 136,\d{3},\d{3},\d{3} real parameters are 545 GB of weights, in training 2,18\d GB with gradients "
            r"and moments \(estimate\)\. Lower one of model\.depth, model\.heads, model\.width\.",
        ),
    ],
    ids=["t1", "factformer"],
)
def test_the_command_line_says_so_where_memory_is_limited(
    overrides, sentence, wave_store, repository, tmp_path
):
    small = (f"data.root={wave_store}", "data.grid=16", "logger=none", f"hydra.run.dir={tmp_path / 'run'}")
    done = subprocess.run(
        [*UNDER_LIMIT, repository / "train.py", *small, *overrides],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},  # a driver reserves more addresses than that
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    kind = overrides[0].removeprefix("model=")
    assert re.search(rf"\nerror: memory ran out while {kind} was built: {sentence}\n$", done.stderr), (
        done.stderr
    )


@pytest.mark.parametrize("error", [OF_CPU, OF_GPU, MemoryError()], ids=["CPU", "GPU", "Python"])
def test_so_does_the_function_whatever_memory_it_is(error, compose_train, monkeypatch, tmp_path):
    built, original = [], T1.__init__

    @wraps(original)  # its signature says what the options are
    def fails_once(self, *args, **options):
        built.append(options)
        if len(built) == 1:
            raise error
        original(self, *args, **options)

    monkeypatch.setattr(T1, "__init__", fails_once)
    with pytest.raises(ValueError, match="memory ran out while t1 was built: its 3,728 real") as caught:
        train(compose_train("model=t1", "model.num_modes=4", "model.width=8", "model.depth=2"))
    assert caught.value.__cause__ is error
    assert "Lower one of model.num_modes, model.depth, model.width." in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_counted_is_advised_all_the_same(compose_train, monkeypatch):
    def fails(*_, **__):
        raise OF_CPU

    monkeypatch.setattr(UNet, "__init__", fails)
    message = (
        r"while unet was built: its weights do not fit\. Lower one of model\.multipliers, model\.width\."
    )
    with pytest.raises(ValueError, match=message):
        train(compose_train("model=unet"))


def test_another_failure_of_a_constructor_stays_what_it_is(compose_train, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("some other failure")

    monkeypatch.setattr(UNet, "__init__", fails)
    with pytest.raises(RuntimeError, match="some other failure"):
        train(compose_train("model=unet"))
