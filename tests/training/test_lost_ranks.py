"""What happens to one of two processes reaches the other: a death, silence, a signal, a loss that is not finite."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pdesurrogate.training.run import train

ROOT = Path(__file__).resolve().parents[2]
TERMS = ("model.width=4", "model.depth=1", "data.batch_size=4", "trainer.checkpoint_steps=2")
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.timeout_minutes=0.05")


@pytest.fixture(scope="module")
def server():
    """Answers for trainings in two processes."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("rank_worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    with process:
        yield process
        process.stdin.close()


@pytest.fixture
def together(server, compose_train):
    """Train in two processes while something happens to the second; return the exit code and messages of each."""

    def ask(event, step=3):
        order = {"config": compose_train(*TERMS, *TWO), "event": event, "step": step}
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    return ask


def read_checkpoint(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("event", ["SIGKILL", "SIGSTOP"])
def test_when_a_process_dies_or_hangs_the_other_ends_soon_with_a_sentence_and_a_checkpoint(
    together, tmp_path, event
):
    start = time.monotonic()
    (code, told), _ = together(event)
    assert code == 1
    assert time.monotonic() - start < 60
    assert "ConnectionError: another process of this training has died or did not answer" in told
    assert f"python train.py resume={tmp_path / 'run'}" in told
    assert "GLHF" not in told  # what gloo adds
    assert read_checkpoint(tmp_path / "run")["global_step"] == 2


EVENTS = {
    "refuses": ("raise ValueError('no room here')", "error: no room here", "ended with exit code 1"),
    "dies": ("os.kill(os.getpid(), 9)", "It may have run out of memory", "was killed by SIGKILL"),
}


def test_when_a_process_ends_before_it_meets_the_others_the_command_ends_in_sentences(wave_store, tmp_path):
    small = ("data.grid=16", "model.num_modes=6", *TERMS, "trainer=ddp", "trainer.accelerator=cpu")
    command = [sys.executable, str(ROOT / "train.py"), f"data.root={wave_store}", *small]
    started = {}
    for event, (done, *_) in EVENTS.items():  # side by side: most of their time is waiting
        (tmp_path / f"{event}.py").write_text(
            f"import os\nif os.environ.get('LOCAL_RANK') == '1':\n    {done}\n"
        )
        started[event] = subprocess.Popen(
            [*command, f"plugins=[{event}]", "logger=none", f"run_id={event}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    for event, process in started.items():
        _, told = process.communicate(timeout=200)  # trainer.timeout_minutes is 10
        assert process.returncode == 1
        _, *sentences = EVENTS[event]
        for sentence in (*sentences, "process 1 of this training", f"python train.py resume=runs/{event}"):
            assert sentence in told
        assert "Traceback" not in told


def test_a_signal_to_one_process_stops_both_after_the_same_step(together, tmp_path):
    answers = together("SIGTERM")
    assert [code for code, _ in answers] == [128 + signal.SIGTERM] * 2
    step = read_checkpoint(tmp_path / "run")["global_step"]
    assert all(f"Stopped by SIGTERM after step {step}; nothing is lost" in told for _, told in answers)


def test_a_loss_that_is_not_finite_on_one_process_is_left_out_on_both(
    together, compose_train, tmp_path, caplog
):
    answers = together("inf")
    assert [code for code, _ in answers] == [0, 0]
    told = answers[0][1]
    assert told.count("was left out") == 1
    assert "nor the loss of trajectory" in told
    last = read_checkpoint(tmp_path / "run")
    assert last["global_step"] == 20
    assert {int(m["step"]) for m in last["optimizer_states"][0]["state"].values()} == {19}
    # One process goes on with what two have begun, and says what that changes.
    train(compose_train(*TERMS, "trainer.max_epochs=3", f"resume={tmp_path / 'run'}"))
    assert "The processes of this run were 2 and are 1" in caplog.text
    assert read_checkpoint(tmp_path / "run")["global_step"] == 30
