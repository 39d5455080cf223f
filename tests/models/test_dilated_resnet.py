"""The dilated ResNet: its reach, its options, the ends of the domain, and what it refuses."""

import pytest
import torch

CHANGES = {
    "width": 8,
    "depth": 1,
    "dilations": [1, 4],
    "activation": "gelu",
    "coordinates": "periodic",
}


@torch.no_grad()
@pytest.mark.parametrize(("option", "value"), CHANGES.items())
def test_every_option_changes_the_output(option, value, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    reference = build_model("dilated_resnet", plane)(*inputs)
    changed = build_model("dilated_resnet", plane, **{option: value})(*inputs)
    assert (changed - reference).abs().max() > 1e-4


@torch.no_grad()
def test_a_point_sees_as_far_as_the_dilations_add_up(line, build_model, sample_windows):
    case = line._replace(history=1, grid=(64,))
    model = build_model("dilated_resnet", case, depth=1, dilations=[1, 4, 2], activation="gelu").double()
    frames, parameters = sample_windows(case, batch=1, dtype=torch.float64)
    poked = frames.clone()
    poked[..., 30] += 1
    changed = (model(poked, parameters) - model(frames, parameters))[0, 0, 0].abs() > 0
    reach = 1 + (1 + 4 + 2) + 1  # lift, block, projection
    assert changed.nonzero().min() == 30 - reach
    assert changed.nonzero().max() == 30 + reach


@torch.no_grad()
def test_a_wall_is_seen_and_a_periodic_axis_is_not(channel, build_model, sample_windows):
    model = build_model("dilated_resnet", channel).double()
    frames, parameters = sample_windows(channel, dtype=torch.float64)
    future = model(frames, parameters)
    torch.testing.assert_close(model(frames.roll(2, -1), parameters), future.roll(2, -1))
    assert (model(frames.roll(2, -2), parameters) - future.roll(2, -2)).abs().max() > 1e-4


def test_what_cannot_be_is_refused(plane, build_model):
    with pytest.raises(ValueError, match="reach 20 points along axis 'y' and the grid has 16"):
        build_model("dilated_resnet", plane, dilations=[1, 20]).check_grid((16, 32))
    with pytest.raises(ValueError, match=r"dilations are \[1, 0\]"):
        build_model("dilated_resnet", plane, dilations=[1, 0])
    with pytest.raises(ValueError, match="Did you mean 'gelu'"):
        build_model("dilated_resnet", plane, activation="gel")
