import dataclasses
from collections.abc import Iterator

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser, Parameter
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("height"), Field("velocity", kind="vector", components=("x", "y"))),
    axes=(Axis("y", 1.0), Axis("x", 1.0)),
    dt=0.5,
    parameters=(Parameter("viscosity"),),
)
MEAN, STD = [10.0, 1.0, -2.0], [2.0, 0.5, 4.0]


class Drift(torch.nn.Module):
    """Adds, in normalised units, a constant per frame and the normalised parameter."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.rate = torch.nn.Parameter(torch.ones(()))

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(1, self.horizon + 1).view(1, -1, 1, 1, 1)
        return history[:, -1:] + steps * self.rate + parameters.view(-1, 1, 1, 1, 1)

    def check_grid(self, grid: tuple[int, ...]) -> None:
        if grid[0] < 4:
            raise ValueError("too coarse")


class Constant(torch.nn.Module):
    """One standard deviation after one frame, two after two, whatever the input."""

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        ones = torch.ones_like(history[:, -1:])
        return torch.cat([ones, 2 * ones], dim=1)


def surrogate(history: int = 1, horizon: int = 1) -> Surrogate:
    normaliser = Normaliser(MEAN, STD, [0.1], [0.05])
    return Surrogate(SPEC, normaliser, Drift(horizon), history=history, horizon=horizon)


def window(history: int = 1) -> torch.Tensor:
    return torch.tensor(MEAN).view(1, 1, 3, 1, 1).expand(2, history, 3, 4, 6).contiguous()


PARAMETERS = torch.full((2, 1), 0.1)


def test_a_step_works_in_physical_units():
    future = surrogate().step(window(), PARAMETERS)
    assert future[0, 0, :, 0, 0].tolist() == pytest.approx([12.0, 1.5, 2.0])


@pytest.mark.parametrize("predict", ["state", "increment", "unscaled_increment"])
def test_static_fields_are_read_carried_over_and_never_forecast(predict):
    height, velocity = SPEC.fields
    spec = SPEC.replace(fields=(dataclasses.replace(height, is_static=True), velocity))
    normaliser = Normaliser(MEAN, STD, [0.1], [0.05], increment_std=[1.0, 1.0, 1.0])
    made = Surrogate(spec, normaliser, Drift(2), history=1, horizon=2, predict=predict)
    history = window() + torch.arange(4.0)[:, None]
    frames = list(made.rollout(history, PARAMETERS, 5))
    assert all(torch.equal(frame[:, 0], history[:, 0, 0]) for frame in frames)
    assert all((frame[:, 1:] != history[:, 0, 1:]).all() for frame in frames)
    changed = made.step(history + torch.tensor([1.0, 0, 0]).view(3, 1, 1), PARAMETERS)
    assert torch.equal(changed[:, :, 1:], made.step(history, PARAMETERS)[:, :, 1:])  # Drift mixes no channels
    (made.step(history, PARAMETERS) ** 2).sum().backward()
    assert made.model.rate.grad.abs() > 0
    assert not any("static" in name for name in made.state_dict())


def test_parameters_reach_the_model_normalised():
    future = surrogate().step(window(), torch.full((2, 1), 0.15))
    assert future[0, 0, :, 0, 0].tolist() == pytest.approx([14.0, 2.0, 6.0])


@pytest.mark.parametrize(("history", "horizon"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_a_rollout_feeds_predictions_back_and_yields_exactly_the_frames_asked_for(history, horizon):
    frames = list(surrogate(history, horizon).rollout(window(history), PARAMETERS, 5))
    assert len(frames) == 5
    heights = [float(f[0, 0, 0, 0]) for f in frames]
    assert heights == pytest.approx([12.0, 14.0, 16.0, 18.0, 20.0])


@pytest.mark.parametrize(("predict", "unit"), [("increment", [0.1, 0.2, 0.3]), ("unscaled_increment", STD)])
def test_an_increment_is_added_to_the_last_frame_in_its_unit(predict, unit):
    normaliser = Normaliser(MEAN, STD, [0.1], [0.05], increment_std=[0.1, 0.2, 0.3])
    s = Surrogate(SPEC, normaliser, Constant(), history=2, horizon=2, predict=predict)
    future = s.step(window(2), PARAMETERS)
    last = window(2)[0, -1, :, 0, 0]
    for j in (0, 1):
        assert future[0, j, :, 0, 0].tolist() == pytest.approx((last + (j + 1) * torch.tensor(unit)).tolist())
    assert s.output_unit.tolist() == pytest.approx(list(unit))
    assert torch.allclose(s.wanted_output(window(2), future), s.model(*s.normalised(window(2), PARAMETERS)))


def test_increments_need_their_statistics():
    s = Surrogate(
        SPEC, Normaliser(MEAN, STD, [0.1], [0.05]), Constant(), history=1, horizon=2, predict="increment"
    )
    with pytest.raises(ValueError, match="knows no increments"):
        s.step(window(), PARAMETERS)


def test_an_unknown_meaning_of_the_output_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'increment'"):
        Surrogate(SPEC, Normaliser(MEAN, STD), Constant(), history=1, horizon=1, predict="increments")


def test_a_rollout_is_lazy_and_keeps_no_graph():
    rollout = surrogate().rollout(window(), PARAMETERS, 10**9)
    assert isinstance(rollout, Iterator)
    assert not next(rollout).requires_grad
    assert torch.is_grad_enabled()


def test_a_wrong_window_is_refused_at_the_call_with_the_needed_shape():
    with pytest.raises(ValueError, match="2 frames, 3 channels"):
        surrogate(history=2).rollout(window(1), PARAMETERS, 3)
    with pytest.raises(ValueError, match="viscosity"):
        surrogate().rollout(window(), torch.zeros(2, 0), 3)
    with pytest.raises(ValueError, match="too coarse"):
        surrogate().rollout(window()[..., :2, :], PARAMETERS, 3)
    with pytest.raises(ValueError, match="at least 1"):
        surrogate().rollout(window(), PARAMETERS, 0)


def test_complex_weights_count_as_two_degrees_of_freedom():
    s = surrogate()
    s.model.extra = torch.nn.Parameter(torch.zeros(3, dtype=torch.cfloat))
    assert s.num_parameters == 7


def test_a_normaliser_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="height, velocity_x, velocity_y"):
        Surrogate(SPEC, Normaliser([0.0], [1.0]), Drift(1), history=1, horizon=1)
