import json

import h5py
import numpy as np
import pytest
import torch

from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.generator import TrajectoryGenerator
from pdesurrogate.solvers.staggered import StaggeredBox

SMALL = {"grid": 32, "num_frames": 3, "dtype": "float64"}
PLUME = {
    "lengths": [24.0, 16.0, 16.0],
    "grid": [12, 8, 8],
    "order": "balanced",
    "scheme": "second_order",
    "top": "open",
    "initial_condition": "clear",
    "inflow": {"radius": 4.0, "speed": 1.0, "noise": 0.5, "depth": 16.0, "scale": 6.0},
    "start": 0.0,
    "dt_frame": 2.0,
    "dt": 2.0,
    "num_frames": 4,
    "buoyancy": 0.05,
}


def build(**options):
    return GENERATORS.build("smoke", **{**SMALL, **options})


def solve(indices, **options):
    return torch.stack(list(build(**options).frames(indices)), 1)


def test_it_is_a_generator_of_density_and_velocity():
    generator = build()
    assert isinstance(generator, TrajectoryGenerator)
    assert generator.spec.channel_names == ("density", "velocity_x", "velocity_y")
    assert generator.spec.boundaries == ("wall", "wall")
    assert generator.times.tolist() == [13.5, 19.5, 25.5]
    assert generator.parameters([0, 1]).tolist() == [[0.5], [0.5]]
    assert solve([0]).shape == (1, 3, 3, 32, 32)


@pytest.mark.parametrize("options", [{"buoyancy": [0.2, 0.5]}, PLUME])
def test_a_trajectory_depends_on_seed_and_index_alone(options):
    several = solve([3, 8, 2**31], **options)
    torch.testing.assert_close(several[1:2], solve([8], **options), rtol=0, atol=1e-12)
    assert (several[0] - several[1]).abs().max() > 1e-3
    assert (several[1:2] - solve([8], **options, seed=1)).abs().max() > 1e-3


def test_buoyancies_fill_their_range_evenly_and_are_what_is_solved():
    generator = build(buoyancy=[0.2, 0.5])
    drawn = generator.parameters(range(400))[:, 0]
    assert 0.2 <= drawn.min() < 0.21
    assert 0.49 < drawn.max() <= 0.5
    assert drawn.mean() == pytest.approx(0.35, abs=0.01)
    one = solve([4], buoyancy=[0.2, 0.5])
    torch.testing.assert_close(solve([4], buoyancy=float(generator._buoyancy_of([4])[0])), one)


def test_initial_smoke_is_the_absolute_value_of_waves_of_unit_variance_in_still_air():
    state = build(grid=64).initial_state(range(20))
    assert not state[:, 1:].any()
    assert state[:, 0].min() >= 0
    assert float(state[:, 0].square().mean()) == pytest.approx(1.0, abs=1e-12)
    # One cosine of unit variance has the mean 0.90, two along different axes 0.81, many 0.80.
    assert 0.8 < float(state[:, 0].mean()) < 0.9


@pytest.mark.usefixtures("as_users_run")
def test_frames_after_pdearena_have_the_statistics_of_the_public_files(shared_data):
    """Density falls, and speeds die down, as in a file made by PhiFlow; the trajectory itself is another one."""
    with h5py.File(shared_data / "reference_runs" / "NavierStokes2D_valid_5_0.50000.h5") as file:
        theirs = np.stack([file["valid"][name][0] for name in ("u", "vx", "vy")], axis=1)
    generator = build(grid=128, num_frames=14, dtype="float32")
    start = generator.initial_state(range(4))[:, 0].mean((1, 2))
    ours = torch.stack(list(generator.frames(range(4))), 1)
    loss = 1 - ours[:, :, 0].mean((2, 3)) / start[:, None]
    assert 0.05 < float(loss[:, -1].mean()) < 0.25
    spread = ours[:, :, 0].std((2, 3)).mean(0)
    assert float(spread[-1]) == pytest.approx(theirs[-1, 0].std(), rel=0.25)
    assert 0.7 < float(spread[-1] / spread[0]) < 0.95
    for channel in (1, 2):
        fastest = ours[:, :, channel].abs().amax((2, 3)).mean(0).numpy()
        published = np.abs(theirs[:, channel]).max((1, 2))
        assert fastest[0] == pytest.approx(published[0], rel=0.35)
        assert fastest[-3:].mean() / fastest[0] == pytest.approx(
            published[-3:].mean() / published[0], abs=0.2
        )


