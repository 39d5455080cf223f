import pytest
import torch

from pdesurrogate.training.optimisation import Optimisation


def factors(**options):
    settings = Optimisation(**options)
    return [settings.factor(step, 100) for step in range(101)]


def test_warmup_rises_linearly_to_the_peak():
    values = factors(warmup=0.1, schedule="constant")
    assert values[0] == pytest.approx(1 / 11)
    assert values[9] == pytest.approx(10 / 11)
    assert values[10] == 1.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "one_cycle"])
def test_decaying_schedules_end_at_the_final_share(schedule):
    assert factors(warmup=0.0, schedule=schedule, final=0.05)[-1] == pytest.approx(0.05)


def test_cosine_is_halfway_between_peak_and_end_in_the_middle():
    assert factors(warmup=0.0, schedule="cosine", final=0.2)[50] == pytest.approx(0.6)


def test_steps_drop_at_equal_intervals():
    values = factors(warmup=0.0, schedule="step", step_every=0.25, step_factor=0.5)
    assert [values[i] for i in (0, 24, 25, 50, 75, 99)] == [1, 1, 0.5, 0.25, 0.125, 0.125]


def test_one_cycle_peaks_after_thirty_percent():
    values = factors(warmup=0.0, schedule="one_cycle")
    assert values[0] == pytest.approx(1 / 25)
    assert max(values) == values[30] == pytest.approx(1.0)


def test_decoupled_decay_and_penalty_differ():
    def after_one_step(kind: str) -> float:
        weight = torch.nn.Parameter(torch.ones(1))
        optimiser, _ = Optimisation(kind=kind, lr=0.1, weight_decay=0.5, warmup=0.0).build([weight], 10)
        weight.grad = torch.full((1,), 0.01)
        optimiser.step()
        return weight.item()

    assert after_one_step("adamw") == pytest.approx(0.95 - 0.1, abs=1e-4)
    assert after_one_step("adam") == pytest.approx(0.9, abs=1e-4)


def test_complex_weights_are_optimised_without_the_fused_kernel():
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.cfloat))
    optimiser, _ = Optimisation(warmup=0.0).build([weight], 10)
    weight.grad = torch.ones(2, dtype=torch.cfloat)
    optimiser.step()
    assert (weight.real < 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "adamm"}, "Did you mean 'adam"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"lr": 0.0}, "must be positive"),
        ({"warmup": 1.0}, "share of the run"),
    ],
)
def test_unknown_or_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Optimisation(**options)
