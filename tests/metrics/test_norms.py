from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.metrics import METRICS, h1, relative_l2, vrmse

SIGNS = list(itertools.product((-2, 0, 2), (-3, 0, 3)))
ALL = ("relative_l2", "vrmse", "h1")


def test_the_registry_knows_every_norm_and_suggests_a_near_name():
    assert set(ALL) <= set(METRICS.names())
    with pytest.raises(ValueError, match="Did you mean 'relative_l2'"):
        METRICS.get("relativ_l2")


@pytest.mark.parametrize(("ky", "kx"), SIGNS)
@pytest.mark.parametrize("grid", [(16, 16), (15, 18)])
def test_an_amplitude_off_by_a_fifth_is_a_relative_error_of_a_fifth_for_every_mode(
    square, wave, grid, ky, kx
):
    target = wave(grid, ky, kx)[None, None, None]
    for name in ("relative_l2", "h1"):
        error = METRICS.get(name)(1.2 * target, target, square)
        torch.testing.assert_close(error, torch.full((1, 1, 1), 0.2, dtype=torch.float64))


@pytest.mark.parametrize(("ky", "kx"), [k for k in SIGNS if k != (0, 0)])
def test_the_h1_error_of_an_added_mode_has_the_weight_one_plus_k_squared(square, wave, ky, kx):
    target = wave((16, 16), 1, 0)
    error = 0.1 * wave((16, 16), ky, kx)
    expected = 0.1 * math.sqrt((1 + ky**2 + kx**2) / (1 + 1))
    measured = h1((target + error)[None, None, None], target[None, None, None], square)
    assert measured.item() == pytest.approx(expected, rel=1e-12)


def test_the_h1_error_does_not_depend_on_the_unit_of_length(square, wave):
    target = wave((16, 16), 2, -3)[None, None, None]
    prediction = target + 0.1 * wave((16, 16), 1, 1)[None, None, None]
    metres = square.replace(axes=(Axis("y", 1.0), Axis("x", 1.0)))
    torch.testing.assert_close(h1(prediction, target, square), h1(prediction, target, metres))


def test_between_walls_the_h1_error_of_a_ramp_is_the_analytic_one():
    spec = DataSpec(
        fields=(Field("temperature"),), axes=(Axis("x", 2 * math.pi, "wall", offset=0.5),), dt=1.0
    )
    x = torch.as_tensor(spec.axes[0].coordinates(64)) - math.pi
    target = torch.ones(1, 1, 1, 64, dtype=torch.float64)
    measured = h1(target + 0.5 * x, target, spec)
    expected = 0.5 * math.sqrt(x.square().mean().item() + 1)
    assert measured.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_static_fields_are_given_and_not_measured(name, vorticity_and_velocity):
    vorticity, velocity = vorticity_and_velocity.fields
    spec = vorticity_and_velocity.replace(fields=(dataclasses.replace(vorticity, is_static=True), velocity))
    target, error = torch.randn(2, 2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    both = METRICS.get(name)(target + error, target, vorticity_and_velocity)
    assert torch.equal(METRICS.get(name)(target + error, target, spec), both[..., 1:])


def test_vrmse_is_blind_to_the_mean_and_one_when_the_mean_is_predicted(square, wave):
    target = wave((16, 16), 1, 2)[None, None, None]
    prediction = target * 1.1
    offset = 100.0
    plain = vrmse(prediction, target, square)
    assert plain.item() == pytest.approx(0.1, rel=1e-12)
    torch.testing.assert_close(vrmse(prediction + offset, target + offset, square), plain)
    mean_only = torch.full_like(target, offset)
    assert vrmse(mean_only, target + offset, square).item() == pytest.approx(1.0, rel=1e-9)
    assert relative_l2(mean_only, target + offset, square).item() < 0.01


def test_components_of_a_vector_are_measured_jointly_and_fields_apart(vorticity_and_velocity):
    target = torch.zeros(2, 3, 3, 8, 16)
    target[:, :, 0] = 1.0
    target[:, :, 1] = 3.0
    target[:, :, 2] = 4.0
    prediction = target.clone()
    prediction[1, 2, 1] += 0.5
    error = relative_l2(prediction, target, vorticity_and_velocity)
    assert error.shape == (2, 3, 2)
    assert error[1, 2, 1].item() == pytest.approx(0.1)
    error[1, 2, 1] = 0
    assert error.abs().max() == 0


@pytest.mark.parametrize("name", ALL)
def test_a_vanishing_target_gives_zero_or_infinity_and_never_nan(square, name):
    nothing = torch.zeros(1, 1, 1, 8, 8)
    assert METRICS.get(name)(nothing, nothing, square).item() == 0
    assert METRICS.get(name)(nothing + 1e-20, nothing, square).item() == math.inf


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_is_right_and_stays_finite_at_an_exact_prediction(square, name):
    torch.manual_seed(0)
    metric = METRICS.get(name)
    target = torch.randn(2, 1, 1, 6, 5, dtype=torch.float64)
    prediction = torch.randn(2, 1, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: metric(p, target, square), prediction)
    exact = target.clone().requires_grad_()
    metric(exact, target, square).sum().backward()
    assert exact.grad.abs().max() == 0
    empty = torch.zeros_like(target)
    silent = empty.clone().requires_grad_()
    metric(silent, empty, square).sum().backward()
    assert silent.grad.isfinite().all()


def test_half_precision_is_summed_in_single_precision(square):
    target = torch.full((1, 1, 1, 256, 256), 100.0, dtype=torch.float16)
    error = relative_l2(target * 1.5, target, square)
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(0.5)


def test_shapes_that_would_broadcast_are_refused(square):
    with pytest.raises(ValueError, match="Nothing is broadcast"):
        relative_l2(torch.zeros(1, 1, 2, 8, 8), torch.zeros(1, 1, 2, 8, 8), square)
