import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.generator import TrajectoryGenerator

SMALL = {"solve_grid": 32, "grid": 32, "num_frames": 3, "dt_frame": 0.1, "dtype": "float64"}


def build(**options):
    return GENERATORS.build("dam_break", **{**SMALL, **options})


def solve(indices, **options):
    return torch.stack(list(build(**options).frames(indices)), 1)


def test_it_is_a_generator_of_depths():
    generator = build()
    assert isinstance(generator, TrajectoryGenerator)
    assert generator.spec.channel_names == ("depth",)
    assert generator.spec.boundaries == ("open", "open")
    assert generator.spec.axes[0].coordinates(32)[0] == -2.5 + 2.5 / 32
    assert generator.parameters([0, 1]).shape == (2, 0)
    assert build(has_discharge=True).spec.channel_names == ("depth", "discharge_x", "discharge_y")
    assert solve([0], has_discharge=True).shape == (1, 3, 3, 32, 32)


def test_a_trajectory_depends_on_seed_and_index_alone():
    several = solve([3, 8, 2**31])
    assert torch.equal(several[1:2], solve([8]))
    assert not torch.equal(several[0], several[1])
    assert not torch.equal(several[1:2], solve([8], seed=1))


def test_discs_fill_their_ranges_evenly():
    discs = build(inner_depth=[1.5, 2.5], max_offset=1.8, boundary="periodic").discs(range(400))
    for values, low, high in zip(discs.T, (0.3, 1.5, -1.8, -1.8), (0.7, 2.5, 1.8, 1.8), strict=True):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert np.abs(np.corrcoef(discs.T) - np.eye(4)).max() < 0.15


def test_draws_after_pdebench_are_the_public_files_trajectories(shared_data):
    generator = build(draw="pdebench", solve_grid=128, grid=128, dtype="float32")
    start = generator.initial_state([0, 23])[:, 0]
    with h5py.File(shared_data / "reference_runs" / "2D_rdb_NA_NA_clawpack5.14_two_seeds.h5") as file:
        for depth, name in zip(start, ("0000", "0023"), strict=True):
            np.testing.assert_array_equal(depth, file[name]["data"][0, :, :, 0])


def test_coarse_frames_are_means_over_blocks_and_keep_the_mass():
    fine, coarse = solve([5], boundary="wall"), solve([5], boundary="wall", grid=8)
    torch.testing.assert_close(coarse[:, :, 0], avg_pool2d(fine[:, :, 0], 4), rtol=0, atol=1e-15)
    mass = coarse.mean((2, 3, 4))
    torch.testing.assert_close(mass, mass[:, :1].expand_as(mass), rtol=1e-14, atol=0)


def test_frames_keep_the_symmetry_of_the_square():
    last = solve([1], dtype="float32")[0, -1, 0]
    for turns in (1, 2, 3):
        assert torch.equal(last, torch.rot90(last, turns))
    assert torch.equal(last, last.mT)


@pytest.mark.parametrize(
    "option",
    [{"gravity": 2.0}, {"outer_depth": 0.5}, {"inner_depth": 3.0}, {"radius": 0.6}, {"max_offset": 1.0}],
)
def test_every_physical_option_changes_the_flow(option):
    assert (solve([0], **option) - solve([0])).abs().max() > 0.05


@pytest.mark.usefixtures("as_users_run")
def test_boundaries_and_length_and_courant_number_change_the_flow():
    late = {"dt_frame": 1.5, "solve_grid": 16, "grid": 16}
    flows = [solve([0], boundary=b, **late)[0, -1] for b in ("open", "periodic", "wall")]
    flows += [solve([0], length=4.0, **late)[0, -1], solve([0], courant=0.3, **late)[0, -1]]
    # A disc in the middle cannot tell walls from the mirror images that are its periodic neighbours.
    assert torch.allclose(flows[1], flows[2], rtol=0, atol=1e-12)
    del flows[1]
    assert all((a - b).abs().max() > 1e-5 for i, a in enumerate(flows) for b in flows[:i])


def test_attributes_are_text_and_numbers():
    assert all(isinstance(value, str | int | float) for value in build().attributes.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radios": 0.3}, "Did you mean 'radius'"),
        ({"radius": [0.7, 0.3]}, "low <= high"),
        ({"radius": 3.0}, "discs reach up to 3"),
        ({"max_offset": 2.0}, "discs reach up to 2.7"),
        ({"inner_depth": -1.0}, "inner_depth is -1.0"),
        ({"outer_depth": -1.0}, "outer_depth = -1"),
        ({"grid": 12}, "grid = 12 does not divide solve_grid = 32"),
        ({"grid": 64}, "finer than solve_grid"),
        ({"draw": "random"}, "draw is 'random'; allowed: stream, pdebench"),
        ({"draw": "pdebench", "max_offset": 0.1}, "from the trajectory's number alone"),
        ({"courant": 0.9}, "at most 0.5"),
        ({"boundary": "sponge"}, "allowed: periodic, wall, open"),
        ({"dtype": "float16"}, "allowed: float32, float64"),
        ({"dt_frame": 0.0}, "dt is 0.0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_are_refused_before_anything_is_solved(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
