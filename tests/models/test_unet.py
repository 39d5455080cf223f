import pytest
import torch

CHANGES = {
    "width": 8,
    "multipliers": [1, 2, 2],
    "num_blocks": 2,
    "groups": 4,
    "coordinates": "periodic",
}


@torch.no_grad()
@pytest.mark.parametrize("option", CHANGES)
def test_every_option_changes_the_output(option, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    reference = build_model("unet", plane)(*inputs)
    changed = build_model("unet", plane, **{option: CHANGES[option]})(*inputs)
    assert (changed - reference).abs().max() > 1e-3


@torch.no_grad()
def test_shifts_by_the_coarsest_spacing_are_respected_on_periodic_boxes(plane, build_model, sample_windows):
    model = build_model("unet", plane, multipliers=[1, 1, 1]).double()
    frames, parameters = sample_windows(plane, dtype=torch.float64)
    shifted = model(frames.roll([4, 8], (-2, -1)), parameters)
    torch.testing.assert_close(shifted, model(frames, parameters).roll([4, 8], (-2, -1)))


@torch.no_grad()
def test_a_wall_is_seen_and_a_periodic_axis_is_not(channel, build_model, sample_windows):
    model = build_model("unet", channel).double()
    frames, parameters = sample_windows(channel, dtype=torch.float64)
    future = model(frames, parameters)
    torch.testing.assert_close(model(frames.roll(2, -1), parameters), future.roll(2, -1))
    assert (model(frames.roll(2, -2), parameters) - future.roll(2, -2)).abs().max() > 1e-3


def test_a_grid_that_does_not_halve_names_the_axis_and_both_neighbours(plane, build_model, sample_windows):
    model = build_model("unet", plane, multipliers=[1, 2, 2])
    assert model.grids == "multiple of 4"
    with pytest.raises(ValueError, match=r"axis 'x' and the grid has 18. Use 16 or 20 points"):
        model(*sample_windows(plane, grid=(16, 18)))


def test_multipliers_below_one_are_refused(plane, build_model):
    with pytest.raises(ValueError, match="multipliers"):
        build_model("unet", plane, multipliers=[1, 0])
    with pytest.raises(ValueError, match="multipliers"):
        build_model("unet", plane, multipliers=[])
