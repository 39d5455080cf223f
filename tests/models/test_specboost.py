"""A boosted model is the sum of its stages, each of which sees what it corrects; an ensemble is a mean."""

import pytest
import torch
from torch import nn

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.metrics.spectral_errors import SpectralErrors
from pdesurrogate.models import MODELS
from pdesurrogate.models.specboost import zero_last_layer
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.optimisation import Optimisation

SMALL = {"width": 4, "depth": 1, "num_modes": 4}


class Recorded(nn.Module):
    """A model whose input is kept, and whose output is given."""

    def __init__(self, spec, history, horizon, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(gain))
        self.frames, self.horizon, self.channels = history, horizon, spec.num_channels
        self.symmetries, self.grids = frozenset(), "any"
        self.answer, self.seen = None, None

    def check_grid(self, grid):
        pass

    def forward(self, history, parameters):
        self.seen = history
        if self.answer is None:
            return self.weight * history[:, :1].expand(-1, self.horizon, -1, *history.shape[3:])
        return self.answer


@pytest.fixture
def recorded(monkeypatch):
    MODELS.names()
    monkeypatch.setitem(MODELS._entries, "recorded", Recorded)
    return {"base": "recorded"}


def boost(case, **options):
    torch.manual_seed(0)
    return MODELS.build("specboost", case.spec, case.history, case.horizon, **options).eval()


@torch.no_grad()
def test_a_second_stage_that_returns_the_scaled_residual_gives_the_target_and_a_zero_one_the_first_stage(
    recorded, plane, sample_windows
):
    model = boost(plane, **recorded).double()
    inputs = sample_windows(plane, dtype=torch.float64)
    first = model.stages[0](*inputs)
    target = torch.randn_like(first)
    correction = model.correction(1)
    correction.scale.fill_(0.37)
    correction.model.answer = (target - first) / 0.37
    torch.testing.assert_close(model(*inputs), target, rtol=1e-14, atol=1e-14)
    correction.model.answer = torch.zeros_like(first)
    assert torch.equal(model(*inputs), first)


@pytest.mark.parametrize("stage_input", ["concat", "x_only", "pred_only"])
@torch.no_grad()
def test_a_correction_sees_the_history_and_then_the_forecast_that_it_corrects(
    stage_input, recorded, plane, sample_windows
):
    model = boost(plane, **recorded, stage_input=stage_input)
    history, parameters = sample_windows(plane)
    model(history, parameters)
    first = model.stages[0](history, parameters)
    expected = {"concat": torch.cat([history, first], 1), "x_only": history, "pred_only": first}[stage_input]
    assert torch.equal(model.correction(1).model.seen, expected)
    assert model.correction(1).model.frames == expected.shape[1]


@torch.no_grad()
def test_a_correction_sees_coordinates_after_all_frames(plane):
    model = boost(plane, base_options={**SMALL, "coordinates": "linear"})
    frame = model.correction(1).model.frame
    frames = (plane.history + plane.horizon) * plane.spec.num_channels
    u = frame.enter(torch.randn(1, plane.history + plane.horizon, 1, 16, 16), torch.zeros(1, 0))
    assert u.shape[-1] == frames + 2
    y, x = u[0, ..., -2:].unbind(-1)
    assert {y.unique().numel(), x.unique().numel()} == {16}


def test_an_input_of_other_channels_than_the_stage_was_built_for_is_an_error(plane, as_users_run):
    model = boost(plane, base_options=SMALL)
    with pytest.raises((RuntimeError, ValueError)):
        model.correction(1).model(torch.randn(1, plane.history, 1, 16, 16), torch.zeros(1, 0))


def test_a_base_that_cannot_take_the_further_frames_is_named_with_their_number(monkeypatch, plane):
    class Single(Recorded):
        def __init__(self, spec, history, horizon):
            if history > 2:
                raise ValueError("single takes at most 2 frames.")
            super().__init__(spec, history, horizon)

    MODELS.names()
    monkeypatch.setitem(MODELS._entries, "single", Single)
    with pytest.raises(
        ValueError, match=r"stage 2, a 'single', gets 5 frames \(2 of .* and 3 of .*at most 2"
    ):
        boost(plane, base="single")
    assert boost(plane, base="single", stage_input="x_only").num_stages == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_stages": 0}, "num_stages is 0; it must be at least 1"),
        ({"stage_input": "conat"}, "Did you mean 'concat'"),
        ({"base": "fmo"}, "Did you mean 'fno'"),
        ({"base_options": {"widht": 3}}, "no option 'widht'"),
        ({"residual_options": {"widht": 3}}, "stage 2, a 'fno', gets 5 frames .* no option 'widht'"),
        ({"base": "persistence"}, "stage 1 has nothing to train"),
        ({"base": "specboost"}, "has stages of its own"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, plane):
    with pytest.raises(ValueError, match=message):
        boost(plane, **options)


