import numpy as np
import pytest
import torch

from pdesurrogate.fields import fourier
from pdesurrogate.solvers import GENERATORS, solve
from pdesurrogate.solvers.generator import TrajectoryGenerator
from pdesurrogate.solvers.random_fields import GaussianRandomField

SMALL = {"solve_grid": 64, "grid": 32, "num_frames": 3, "dt_frame": 0.25, "dt": 0.0125}
NEURALOP = {"amplitude": 390625.0, "alpha": 4.0, "tau": 5.0}


def build(**options):
    return GENERATORS.build("burgers", **{**SMALL, **options})


def frames(indices, **options):
    return torch.stack(list(build(**options).frames(indices)), 1)


def test_a_trajectory_is_the_solution_from_its_random_velocity_on_the_stored_grid():
    generator = build(seed=7)
    assert isinstance(generator, TrajectoryGenerator)
    assert generator.spec.channel_names == ("u",)
    assert generator.spec.is_periodic
    assert generator.parameters([4, 5]).tolist() == [[np.float32(0.1)]] * 2
    start = GaussianRandomField((1.0,), 2.0, 5.0, 625.0).sample(7, 4, (64,))
    expected = solve("burgers", start[None, None], [0.0, 0.25, 0.5], viscosity=0.1, dt=0.0125)
    assert torch.equal(frames([4], seed=7), fourier.resample(expected, (32,)))


def test_a_trajectory_depends_on_seed_and_index_alone():
    several = frames([3, 8, 2**31])
    torch.testing.assert_close(several[1:2], frames([8]), rtol=0, atol=1e-14)
    assert not torch.allclose(several[0], several[1])


def test_initial_velocities_are_distributed_like_those_that_come_with_neuraloperator(shared_data):
    theirs = torch.load(shared_data / "neuralop" / "burgers_test_16.pt", weights_only=True)["x"]
    (ours,) = build(initial_condition=NEURALOP, num_frames=1, grid=16).frames(range(400))
    power = [
        fourier.forward_transform(u, 1).abs().square().mean(0)[1:6].numpy() for u in (ours[:, 0], theirs)
    ]
    np.testing.assert_allclose(power[0], power[1], rtol=0.25)
    k = 2 * np.pi * np.arange(1, 6)
    np.testing.assert_allclose(625.0**2 * (k**2 + 25) ** -4.0, power[1], rtol=0.15)


def test_coarser_points_hold_the_same_waves_of_lis_rough_start():
    fine, coarse = frames([0], grid=64, num_frames=1), frames([0], grid=31, num_frames=1)
    torch.testing.assert_close(fourier.resample(fine, (31,)), coarse, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "change",
    [
        {"viscosity": 0.2},
        {"length": 2.0},
        {"initial_condition": {"amplitude": 100.0}},
        {"initial_condition": {"alpha": 2.5}},
        {"initial_condition": {"tau": 7.0}},
        {"seed": 1},
        {"solve_grid": 96},
        {"start": 0.25},
        {"dt_frame": 0.5},
        {"dt": 0.00625},
        {"integrator": "cn_euler", "dt": 0.00125},
        {"dtype": "float32"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_numbers_and_is_recorded(change):
    assert not torch.equal(frames([2]).double(), frames([2], **change).double())
    base, other = build(), build(**change)
    recorded = [(g.attributes, g.spec.to_dict(), g.times.tolist()) for g in (base, other)]
    assert recorded[0] != recorded[1]
    assert all(isinstance(value, str | int | float) for value in base.attributes.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"viscosty": 1e-3}, "Did you mean 'viscosity'"),
        ({"viscosity": 0.0}, "viscosity is 0.0; it must be finite and positive"),
        ({"initial_condition": {"amplitud": 1.0}}, "Did you mean 'amplitude'"),
        ({"initial_condition": {"amplitude": -1.0}}, "amplitude of the random field is -1.0"),
        ({"grid": 128}, "finer than solve_grid = 64"),
        ({"dt": 0.1}, "dt = 0.1 does not divide"),
        ({"dtype": "float16"}, "allowed: float32, float64"),
        ({"integrator": "etdrk3"}, "Did you mean 'etdrk4'"),
        ({"num_frames": 0}, "num_frames is 0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_are_refused_before_anything_is_solved(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
