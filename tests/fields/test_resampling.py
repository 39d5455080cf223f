from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdesurrogate.fields.fourier import forward_transform, resample

SIGNS = list(itertools.product((1, -1), (1, -1)))


@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
@pytest.mark.parametrize("old", [(16, 16), (15, 15), (16, 13), (13, 16)])
@pytest.mark.parametrize("new", [(32, 32), (17, 17), (14, 14), (13, 13), (31, 14), (14, 31)])
def test_a_resolved_mode_is_the_same_function_on_the_new_grid(old, new, sign_y, sign_x, mode):
    k = (5 * sign_y, 4 * sign_x)
    resampled = resample(mode(old, k, amplitude=2.0, phase=0.3), new)
    torch.testing.assert_close(resampled, mode(new, k, amplitude=2.0, phase=0.3), atol=1e-13, rtol=0)


def test_resampling_even_to_odd_and_back_is_the_identity(band_limited):
    u = band_limited((16, 16), cutoff=6)
    torch.testing.assert_close(resample(resample(u, (17, 13)), (16, 16)), u, atol=1e-12, rtol=0)


@pytest.mark.parametrize("grid", [(48,), (32, 49), (65, 40), (9, 10, 12)])
def test_a_random_band_limited_field_resamples_exactly_in_every_dimension(grid, band_limited):
    start = tuple(n + 3 for n in grid)
    resampled = resample(band_limited(start, cutoff=4), grid)
    torch.testing.assert_close(resampled, band_limited(grid, cutoff=4), atol=1e-11, rtol=0)


def test_upsampling_white_noise_on_an_odd_grid_keeps_its_values_at_shared_points():
    u = torch.randn(2, 9, 15, dtype=torch.float64)
    torch.testing.assert_close(resample(u, (27, 45))[:, ::3, ::3], u, atol=1e-13, rtol=0)


def test_upsampling_white_noise_on_an_even_grid_keeps_its_values_at_shared_points():
    u = torch.randn(2, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(resample(u, (24, 36))[:, ::3, ::3], u, atol=1e-13, rtol=0)
    torch.testing.assert_close(resample(resample(u, (9, 13)), (8, 12)), u, atol=1e-13, rtol=0)


@pytest.mark.parametrize("fine", [12, 13])
def test_the_nyquist_cosine_of_an_even_grid_splits_into_two_modes(fine):
    cosine = torch.tensor([3.0, -3.0] * 4, dtype=torch.float64)
    u_hat = forward_transform(resample(cosine, (fine,)), 1)
    expected = torch.zeros_like(u_hat)
    expected[4] = 1.5
    torch.testing.assert_close(u_hat, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("fine", [12, 13])
@pytest.mark.parametrize("phase", [0.0, 0.9, -2.0])
def test_a_mode_on_the_nyquist_of_the_coarse_grid_is_sampled_there(fine, phase, mode):
    coarse = resample(mode((fine,), (4,), amplitude=3.0, phase=phase), (8,))
    torch.testing.assert_close(coarse, mode((8,), (4,), amplitude=3.0, phase=phase), atol=1e-13, rtol=0)


@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
def test_the_nyquist_of_one_axis_keeps_the_sign_of_the_other(sign_y, sign_x, mode):
    k = (4 * sign_y, 3 * sign_x)
    coarse = resample(mode((13, 13), k, phase=0.4), (8, 9))
    torch.testing.assert_close(coarse, mode((8, 9), k, phase=0.4), atol=1e-13, rtol=0)


def test_going_down_drops_what_the_coarse_grid_cannot_carry_and_nothing_aliases(mode):
    kept, lost = mode((32, 32), (2, -3)), mode((32, 32), (-9, 11))
    torch.testing.assert_close(resample(kept + lost, (16, 16)), mode((16, 16), (2, -3)), atol=1e-13, rtol=0)


def test_one_point_is_the_mean_and_a_constant_comes_back():
    u = torch.randn(3, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(resample(u, (1, 1)).flatten(), u.mean((1, 2)))
    torch.testing.assert_close(resample(u[:, :1, :1], (4, 5)), u[:, :1, :1].expand(3, 4, 5))


def test_only_the_last_axes_are_resampled_and_the_dtype_stays():
    u = torch.randn(5, 6, 8)
    assert resample(u, (10,)).shape == (5, 6, 10)
    assert resample(u, (10,)).dtype == torch.float32
    torch.testing.assert_close(resample(u, (6, 10)), resample(u, (10,)))


@given(old=st.integers(1, 12), new=st.integers(1, 12), seed=st.integers(0, 100))
def test_going_up_and_coming_back_is_the_identity_on_any_data(old, new, seed):
    small, large = sorted((old, new))
    u = torch.randn(2, small, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(resample(resample(u, (large,)), (small,)), u, atol=1e-13, rtol=0)


@pytest.mark.parametrize("shapes", [((12,), (8,)), ((8,), (12,)), ((9,), (12,)), ((12, 9), (8, 16))])
def test_gradients_flow_through_resampling(shapes):
    old, new = shapes
    u = torch.randn(old, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: resample(v, new), (u,))


@pytest.mark.parametrize("grid", [(0, 4), (4, -1), (4, 4, 4)])
def test_an_impossible_grid_is_refused(grid):
    with pytest.raises(ValueError, match="cannot resample a field of shape"):
        resample(torch.zeros(6, 6), grid)
