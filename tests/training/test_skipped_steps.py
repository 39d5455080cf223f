import copy
import logging

import pytest
import torch

from pdesurrogate.training import skipped_steps
from pdesurrogate.training.module import SurrogateTraining
from pdesurrogate.training.optimisation import Optimisation
from pdesurrogate.training.run import train
from pdesurrogate.training.skipped_steps import clip_or_leave_out


@pytest.fixture
def spoil(monkeypatch):
    """Let the loss of the second sample of a batch become infinite, and keep the weights before that step."""
    before = {}

    def patch(*steps):
        original = SurrogateTraining._losses

        def losses(module, batch):
            found = original(module, batch)
            if not (module.training and module.global_step in steps):
                return found
            before.update(copy.deepcopy(module.state_dict()), sample=(batch.trajectory[1], batch.start[1]))
            factors = torch.ones_like(found)
            factors[1] = float("inf")
            return found * factors

        monkeypatch.setattr(SurrogateTraining, "_losses", losses)
        return before

    yield patch
    monkeypatch.undo()


def read_checkpoint(tmp_path):
    return torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_step_without_a_finite_gradient_is_left_out_named_and_counted(compose_train, spoil, caplog):
    before = spoil(7)
    with caplog.at_level(logging.WARNING):
        assert train(compose_train()) < 2
    trajectory, start = before["sample"]
    (line,) = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert "up to step 8" in line
    assert f"nor the loss of trajectory {trajectory}, window start {start}." in line
    assert "That makes 1 since the start" in line


@pytest.mark.parametrize(("pause", "stop"), [(1, 3), (4, 4), (7, 5)])  # 5 steps an epoch, whose end looks too
def test_after_too_many_the_last_good_state_is_saved_and_training_ends_and_can_go_on(
    compose_train, spoil, tmp_path, monkeypatch, pause, stop
):
    before = spoil(*range(2, 9))
    monkeypatch.setattr(skipped_steps, "looks_every", lambda device: pause)
    with pytest.raises(ValueError, match=rf"left out up to step {stop}, .*trajectory \d+, window start \d+"):
        train(compose_train("optim.max_skipped=0"))
    saved = read_checkpoint(tmp_path)
    assert saved["global_step"] == stop
    assert all(torch.equal(v, before[k]) for k, v in saved["state_dict"].items())
    moments = saved["optimizer_states"][0]["state"].values()
    assert all(m["step"] == 2 and torch.isfinite(m["exp_avg_sq"]).all() for m in moments)
    if pause == 1:
        monkeypatch.undo()
        train(compose_train(f"resume={tmp_path / 'run'}"))
        assert read_checkpoint(tmp_path)["global_step"] == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_neither_momentum_nor_decay_moves_weights_in_a_step_that_is_left_out(dtype):
    weight = torch.nn.Parameter(torch.ones(2, dtype=dtype))
    optimiser, _ = Optimisation(lr=0.1, weight_decay=0.5, warmup=0.0).build([weight], 10)
    counts = []
    for gradient in (1.0, float("nan"), 1.0):
        weight.grad = torch.full_like(weight, gradient)
        counts.append(float(clip_or_leave_out(optimiser, max_norm=None)))
        before = weight.detach().clone()
        optimiser.step()
        assert torch.equal(weight, before) == (counts[-1] == 1)
    assert counts == [0, 1, 0]
