import pytest
import scipy.stats
import torch

from pdesurrogate.fields import Axis, Batch, DataSpec, Field, Normaliser
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training import UNROLLS
from pdesurrogate.training.latent_marching import LatentMarching
from pdesurrogate.training.noise import Noise, normal_numbers
from pdesurrogate.training.pushforward import Pushforward
from pdesurrogate.training.unrolls import ChangingUnroll, GrowingChain, KStep, OneStep, k_step, unreached

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


def test_a_single_frame_has_nowhere_to_march():
    LatentMarching().check_horizon(2)
    with pytest.raises(
        ValueError, match=r"data\.horizon is 1\. Set data\.horizon to at least 2, or use unroll=push"
    ):
        LatentMarching().check_horizon(1)


@pytest.mark.parametrize(
    ("unroll", "num_steps", "said"),
    [
        (LatentMarching(curriculum_steps=6000, pushes=0), 121, ["2 % of the curriculum done", "at most 120"]),
        (LatentMarching(curriculum_steps=6000, pushes=0), 6001, []),
        (
            LatentMarching(curriculum_steps=0, pushes=1, push_after=10),
            11,
            ["push_after is 10", "none is pushed"],
        ),
        (LatentMarching(curriculum_steps=0, pushes=1, push_after=10), 15, []),
        (LatentMarching(curriculum_steps=0, pushes=0, push_after=10), 5, []),
        (k_step(num_steps=3, curriculum_steps=9), 4, ["33 % of the curriculum done", "at most 3"]),
        (Pushforward(curriculum_steps=4), 5, []),
        (Noise(), 1, []),
        (OneStep(), 1, []),
    ],
)
def test_what_a_run_does_not_come_to_is_said(unroll, num_steps, said):
    sentences = " ".join(unreached(unroll, num_steps))
    assert all(part in sentences for part in said)
    assert bool(sentences) == bool(said)


