import os
import signal

import pytest
import torch

from pdesurrogate.interruption import Interrupted, StopSignals
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training import UNROLLS
from pdesurrogate.training.module import SurrogateTraining
from pdesurrogate.training.run import train

INT, TERM, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1


def read_checkpoint(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def differing(a, b):
    assert a.keys() == b.keys()
    return [key for key in a if not torch.equal(a[key], b[key])]


@pytest.fixture
def send_at(monkeypatch):
    """Let a signal come in the middle of a step."""

    def patch(signum, step):
        original = SurrogateTraining.training_step

        def training_step(module, batch, batch_idx):
            if module.global_step == step:
                signal.raise_signal(signum)
            return original(module, batch, batch_idx)

        monkeypatch.setattr(SurrogateTraining, "training_step", training_step)

    yield patch
    monkeypatch.undo()


@pytest.mark.parametrize(("signum", "step"), [(INT, 0), (TERM, 3), (USR1, 5), (TERM, 6), (INT, 14)])
def test_a_signal_inside_an_epoch_saves_and_resuming_equals_no_interruption(
    compose_train, tmp_path, send_at, monkeypatch, signum, step
):
    batch = ("data.batch_size=7", "trainer.max_epochs=3")  # 40 windows: 5 steps an epoch, 15 in all
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    before = signal.getsignal(signum)
    train(compose_train(*batch, run_dir=whole))
    send_at(signum, step)
    with pytest.raises(Interrupted, match=r"python train\.py resume=") as stop:
        train(compose_train(*batch, run_dir=parts))
    assert stop.value.code == 128 + signum
    assert signal.getsignal(signum) == before
    assert read_checkpoint(parts)["global_step"] == step + 1
    monkeypatch.undo()
    train(compose_train(*batch, f"resume={parts}", run_dir=parts))
    a, b = read_checkpoint(whole), read_checkpoint(parts)
    assert a["global_step"] == b["global_step"] == 15
    assert not differing(a["state_dict"], b["state_dict"])
    assert not differing(*(Surrogate.load(run / "artifact.pt").state_dict() for run in (whole, parts)))


CHANGES = {
    "k_step": ("num_steps=2", "curriculum_steps=6"),
    "pushforward": ("pushes=1", "curriculum_steps=5"),
    "noise": ("std=0.1",),
    "latent_marching": ("curriculum_steps=3", "push_after=4", "push_every=2"),
}
"""Options by which an unroll does something else before an interruption at step 3 than after it."""


@pytest.mark.parametrize("kind", [kind for kind in UNROLLS.names() if kind != "one_step"])
def test_every_unroll_resumes_inside_an_epoch_where_it_stopped_bit_for_bit(
    kind, compose_train, tmp_path, send_at, monkeypatch
):
    words = [f"unroll={kind}", *(f"unroll.{option}" for option in CHANGES.get(kind, ()))]
    words += ["data.horizon=2", "data.batch_size=4", "model.width=4", "model.depth=1"]
    monkeypatch.setattr("pdesurrogate.training.forecasts.draw_forecast", lambda *given: None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(compose_train(*words, run_dir=whole))
    send_at(INT, 2)
    with pytest.raises(Interrupted):
        train(compose_train(*words, run_dir=parts))
    monkeypatch.undo()
    monkeypatch.setattr("pdesurrogate.training.forecasts.draw_forecast", lambda *given: None)
    assert read_checkpoint(parts)["global_step"] == 3
    train(compose_train(*words, f"resume={parts}", run_dir=parts))
    a, b = read_checkpoint(whole), read_checkpoint(parts)
    assert a["global_step"] == b["global_step"] >= 8
    assert not differing(a["state_dict"], b["state_dict"])


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(compose_train, tmp_path):
    config = compose_train(f"resume={tmp_path / 'run'}", "trainer.max_epochs=1")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / ".last.ckpt.4711.tmp").write_bytes(b"half")
    train(config)
    assert read_checkpoint(tmp_path / "run")["global_step"] == 5
    assert {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_checkpoints_are_written_after_as_many_steps_as_asked(compose_train, tmp_path, monkeypatch):
    from pdesurrogate.training.checkpoints import KeepLast

    saved, original = [], KeepLast.save

    def save(keep, trainer):
        saved.append(trainer.global_step)
        original(keep, trainer)

    monkeypatch.setattr(KeepLast, "save", save)
    train(compose_train("trainer.checkpoint_steps=2", "data.batch_size=7"))
    assert saved == [2, 4, 5, 7, 9, 10]  # after 5 and 10 an epoch is over
    with pytest.raises(ValueError, match="checkpoint_steps is 0; give a positive number"):
        train(compose_train("trainer.checkpoint_steps=0", f"run_dir={tmp_path / 'other'}"))


def received(*signums, defer=True, **options):
    """Send signals to oneself, the first of which ends a deferring run after its step."""
    with StopSignals("do so", **options) as signals:
        if defer:
            signals.defer()
        for signum in signums:
            os.kill(os.getpid(), signum)
        raise signals.interrupted(signals.received, step=3)


@pytest.mark.parametrize("signum", [INT, TERM, USR1])
def test_signals_stop_at_once_where_nothing_is_to_be_saved(signum):
    with pytest.raises(Interrupted, match=r"Stopped at once by .* Go on with: do so") as stop:
        received(signum, defer=False, preemption="SIGUSR1")
    assert stop.value.signum == signum


def test_a_second_ctrl_c_stops_at_once_and_other_signals_wait_for_the_step():
    with pytest.raises(Interrupted, match=r"at once by Ctrl-C") as stop:
        received(TERM, INT)
    assert stop.value.signum == INT
    with pytest.raises(Interrupted, match=r"by SIGTERM after step 3; nothing is lost") as stop:
        received(TERM, TERM)
    assert stop.value.code == 143


def test_only_the_scheduler_s_warning_has_the_job_queued_again_with_the_old_handlers_back():
    calls, old = [], signal.getsignal(USR1)
    for signum in (TERM, USR1):
        with pytest.raises(Interrupted):
            received(signum, preemption="SIGUSR1", on_preemption=lambda: calls.append(signal.getsignal(USR1)))
    assert calls == [old]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SIGUSR", r"'SIGUSR'.* Did you mean 'SIGUSR"),
        ("SIGKILL", "'SIGKILL', which is no signal that a process can"),
    ],
)
def test_a_signal_that_cannot_be_answered_is_refused(compose_train, name, sentence):
    with pytest.raises(ValueError, match=rf"preemption_signal is {sentence}"):
        train(compose_train(f"trainer.preemption_signal={name}"))
