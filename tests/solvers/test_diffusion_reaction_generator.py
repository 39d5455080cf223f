import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from pdesurrogate.solvers import GENERATORS, solve
from pdesurrogate.solvers.generator import TrajectoryGenerator

SMALL = {"solve_grid": 16, "grid": 16, "num_frames": 3, "dt_frame": 0.1, "dtype": "float64"}


def build(**options):
    return GENERATORS.build("diffusion_reaction", **{**SMALL, **options})


def frames(indices, **options):
    return torch.stack(list(build(**options).frames(indices)), 1)


def test_a_trajectory_is_the_solution_from_its_white_noise():
    generator = build()
    assert isinstance(generator, TrajectoryGenerator)
    assert generator.spec.channel_names == ("activator", "inhibitor")
    assert generator.spec.boundaries == ("wall", "wall")
    assert generator.spec.axes[1].coordinates(16)[0] == -1 + 1 / 16
    assert generator.parameters([0, 1]).shape == (2, 0)
    expected = solve(
        "diffusion_reaction", generator.initial_state([3]), [0.0, 0.1, 0.2], laplacian="five_point"
    )
    assert torch.equal(frames([3]), expected)


def test_draws_after_pdebench_are_numpys_old_generator_seeded_with_the_trajectory():
    numbers = np.random.RandomState(7)
    u, v = numbers.randn(16 * 16), numbers.randn(16 * 16)
    first = build(draw="pdebench").initial_state([0])[0, 0, 0, :3]
    assert first.tolist() == pytest.approx([1.76405235, 0.40015721, 0.97873798], abs=1e-8)
    found = build(draw="pdebench").initial_state([7])[0].numpy()
    np.testing.assert_array_equal(found, np.stack([u, v]).reshape(2, 16, 16))


def test_starts_are_independent_standard_normal_numbers():
    start = build().initial_state(range(64))
    assert float(start.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(start.std()) == pytest.approx(1.0, abs=0.02)
    assert abs(float(torch.corrcoef(start.movedim(1, 0).flatten(1))[0, 1])) < 0.02
    neighbours = torch.corrcoef(torch.stack([start[..., 1:].flatten(), start[..., :-1].flatten()]))
    assert abs(float(neighbours[0, 1])) < 0.02


def test_a_trajectory_depends_on_seed_and_index_alone():
    several = frames([3, 8, 2**31])
    torch.testing.assert_close(several[1:2], frames([8]), rtol=0, atol=1e-13)
    assert not torch.allclose(several[0], several[1])


def test_coarse_frames_are_means_over_blocks():
    assert torch.equal(frames([5], grid=4)[0], avg_pool2d(frames([5])[0], 4))


@pytest.mark.parametrize(
    "change",
    [
        {"activator_diffusivity": 2e-3},
        {"inhibitor_diffusivity": 2e-3},
        {"threshold": 0.1},
        {"draw": "pdebench"},
        {"length": 1.0},
        {"laplacian": "spectral"},
        {"seed": 1},
        {"solve_grid": 32},
        {"start": 0.1},
        {"dt_frame": 0.2},
        {"dt": 0.001},
        {"courant": 1.0},
        {"courant": None, "dt": 0.01},
        {"integrator": "cn_euler"},
        {"dtype": "float32"},
    ],
    ids=str,
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
        ({"treshold": 0.1}, "Did you mean 'threshold'"),
        ({"draw": "numpy"}, "draw is 'numpy'; allowed: stream, pdebench"),
        ({"draw": "pdebench", "seed": 3}, "seed = 3 has no effect"),
        ({"grid": 12}, "grid = 12 does not divide solve_grid = 16"),
        ({"grid": 32}, "finer than solve_grid"),
        ({"laplacian": "exact"}, "laplacian is 'exact'"),
        ({"courant": None, "dt": 0.03}, "dt = 0.03 does not divide"),
        ({"courant": "small"}, "courant is 'small'"),
        ({"dtype": "float16"}, "allowed: float32, float64"),
        ({"inhibitor_diffusivity": -1.0}, "inhibitor_diffusivity is -1.0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_are_refused_before_anything_is_solved(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
