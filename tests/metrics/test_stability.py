from __future__ import annotations

import math

import pytest
import torch

from pdesurrogate.metrics import decorrelation
from pdesurrogate.metrics.stability import correlation_time, first_divergence, growth_rate


@pytest.mark.parametrize(("ky", "kx"), [(0, 1), (-2, 3), (2, 3), (2, 0)])
def test_a_wave_that_is_ahead_by_a_phase_has_lost_one_minus_its_cosine(square, wave, ky, kx):
    target = wave((16, 16), ky, kx)[None, None, None]
    for phase in (0.0, 0.1, math.pi / 2, math.pi):
        moved = 5 + 3 * wave((16, 16), ky, kx, 0.3 + phase)[None, None, None]
        lost = decorrelation(moved, target - 1, square).item()
        assert lost == pytest.approx(1 - math.cos(phase), abs=1e-12)


def test_no_pattern_at_all_is_lost_and_two_constants_are_alike(square, wave):
    pattern, constant = wave((8, 8), 1, 1)[None, None, None], torch.ones(1, 1, 1, 8, 8, dtype=torch.float64)
    assert decorrelation(constant, pattern, square).item() == 1
    assert decorrelation(constant, 2 * constant, square).item() == 0


def test_components_of_a_vector_are_correlated_jointly(vorticity_and_velocity):
    target = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    swapped = target[:, :, [0, 2, 1]]
    lost = decorrelation(swapped, target, vorticity_and_velocity)
    assert lost.shape == (2, 1, 2)
    assert (lost[..., 0].abs() < 1e-12).all()
    a, b = (u[:, 0, 1:] - u[:, 0, 1:].mean((-2, -1), keepdim=True) for u in (swapped, target))
    torch.testing.assert_close(1 - lost[:, 0, 1], (a * b).sum((1, 2, 3)) / (b * b).sum((1, 2, 3)))


def test_times_are_read_between_frames_and_are_infinite_beyond_the_horizon():
    lost = torch.tensor([[0.1, 0.3, 0.5], [0.4, 0.1, 0.1], [0.0, 0.1, 0.15]]).double()[..., None]
    times = correlation_time(lost, dt=2.0)[:, 0]
    torch.testing.assert_close(times, torch.tensor([3.0, 1.0, math.inf]).double())
    errors = torch.tensor([[0.5, math.inf], [0.5, math.nan], [0.0, 2.0]]).double()[..., None]
    torch.testing.assert_close(first_divergence(errors, dt=1.0)[:, 0], torch.tensor([2.0, 2.0, 1.5]).double())
    with pytest.raises(ValueError, match="correlation lies between"):
        correlation_time(lost, 1.0, threshold=1.0)


def test_the_rate_of_an_exponential_is_found_before_it_saturates():
    times = 0.25 * torch.arange(1, 13)
    errors = (1e-3 * torch.exp(1.5 * times)).clamp(max=0.05)
    rate = growth_rate(errors.view(1, -1, 1).double(), 0.25, saturation=0.04).item()
    assert rate == pytest.approx(1.5, rel=1e-5)
    assert math.isnan(growth_rate(errors.view(1, -1, 1).double(), 0.25, saturation=0.002).item())