@torch.no_grad()
def test_a_rollout_of_the_sum_equals_the_loop_by_hand(plane, sample_windows):
    case = plane._replace(horizon=1)
    model = boost(case, base_options=SMALL, num_stages=3)
    model.correction(2).scale.fill_(0.3)
    model.correction(2).shrinkage.fill_(0.5)
    surrogate = Surrogate(case.spec, identity(case.spec), model, history=case.history, horizon=1)
    history, parameters = sample_windows(case)
    rolled = torch.stack(list(surrogate.rollout(history, parameters, 4)), 1)
    window, frames = history, []
    a, (b, c) = model.stages[0], (model.correction(i).model for i in (1, 2))
    for _ in range(4):
        y = a(window, parameters)
        y = y + b(torch.cat([window, y], 1), parameters)
        y = y + 0.15 * c(torch.cat([window, y], 1), parameters)
        frames.append(y)
        window = torch.cat([window, y], 1)[:, -case.history :]
    torch.testing.assert_close(rolled, torch.cat(frames, 1), rtol=1e-6, atol=1e-6)


def identity(spec):
    from pdesurrogate.fields import Normaliser

    return Normaliser(torch.zeros(spec.num_channels), torch.ones(spec.num_channels))


def test_a_stage_in_training_freezes_the_others_and_leaves_out_those_after_it(plane, sample_windows):
    options = {"width": 4, "multipliers": [1, 2], "num_blocks": 1, "groups": 2}
    model = boost(plane, base="unet", base_options=options, num_stages=3)
    inputs = sample_windows(plane)
    model.begin_stage(1)
    model.train()
    assert [stage.training for stage in model.stages] == [False, True, False]
    model(*inputs).square().sum().backward()
    has_gradient = [all(p.grad is not None for p in stage.parameters()) for stage in model.stages]
    assert has_gradient == [False, True, False]
    assert not any(p.requires_grad for i in (0, 2) for p in model.stages[i].parameters())
    with torch.no_grad():
        expected = model.correction(1)(*inputs, model.stages[0](*inputs))
        assert torch.equal(model(*inputs), expected)
    model.end_stages()
    assert all(p.requires_grad for p in model.parameters())


def test_a_frozen_stage_keeps_nothing_for_the_backward_pass(plane, sample_windows):
    """What training keeps in memory is that of the stage in training, whatever is below it."""
    model = boost(plane, base_options=SMALL)
    history, parameters = sample_windows(plane)

    def kept(call):
        found = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(t.numel()) or t, lambda t: t):
            call()
        return sum(found)

    model.begin_stage(1)
    both = kept(lambda: model(history, parameters))
    earlier = model.earlier(1, history, parameters)
    alone = kept(lambda: model.correction(1)(history, parameters, earlier))
    assert both == alone > 0


@torch.no_grad()
@pytest.mark.parametrize(
    "kind", sorted({*MODELS.names()} - {"persistence", "ensemble", "specboost", "neuralop"})
)
def test_a_correction_that_starts_at_zero_leaves_the_first_stage_as_it_is(
    kind, case_for, sample_windows, request
):
    from .conftest import SMALL_OPTIONS

    case = case_for(kind)
    model = boost(case, base=kind, base_options=SMALL_OPTIONS.get(kind, {}), zero_init=True)
    inputs = sample_windows(case)
    first = model.stages[0](*inputs)
    assert torch.equal(model(*inputs), first)
    plain = boost(case, base=kind, base_options=SMALL_OPTIONS.get(kind, {}))
    assert not torch.equal(plain(*inputs), first)


def test_zeroing_leaves_all_but_the_last_layer(plane):
    model = MODELS.build("fno", plane.spec, 1, 1, **SMALL)
    zero_last_layer(model)
    zeroed = [name for name, p in model.named_parameters() if not p.any()]
    assert [name for name in zeroed if name.startswith("project")] == ["project.2.weight", "project.2.bias"]


@torch.no_grad()
def test_static_fields_of_a_forecast_are_shown_to_a_correction_as_they_are(sample_windows, plane):
    spec = DataSpec((Field("u"), Field("coefficient", is_static=True)), plane.spec.axes, 0.1)
    case = plane._replace(spec=spec)
    model = boost(case, base_options=SMALL)
    history, parameters = sample_windows(case)
    shown = model.correction(1).input(history, model.stages[0](history, parameters))
    assert torch.equal(shown[:, -1, 1], history[:, -1, 1])


