import pytest
import torch

from pdesurrogate.fields import Axis, Batch, DataSpec, Field, Normaliser
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.unrolls import KStep, OneStep

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