def test_coarse_frames_are_means_over_cells_and_faces_and_keep_continuity():
    fine, coarse = solve([5], solve_grid=32), solve([5], solve_grid=32, grid=8)
    torch.testing.assert_close(coarse[:, :, 0].mean((2, 3)), fine[:, :, 0].mean((2, 3)))
    torch.testing.assert_close(coarse[0, 1, 1, 0, 1], fine[0, 1, 1, :4, 4].mean())
    torch.testing.assert_close(coarse[0, 1, 2, 1, 0], fine[0, 1, 2, 4, :4].mean())
    box = StaggeredBox((8, 8), (32.0, 32.0))
    assert box.divergence(box.faces_of(coarse[0, :, 1:])).abs().max() < 1e-12


def test_a_plume_rises_from_its_inflow_and_leaves_no_divergence():
    frames = solve([0, 1], **PLUME)
    assert frames.shape == (2, 4, 4, 12, 8, 8)
    assert build(**PLUME).spec.boundaries == ("open", "wall", "wall")
    assert not frames[:, 0, 0].any()
    assert frames[:, 0, 3].max() > 0.9
    heights = [(frame[:, 0].sum((0, 2, 3)) > 1e-3).sum() for frame in frames[:, 1:].unbind(1)]
    assert heights == sorted(heights)
    assert heights[-1] > heights[0]
    box = StaggeredBox((12, 8, 8), (24.0, 16.0, 16.0), "open")
    assert box.divergence(box.faces_of(frames[:, -1, 1:])).abs().max() < 1e-12


@pytest.mark.parametrize(
    "change",
    [
        {"speed": 0.5},
        {"radius": 5.0},
        {"density": 2.0},
        {"noise": 0.2},
        {"depth": 8.0},
        {"scale": 4.0},
        {"smoothness": 1.0},
        {"centre": [0.5, 0.6]},
    ],
    ids=str,
)
def test_every_option_of_the_inflow_changes_the_plume(change):
    changed = solve([0], **{**PLUME, "inflow": {**PLUME["inflow"], **change}})
    assert (changed - solve([0], **PLUME)).abs().max() > 1e-3


def test_attributes_are_text_and_numbers_that_say_what_was_solved():
    assert all(isinstance(value, str | int | float) for value in build().attributes.values())
    attributes = build(**PLUME).attributes
    assert json.loads(attributes["inflow"])["noise"] == 0.5
    assert "scale=6.0" in attributes["inflow_texture"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bouyancy": 0.3}, "Did you mean 'buoyancy'"),
        ({"buoyancy": [0.5, 0.2]}, "low <= high"),
        ({"viscosity": "thick"}, "viscosity is 'thick'"),
        ({"viscosity": -1.0}, "viscosity is -1.0"),
        ({"grid": [32, 32, 32]}, "lengths has 2 axes"),
        ({"grid": 2}, "integer from 4 upwards"),
        ({"solve_grid": 48}, "does not divide solve_grid"),
        ({"dt": 1.0}, "dt = 1.0 does not divide the time"),
        ({"order": "balenced"}, "Did you mean 'balanced'"),
        ({"scheme": "second_order"}, "first-order scheme"),
        ({"initial_condition": "clean"}, "give 'clear'"),
        ({"initial_condition": {"scal": 1.0}}, "Did you mean 'scale'"),
        ({"initial_condition": {"scale": -1.0}}, "scale of the noise is -1.0"),
        ({**PLUME, "top": "wall"}, "what enters must leave"),
        ({**PLUME, "inflow": {"radius": 1.0}}, "needs the option 'speed'"),
        ({**PLUME, "inflow": {"radius": 1.0, "sped": 1.0}}, "Did you mean 'speed'"),
        ({**PLUME, "inflow": {"radius": -1.0, "speed": 1.0}}, "radius of the inflow is -1.0"),
        ({"dtype": "float16"}, "allowed: float32, float64"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_are_refused_before_anything_is_solved(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