@torch.no_grad()
def test_an_ensemble_is_the_mean_of_members_that_differ(plane, sample_windows):
    model = MODELS.build(
        "ensemble", plane.spec, plane.history, plane.horizon, base_options=SMALL, num_members=3
    )
    inputs = sample_windows(plane)
    members = torch.stack([member(*inputs) for member in model.members().values()])
    assert members.std(0).min() > 0
    torch.testing.assert_close(model(*inputs), members.mean(0))
    model.begin_stage(1)
    assert torch.equal(model(*inputs), members[1])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["specboost", "ensemble"])
def test_seeds_and_stages_say_how_uncertain_a_rollout_is_through_one_interface(kind, plane, sample_windows):
    case = plane._replace(horizon=1)
    model = MODELS.build(kind, case.spec, case.history, 1, base_options=SMALL).eval()
    surrogate = Surrogate(case.spec, identity(case.spec), model, history=case.history, horizon=1)
    inputs = sample_windows(case)
    frames, spreads = (torch.stack(s) for s in zip(*surrogate.rollout_with_spread(*inputs, 3), strict=True))
    torch.testing.assert_close(frames, torch.stack(list(surrogate.rollout(*inputs, 3))))
    rollouts = torch.stack(
        [torch.stack(list(member.rollout(*inputs, 3))) for member in surrogate.members().values()]
    )
    assert len(rollouts) == 2
    torch.testing.assert_close(spreads, rollouts.std(0))
    assert spreads.min() >= 0 < spreads.max()


def test_a_single_model_does_not_know_how_uncertain_it_is(plane, sample_windows):
    model = MODELS.build("fno", plane.spec, plane.history, plane.horizon, **SMALL)
    surrogate = Surrogate(
        plane.spec, identity(plane.spec), model, history=plane.history, horizon=plane.horizon
    )
    assert surrogate.members() == {}
    with pytest.raises(ValueError, match="model=ensemble"):
        surrogate.rollout_with_spread(*sample_windows(plane), 2)


def shifted_waves(num, seed, points=64, waves=12, shift=0.13):
    """Fields of random waves with amplitudes 1/k, and the same shifted, which no map at a point can do."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.arange(1, waves + 1, dtype=torch.float64)
    cosine, sine = torch.randn(2, num, waves, generator=generator, dtype=torch.float64) / k
    phases = 2 * torch.pi * k[:, None] * (torch.arange(points) / points - torch.tensor([[[0.0]], [[shift]]]))
    fields = torch.einsum("nk,skx->snx", cosine, phases.cos()) + torch.einsum(
        "nk,skx->snx", sine, phases.sin()
    )
    return fields.float()[:, :, None, None].unbind(0)


def test_a_first_stage_without_the_high_modes_does_not_learn_them_and_a_second_one_with_them_does():
    """Twelve waves, and a first stage of nine modes, four waves: the boosted sum has them all."""
    spec = DataSpec((Field("u"),), (Axis("x", 1.0),), 1.0)
    torch.manual_seed(0)
    base = {"width": 12, "depth": 2, "num_modes": 9}
    model = MODELS.build("specboost", spec, 1, 1, base_options=base, residual_options={"num_modes": 32})
    inputs, targets = shifted_waves(256, seed=1)
    unseen, truth = shifted_waves(64, seed=2)
    none, epochs, batch = torch.zeros(256, 0), 30, 32
    unlearned = []
    for stage in range(2):
        model.begin_stage(stage)
        with torch.no_grad():
            earlier = model.earlier(1, inputs, none) if stage else torch.zeros_like(targets)
        residual = targets - earlier
        if stage:
            model.correction(1).scale.fill_(residual.square().mean().sqrt())
        weights = [p for p in model.parameters() if p.requires_grad]
        steps = epochs * len(inputs) // batch
        optimiser, schedule = Optimisation(lr=5e-3, weight_decay=0.0).build(weights, steps)
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs)).split(batch):
                optimiser.zero_grad()
                errors = model(inputs[rows], none[rows]) - targets[rows]
                (errors.flatten(1).norm(dim=1) / residual[rows].flatten(1).norm(dim=1)).mean().backward()
                optimiser.step()
                schedule.step()
        found = SpectralErrors((64,), spec)
        with torch.no_grad():
            found.add(model(unseen, none[:64]), truth)
        bands = [e[0, 5:13].sum() for e in found.energies]
        unlearned.append(float(bands[0] / bands[1]))
    assert unlearned[0] > 0.7
    assert unlearned[1] < 0.05