class Drifting(torch.nn.Module):
    """The exact solution of ``du/dt = 1``: frames ``u + 1, u + 2, ..`` after the last one."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.lead_times = torch.arange(1.0, horizon + 1).view(1, -1, 1, 1)

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return history[:, -1:] + self.lead_times


SMALL = {
    "k_step": {"num_steps": 3, "curriculum_steps": 6},
    "pushforward": {"pushes": 3, "curriculum_steps": 6},
    "noise": {"std": 1e-7, "num_steps": 2},
    "latent_marching": {"curriculum_steps": 4, "pushes": 2, "push_after": 2, "push_every": 2},
}
"""Options by which unrolls change within a few steps; an unroll without an entry has its defaults."""


@pytest.mark.parametrize(("history", "horizon"), [(1, 1), (3, 2), (1, 3)])
@pytest.mark.parametrize("kind", UNROLLS.names())
def test_an_exact_model_is_exact_in_every_unroll_at_every_step_also_with_bundles(kind, history, horizon):
    unroll = UNROLLS.build(kind, **SMALL.get(kind, {}))
    exact = Surrogate(SPEC, Normaliser([0.0], [1.0]), Drifting(horizon), history=history, horizon=horizon)
    times = torch.arange(1.0 - history, 1 + unroll.num_steps * horizon).view(1, -1, 1, 1)
    frames = times + torch.tensor([0.0, 1.0, 2.0, 3.0])
    window = Batch(frames[:, :history], frames[:, history:], *batch(1).tensors()[2:])
    assert torch.equal(unroll(exact, window), window.future)
    lengths = set()
    if isinstance(unroll, ChangingUnroll):
        for step in range(8):
            prediction, truth = unroll.learn(exact, window, step)
            assert torch.allclose(prediction, truth, atol=1e-5)
            assert set(truth.unique().tolist()) <= set(window.future.unique().tolist())
            lengths.add(truth.shape[1])
    if kind == "k_step":
        assert lengths == {horizon, 2 * horizon, 3 * horizon}


def test_a_chain_grows_evenly_and_then_stays():
    unroll = k_step(num_steps=3, detach=True, curriculum_steps=10)
    assert isinstance(unroll, GrowingChain)
    assert [unroll.at(step).num_steps for step in (0, 4, 5, 9, 10, 99)] == [1, 1, 2, 2, 3, 3]
    assert unroll.at(99).detach
    assert unroll(surrogate(), batch(3))[0, :, 0, 0].tolist() == [2.0, 4.0, 8.0]  # validation: always all
    assert unroll.learn(surrogate(), batch(3), 5)[0][0, :, 0, 0].tolist() == [2.0, 4.0]
    assert not isinstance(k_step(num_steps=3), ChangingUnroll)


def test_the_pushforward_has_the_gradient_of_its_last_step_alone():
    unroll, s = Pushforward(pushes=2, random=False), counting()
    prediction, truth = unroll.learn(s, numbered(9), step=0)
    assert prediction[0, :, 0, 0].tolist() == [128.0, 256.0, 512.0]  # after two pushes of three frames
    assert truth[0, :, 0, 0].tolist() == [6.0, 7.0, 8.0]
    (gradient,) = torch.autograd.grad(prediction[0, 0, 0, 0], s.model.factor)
    assert gradient == 64.0


class Mixing(torch.nn.Module):
    """A linear map of the points of the last frame."""

    def __init__(self) -> None:
        super().__init__()
        self.map = torch.nn.Linear(4, 4)

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return self.map(history[:, -1:]).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_have_a_gradient_after_pushes_in_mixed_precision_too(dtype):
    """Autocast keeps weights that it has cast; those cast without gradient must not serve the step that has one."""
    s = Surrogate(SPEC, Normaliser([0.0], [1.0]), Mixing(), history=2, horizon=1)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        prediction, _ = Pushforward(pushes=1, random=False).learn(s, batch(2), step=0)
    prediction.sum().backward()
    assert s.model.map.weight.grad.abs().sum() > 0


def test_the_number_of_pushes_is_drawn_evenly_and_is_that_of_seed_and_step():
    drawn = [Pushforward(pushes=2).num_pushes(step) for step in range(900)]
    assert [drawn.count(pushes) / 900 for pushes in (0, 1, 2)] == pytest.approx([1 / 3] * 3, abs=0.05)
    assert drawn == [Pushforward(pushes=2).num_pushes(step) for step in range(900)]
    assert drawn != [Pushforward(pushes=2, seed=1).num_pushes(step) for step in range(900)]
    growing = Pushforward(pushes=2, random=False, curriculum_steps=10)
    assert [growing.num_pushes(step) for step in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]


TWO = DataSpec(
    fields=(Field("u"), Field("depth", is_static=True)), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=1.0
)


class Last(torch.nn.Module):
    """Persistence."""

    def forward(self, history: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return history[:, -1:]


def windows_of_two_fields(num: int = 6) -> tuple[Surrogate, Batch]:
    still = Surrogate(TWO, Normaliser([1.0, 5.0], [3.0, 2.0]), Last(), history=2, horizon=1)
    windows = Batch(
        torch.zeros(num, 2, 2, 32, 32),
        torch.zeros(num, 1, 2, 32, 32),
        torch.zeros(num, 0),
        torch.arange(num) // 2,
        torch.arange(num) % 2,
    )
    return still, windows


def test_noise_has_its_std_in_units_of_each_channel_and_leaves_static_fields_alone():
    still, windows = windows_of_two_fields()
    noisy = Noise(std=0.1).noisy(still, windows, step=7).history
    assert not noisy[:, :, 1].any()
    assert float(noisy[:, :, 0].std()) == pytest.approx(0.3, rel=0.02)
    assert float(noisy[:, :, 0].mean()) == pytest.approx(0.0, abs=0.01)
    prediction, truth = Noise(std=0.1).learn(still, windows, step=7)
    assert torch.allclose(prediction, noisy[:, -1:], atol=1e-5)  # the noise comes in ..
    assert torch.equal(truth, windows.future)  # .. and is to be taken away
    assert not Noise(std=0.1)(still, windows).any()


def test_noise_is_that_of_seed_step_and_window_whatever_the_batch_and_the_process():
    still, windows = windows_of_two_fields()
    whole = Noise(std=0.1).noisy(still, windows, step=7).history
    order = torch.tensor([3, 0, 5])
    part = Batch(*(t[order] for t in windows.tensors()))
    assert torch.equal(Noise(std=0.1).noisy(still, part, step=7).history, whole[order])
    others = [
        Noise(std=0.1).noisy(still, windows, step=8),
        Noise(std=0.1, seed=1).noisy(still, windows, step=7),
    ]
    draws = torch.stack([whole, *(other.history for other in others)])[:, :, :, 0].flatten(3).flatten(0, 2)
    correlations = torch.corrcoef(draws) - torch.eye(len(draws))
    assert correlations.abs().max() < 5 / 32  # five standard deviations of a correlation of 1024 numbers


def test_the_numbers_of_the_noise_are_normal_and_white():
    _, windows = windows_of_two_fields(num=64)
    xi = normal_numbers(windows, (0, 3)).double()
    assert scipy.stats.kstest(xi.flatten().numpy(), "norm").pvalue > 1e-3
    power = torch.fft.rfft2(xi, norm="ortho").abs().square().mean((0, 1, 2))
    assert float((power - 1).abs().max()) < 5 * (1 / 256) ** 0.5 * 2**0.5  # real waves have half the samples


def test_negative_and_large_keys_are_words_like_others():
    _, windows = windows_of_two_fields(num=1)
    draws = [normal_numbers(windows, (key, 0)) for key in (0, 2**63 - 1, 2**64 - 2)]
    assert all(torch.isfinite(draw).all() for draw in draws)
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("k_step", {"num_steps": 2.5}, "num_steps of unroll k_step is 2.5; it must be a whole number"),
        ("k_step", {"curriculum_steps": -1}, "curriculum_steps of unroll k_step is -1; .* at least 0"),
        ("latent_marching", {"push_every": 0}, "push_every of unroll latent_marching is 0"),
        ("pushforward", {"pushes": 0}, "pushes of unroll pushforward is 0; .* at least 1"),
        ("pushforward", {"pushs": 1}, "has no option 'pushs'. Did you mean 'pushes'"),
        ("noise", {"std": 0}, "std of unroll noise is 0; it must be a positive number"),
        ("noise", {"std": "small"}, "std of unroll noise is 'small'"),
        ("noise", {"num_steps": 0}, "num_steps of unroll noise is 0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_impossible_options_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        UNROLLS.build(kind, **options)
