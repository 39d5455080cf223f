import copy
from functools import partial

import lightning
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._python_dispatch import TorchDispatchMode

from pdesurrogate.fields import Axis, Batch, DataSpec, Field
from pdesurrogate.fields.fourier import keep_tables
from pdesurrogate.layers.derived_weights import DerivedWeight
from pdesurrogate.models.fno import FNO
from pdesurrogate.training import module as training_module
from pdesurrogate.training import run as training_run
from pdesurrogate.training.captured_step import CapturedStep
from pdesurrogate.training.run import train
from pdesurrogate.training.skipped_steps import SkippedSteps

SPEC = DataSpec(fields=(Field("tracer"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.1)


class Rerun:
    """What a graph does, without one: the recorded step runs again, its result lands in the same memory."""

    def __init__(self):
        self.recorded = 0
        self.replays = 0

    def warm_up(self, step):
        return step()

    def record(self, step):
        self.recorded += 1
        result = step()
        ready = [True]  # the first replay is the step that ran just now

        def replay():
            self.replays += 1
            if ready:
                ready.clear()
            else:
                result.copy_(step())

        return replay, result


class Untold(Rerun):
    """As a graph's replays do, these change weights without raising the version that torch counts."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def record(self, step):
        _, result = super().record(step)
        return lambda: [w.data.add_(1.0) for w in self.weights], result


def build_model(device="cpu"):
    torch.manual_seed(0)
    return FNO(SPEC, 1, 1, num_modes=6, width=8, depth=2).to(device)


def make_batch(seed, size=4, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    history, future = (torch.randn(size, 1, 1, 12, 12, generator=generator) for _ in range(2))
    numbers = torch.arange(size)
    return Batch(history, future, torch.zeros(size, 0), numbers, numbers).to(device)


def optimise(model, fused=True):
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    return optimiser, LambdaLR(optimiser, lambda step: 1 / (1 + step))


def losses_of(model, batch):
    return (model(batch.history, batch.parameters) - batch.future).square().flatten(1).mean(1)


def ordinary_steps(model, batches, max_norm):
    optimiser, schedule = optimise(model)
    found = []
    for batch in batches:
        losses = losses_of(model, batch)
        optimiser.zero_grad()
        losses.mean().backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimiser.step()
        schedule.step()
        found.append(losses.detach())
    return found


def captured_steps(model, batches, max_norm, recorder):
    optimiser, schedule = optimise(model)
    step = CapturedStep(partial(losses_of, model), optimiser, max_norm=max_norm, recorder=recorder)
    found = []
    for batch in batches:
        found.append(step(batch).clone())
        schedule.step()
    return found


def assert_equal_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_captured_steps_are_the_ordinary_ones_with_their_schedule_and_clipping(max_norm):
    batches = [make_batch(seed) for seed in range(8)]
    model, twin = build_model(), build_model()
    recorder = Rerun()
    found = captured_steps(model, batches, max_norm, recorder)
    expected = ordinary_steps(twin, batches, max_norm)
    # Not bit for bit: the learning rate is a float32 number on the device instead of a float64 one.
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-5, atol=0)
    assert_equal_weights(dict(model.named_parameters()), dict(twin.named_parameters()))
    assert (recorder.recorded, recorder.replays) == (1, 5)


@pytest.mark.gpu
@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_a_graph_takes_the_steps_that_separate_kernels_take(max_norm):
    batches = [make_batch(seed, device="cuda") for seed in range(10)]
    model, twin = build_model("cuda"), build_model("cuda")
    found = captured_steps(model, batches, max_norm, None)
    expected = ordinary_steps(twin, batches, max_norm)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-4, atol=1e-6)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_every_step_reads_its_batch_from_the_same_memory():
    model = build_model()
    seen = []

    def losses(batch):
        seen.append([t.data_ptr() for t in batch.tensors()])
        return losses_of(model, batch)

    step = CapturedStep(losses, optimise(model)[0], max_norm=None, recorder=Rerun())
    for seed in range(6):
        step(make_batch(seed))
    assert len(seen) == 6
    assert all(pointers == seen[0] for pointers in seen)


def test_a_batch_of_another_size_is_refused_and_changes_nothing():
    model = build_model()
    step = CapturedStep(partial(losses_of, model), optimise(model)[0], max_norm=None, recorder=Rerun())
    step(make_batch(0))
    before = copy.deepcopy(model.state_dict())
    assert step.takes(make_batch(1))
    assert not step.takes(make_batch(1, size=3))
    with pytest.raises(ValueError, match=r"recorded for batches of \(\(4, 1, 1, 12, 12\)"):
        step(make_batch(1, size=3))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("when", [1, 5])
def test_a_step_whose_gradient_is_not_finite_changes_nothing(when):
    model = build_model()
    optimiser, _ = optimise(model)
    skipped = SkippedSteps()

    def losses(batch):
        found = losses_of(model, batch)
        skipped.note_losses(found, batch)
        return found

    step = CapturedStep(losses, optimiser, max_norm=1.0, count=skipped.count, recorder=Rerun())
    for seed in range(when):
        step(make_batch(seed))
    before = copy.deepcopy((model.state_dict(), optimiser.state_dict()["state"]))
    bad = make_batch(9)
    bad.history[2, ..., 3] = float("nan")
    assert torch.equal(torch.isfinite(step(bad)), torch.tensor([True, True, False, True]))
    after = model.state_dict(), optimiser.state_dict()["state"]
    assert all(torch.equal(before[0][k], v) for k, v in after[0].items())
    assert all(torch.equal(before[1][i][k], v) for i, state in after[1].items() for k, v in state.items())
    trainer = lightning.Trainer(accelerator="cpu", logger=False)
    assert skipped.look(trainer) == (1, (2, 2))
    step(make_batch(10))
    assert skipped.look(trainer) == (1, None)
    assert any(not torch.equal(before[0][k], v) for k, v in model.state_dict().items())


def test_without_a_gpu_or_a_fused_optimiser_it_says_what_to_do():
    model = build_model()
    with pytest.raises(ValueError, match=r"weights are on cpu. Train on a GPU \(trainer=gpu\)"):
        CapturedStep(partial(losses_of, model), optimise(model)[0], max_norm=None)
    with pytest.raises(ValueError, match="fused=True"):
        CapturedStep(
            partial(losses_of, model), optimise(model, fused=False)[0], max_norm=None, recorder=Rerun()
        )


def test_the_recorded_step_holds_the_tables_that_it_reads():
    model = build_model()
    step = CapturedStep(partial(losses_of, model), optimise(model)[0], max_norm=None, recorder=Rerun())
    for seed in range(5):
        step(make_batch(seed))
    with keep_tables() as asked_for:
        losses_of(model, make_batch(0))
    assert asked_for
    assert {id(table) for table in asked_for} <= {id(table) for table in step._tables}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to capture on")
def test_a_run_without_a_gpu_refuses_capture_before_it_starts(compose_train, tmp_path):
    config = compose_train()
    config["trainer"]["capture"] = True
    with pytest.raises(ValueError, match=r"trainer.capture=true .* Set trainer.capture=false"):
        train(config)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def recorder(monkeypatch):
    """Let a run capture its steps on the CPU, by running them again."""
    rerun = Rerun()
    monkeypatch.setattr(training_run, "_captures", lambda trainer: trainer.get("capture", False))
    monkeypatch.setattr(training_module, "CapturedStep", partial(CapturedStep, recorder=rerun))
    return rerun


def trained(compose_train, run_dir, *overrides, capture):
    config = compose_train("trainer.max_epochs=3", *overrides, run_dir=run_dir)
    config["trainer"]["capture"] = capture
    train(config)
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_run_of_captured_steps_is_the_ordinary_run(compose_train, tmp_path, recorder):
    # 8 trajectories of 5 windows: five batches of 7 in every epoch.
    terms = ("data.batch_size=7", "optim.ema=0.9")
    captured = trained(compose_train, tmp_path / "a", *terms, capture=True)
    assert recorder.replays == 3 * 5 - 3
    ordinary = trained(compose_train, tmp_path / "b", *terms, capture=False)
    assert captured["global_step"] == ordinary["global_step"] == 15
    assert_equal_weights(captured["state_dict"], ordinary["state_dict"])
    averages = [run["callbacks"]["WeightAverage"]["average"] for run in (captured, ordinary)]
    assert_equal_weights(*averages)
    assert any(not torch.equal(v, captured["state_dict"][k]) for k, v in averages[0].items())
    last_rate = ordinary["lr_schedulers"][0]["_last_lr"]
    assert captured["lr_schedulers"][0]["_last_lr"] == pytest.approx(last_rate, rel=1e-6)


@pytest.mark.parametrize("capture", [False, True])
def test_a_captured_run_can_be_resumed_with_capture_and_without(compose_train, tmp_path, recorder, capture):
    options = ("optim.schedule=constant", "optim.warmup=0")
    whole = trained(compose_train, tmp_path / "whole", *options, "trainer.max_epochs=4", capture=False)
    parts = tmp_path / "parts"
    trained(compose_train, parts, *options, "trainer.max_epochs=2", capture=True)
    resumed = trained(
        compose_train, parts, *options, "trainer.max_epochs=4", f"resume={parts}", capture=capture
    )
    assert_equal_weights(resumed["state_dict"], whole["state_dict"])


WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
}


class RefuseToWait(TorchDispatchMode):
    """Refuse what makes the host wait for a device: reading a number, or shapes that depend on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in WAITING:
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", ["relative_l2", "h1"])
@pytest.mark.parametrize("unroll", ["one_step", "k_step"])
def test_no_step_waits_for_the_device(compose_train, monkeypatch, unroll, loss):
    original, steps = training_module.SurrogateTraining.optimizer_step, []

    def guarded(module, *args, **kwargs):
        with RefuseToWait():
            original(module, *args, **kwargs)
        steps.append(module.global_step)

    monkeypatch.setattr(training_module.SurrogateTraining, "optimizer_step", guarded)
    train(compose_train("trainer.max_epochs=1", f"unroll={unroll}", f"loss={loss}"))
    assert len(steps) >= 3


def test_the_guard_sees_a_number_that_is_read():
    with RefuseToWait(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        float(torch.ones(2).sum())


def test_weights_derived_from_parameters_are_built_anew_after_a_replay():
    model = build_model()
    optimiser, _ = optimise(model)
    weights = list(model.parameters())
    step = CapturedStep(
        partial(losses_of, model), optimiser, max_norm=None, warm_up=0, recorder=Untold(weights)
    )
    derived = DerivedWeight(lambda w: 2 * w)
    with torch.no_grad():
        for seed in range(3):
            with torch.enable_grad():
                step(make_batch(seed))
            assert torch.equal(derived(weights[0]), 2 * weights[0])
    assert derived.num_built == 3
