"""A loss by regions: the mean of the metric over the parts of the box."""

import pytest
import torch

from pdesurrogate.metrics import h1, relative_l2
from pdesurrogate.training.regional_loss import RegionalLoss
from pdesurrogate.training.run import train


def test_it_is_the_mean_of_the_metric_over_quadrants(torus_spec):
    target, prediction = torch.randn(2, 3, 2, 1, 8, 12)
    target[..., :4, :6] *= 100  # a lively quadrant, which alone would decide the loss of the box
    loss = RegionalLoss(relative_l2, 2)(prediction, target, torus_spec)
    expected = torch.stack(
        [
            relative_l2(prediction[..., y, x], target[..., y, x], torus_spec)
            for y in (slice(0, 4), slice(4, 8))
            for x in (slice(0, 6), slice(6, 12))
        ]
    ).mean(0)
    torch.testing.assert_close(loss, expected)
    assert loss.shape == (3, 2, 1)
    assert (loss - relative_l2(prediction, target, torus_spec)).abs().min() > 0.1


def test_one_region_is_the_metric_on_the_box(torus_spec):
    target, prediction = torch.randn(2, 3, 2, 1, 8, 12)
    for regions in (1, [1, 1]):
        torch.testing.assert_close(
            RegionalLoss(h1, regions)(prediction, target, torus_spec), h1(prediction, target, torus_spec)
        )


def test_slopes_are_not_taken_across_the_cuts(torus_spec):
    """A linear error has the same slope in every region, where the box as a ring would see a jump."""
    x = torch.arange(16.0) / 16
    target = torch.ones(1, 1, 1, 8, 16)
    prediction = target + x
    parts = RegionalLoss(h1, [1, 4])(prediction, target, torus_spec)
    # ‖x‖² over the quarters and (L/2π)² ‖1‖², relative to ‖1‖²; the longest side of a region is 1.
    squares = (x.view(4, 4).square().mean(1) + (1 / (2 * torch.pi)) ** 2).sqrt()
    torch.testing.assert_close(parts.squeeze(), squares.mean())


def test_training_minimises_it(compose_train):
    assert train(compose_train("loss.regions=[2,4]")) > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.regions=0", "loss.regions is 0; give one positive number"),
        ("loss.regions=3", "cuts axis 'y' into 3 and the grid has 16 points"),
        ("loss.regions=[2,2,2]", "2 of them for the axes y, x"),
        ("+loss.region=2", "loss 'relative_l2' has no option 'region'. Did you mean 'regions'"),
    ],
)
def test_regions_that_cannot_work_are_refused_before_training(override, message, compose_train):
    with pytest.raises(ValueError, match=message):
        train(compose_train(override))
