import pytest
import torch

from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.darcy import DarcyFlow
from pdesurrogate.solvers.generator import TrajectoryGenerator

SMALL = {"solve_grid": 27, "grid": 9}


def build(**options):
    return GENERATORS.build("darcy", **{**SMALL, **options})


def solve(indices, **options):
    return torch.stack(list(build(**options).frames(indices)), 1)


def test_frames_are_rest_and_the_solution_with_the_coefficient_beside_both():
    generator = build()
    assert isinstance(generator, TrajectoryGenerator)
    assert generator.spec.channel_names == ("pressure", "coefficient")
    assert generator.spec.static_channels == (False, True)
    assert generator.parameters([0, 1]).shape == (2, 0)
    frames = solve([0, 4])
    assert frames.shape == (2, 2, 2, 9, 9)
    assert not frames[:, 0, 0].any()
    a = generator.coefficients([0, 4])
    assert a.unique().tolist() == [3.0, 12.0]
    assert torch.equal(frames[:, 0, 1], a[:, 1::3, 1::3])
    assert torch.equal(frames[:, 1, 1], frames[:, 0, 1])
    assert torch.equal(frames[:, 1, 0], DarcyFlow(tolerance=1e-8).pressure(a)[:, 1::3, 1::3])


def test_kept_points_are_where_the_axis_says():
    axis = build().spec.axes[0]
    torch.testing.assert_close(
        torch.from_numpy(axis.coordinates(27)[1::3]),
        torch.from_numpy(axis.coordinates(9)),
        rtol=0,
        atol=1e-15,
    )


def test_a_sample_depends_on_seed_and_index_alone():
    several = solve([3, 8, 2**31])
    torch.testing.assert_close(several[1:2], solve([8]), rtol=0, atol=1e-15)
    assert not torch.equal(several[0], several[1])
    assert not torch.equal(several[1:2], solve([8], seed=1))


def test_both_kinds_of_ground_take_half_of_the_square():
    share = (build(solve_grid=15, grid=15).coefficients(range(300)) == 12).double().mean((1, 2))
    assert share.mean() == pytest.approx(0.5, abs=4 * float(share.std()) / 300**0.5)
    assert share.std() > 0.05


@pytest.mark.parametrize(
    "change",
    [
        {"low": 4.0},
        {"high": 10.0},
        {"alpha": 3.0},
        {"tau": 9.0},
        {"source": 2.0},
        {"seed": 1},
        {"solve_grid": 45},
        {"tolerance": 0.1},
        {"dtype": "float32", "tolerance": 1e-5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_numbers_and_is_recorded(change):
    assert not torch.equal(solve([2]).double(), solve([2], **change).double())
    assert build().attributes != build(**change).attributes
    assert all(isinstance(value, str | int | float) for value in build().attributes.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lo": 3.0}, "Did you mean 'low'"),
        ({"low": 0.0}, "needed is 0 < low <= high"),
        ({"low": 13.0}, "low = 13 and high = 12"),
        ({"tau": -1.0}, "must both be positive"),
        ({"grid": 27, "solve_grid": 54}, "no odd part of solve_grid = 54.*Use solve_grid = 27, 81, 135"),
        ({"grid": 81}, "finer than solve_grid"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"dtype": "float16"}, "allowed: float32, float64"),
        ({"seed": -1}, "seed is -1"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_are_refused_before_anything_is_solved(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
