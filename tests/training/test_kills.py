"""A run that is killed again and again loses at most one interval, and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pdesurrogate.surrogate import Surrogate

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
INTERVAL = 3
TERMS = (
    "trainer.max_epochs=3",
    "data.batch_size=4",  # 10 steps an epoch
    "model.width=4",
    "model.depth=1",
    "optim.ema=0.9",
    "augment.shift=true",
    f"trainer.checkpoint_steps={INTERVAL}",
)


@pytest.fixture
def attempt(compose_train, tmp_path):
    """Train in a process of its own, which may be killed; return its exit code and the steps that it had taken."""
    steps_file = tmp_path / "steps"
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kill_worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )

    composed = compose_train(*TERMS)

    def start(run, seconds=None, dies_in_file=0, share=0.0):
        steps_file.write_text(f"{0:8d}")
        order = {
            "config": {**composed, "run_dir": str(run), "resume": str(run)},
            "steps_file": str(steps_file),
            "dies_in_file": dies_in_file,
            "share": share,
            "seconds": seconds,
        }
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), int(steps_file.read_text())

    with server:
        yield start
        server.stdin.close()
    assert server.returncode == 0


def read_checkpoint(run):
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    average = last["callbacks"]["WeightAverage"]["average"]
    return last["global_step"], last["state_dict"] | {f"average.{k}": v for k, v in average.items()}


def weights_of(run):
    return Surrogate.load(run / "artifact.pt").state_dict()


def differing(a, b):
    assert a.keys() == b.keys()
    return [k for k in a if not torch.equal(a[k], b[k])]


def test_twenty_kills_some_in_the_middle_of_a_checkpoint_change_nothing_of_the_result(attempt, tmp_path):
    whole, chance = tmp_path / "whole", random.Random(0)
    attempt(whole)  # warms the caches of files
    start = time.monotonic()
    assert attempt(tmp_path / "clock") == (0, 29)
    duration = time.monotonic() - start
    run, saved, finished = tmp_path / "run", 0, 0
    for kill in range(KILLS):
        code = 0
        while code == 0:
            if kill % 2:
                code, steps = attempt(run, seconds=duration * chance.random())
            else:
                code, steps = attempt(run, dies_in_file=chance.randint(1, 8), share=chance.random())
            if code == 0:
                assert not differing(weights_of(run), weights_of(whole))
                finished += 1
                run, saved = tmp_path / f"run{finished}", 0
        assert code == -signal.SIGKILL
        before = saved
        if (run / "checkpoints" / "last.ckpt").is_file():
            saved = read_checkpoint(run)[0]
        assert saved >= before
        assert max(steps, before) - saved <= INTERVAL
    assert attempt(run)[0] == 0
    assert not differing(read_checkpoint(run)[1], read_checkpoint(whole)[1])
    assert not differing(weights_of(run), weights_of(whole))
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
