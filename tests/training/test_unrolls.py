import pytest
import torch

from pdesurrogate.fields import Axis, Batch, DataSpec, Field, Normaliser
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.latent_marching import LatentMarching
from pdesurrogate.training.unrolls import ChangingUnroll, KStep, OneStep

SPEC = DataSpec(fields=(Field("u"),), axes=(Axis("x", 1.0),), dt=1.0)


class Doubling(torch.nn.Module):
    """u -> a u for the last frame, with one learnable factor."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return self.factor * history[:, -1:]


def surrogate() -> Surrogate:
    return Surrogate(SPEC, Normaliser([0.0], [1.0]), Doubling(), history=2, horizon=1)


def batch(horizon: int) -> Batch:
    ones = torch.ones(1, 2, 1, 4)
    return Batch(
        ones,
        torch.zeros(1, horizon, 1, 4),
        torch.zeros(1, 0),
        torch.zeros(1, dtype=int),
        torch.zeros(1, dtype=int),
    )


def test_one_step_predicts_from_the_true_history():
    assert torch.equal(OneStep()(surrogate(), batch(1)), torch.full((1, 1, 1, 4), 2.0))


def test_k_step_feeds_predictions_back():
    prediction = KStep(num_steps=3)(surrogate(), batch(3))
    assert prediction[0, :, 0, 0].tolist() == [2.0, 4.0, 8.0]


@pytest.mark.parametrize(("detach", "expected"), [(False, 12.0), (True, 4.0)])
def test_detach_cuts_the_gradient_between_steps(detach, expected):
    # The third frame is a³ with derivative 3a² = 12; with the chain cut it is a · (a²) and only a counts: 4.
    s = surrogate()
    last = KStep(num_steps=3, detach=detach)(s, batch(3))[0, -1, 0, 0]
    (gradient,) = torch.autograd.grad(last, s.model.factor)
    assert float(gradient) == expected


def test_impossible_numbers_of_steps_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        KStep(num_steps=0)
    with pytest.raises(ValueError, match="unroll=k_step"):
        OneStep(num_steps=2)


class Counting(torch.nn.Module):
    """Frames ``a u, a² u, a³ u`` after the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return torch.cat([history[:, -1:] * self.factor**n for n in (1, 2, 3)], dim=1)


def counting() -> Surrogate:
    return Surrogate(SPEC, Normaliser([0.0], [1.0]), Counting(), history=2, horizon=3)


def numbered(num_frames: int) -> Batch:
    frames = torch.arange(num_frames, dtype=torch.float32).view(1, -1, 1, 1).expand(1, -1, 1, 4)
    return batch(1).__class__(torch.ones(1, 2, 1, 4), frames, *batch(1).tensors()[2:])


@pytest.mark.parametrize(("step", "frames"), [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (50, 3)])
def test_latent_marching_learns_ever_more_frames(step, frames):
    unroll = LatentMarching(curriculum_steps=10, pushes=0)
    prediction, truth = unroll.learn(counting(), numbered(3), step)
    assert prediction[0, :, 0, 0].tolist() == [2.0, 4.0, 8.0][:frames]
    assert truth[0, :, 0, 0].tolist() == [0.0, 1.0, 2.0][:frames]


@pytest.mark.parametrize(("step", "pushed"), [(3, False), (6, False), (7, False), (9, True), (12, True)])
def test_pushes_have_no_gradient_and_are_compared_with_the_frames_that_follow(step, pushed):
    unroll, s = LatentMarching(curriculum_steps=0, pushes=2, push_after=6, push_every=3), counting()
    prediction, truth = unroll.learn(s, numbered(9), step)
    assert unroll.num_steps == 3
    start = 64.0 if pushed else 1.0  # two pushes of three frames
    assert prediction[0, :, 0, 0].tolist() == [2 * start, 4 * start, 8 * start]
    assert truth[0, :, 0, 0].tolist() == ([6.0, 7.0, 8.0] if pushed else [0.0, 1.0, 2.0])
    (gradient,) = torch.autograd.grad(prediction[0, 0, 0, 0], s.model.factor)
    assert gradient == start  # of the last step alone


def test_latent_marching_is_validated_on_a_rollout_and_changes_from_step_to_step():
    unroll = LatentMarching(pushes=1)
    assert unroll(counting(), numbered(6))[0, :, 0, 0].tolist() == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    assert isinstance(unroll, ChangingUnroll)
    assert not isinstance(KStep(), ChangingUnroll)


def test_impossible_options_of_latent_marching_are_refused():
    with pytest.raises(ValueError, match="push_every of unroll latent_marching is 0"):
        LatentMarching(push_every=0)
