from __future__ import annotations

import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.metrics import METRICS, boundary_error, relative_l1, relative_max
from pdesurrogate.metrics.pointwise import boundary_points


def test_lengths_of_vectors_are_what_is_averaged_and_compared(vorticity_and_velocity):
    target = torch.zeros(1, 1, 3, 4, 4)
    target[:, :, 0], target[:, :, 1], target[:, :, 2] = 2.0, 3.0, 4.0
    prediction = target.clone()
    prediction[0, 0, 1, 0, 0] += 3.0
    prediction[0, 0, 2, 0, 0] += 4.0
    assert relative_l1(prediction, target, vorticity_and_velocity)[0, 0].tolist() == [
        0,
        pytest.approx(1 / 16),
    ]
    assert relative_max(prediction, target, vorticity_and_velocity)[0, 0].tolist() == [0, pytest.approx(1.0)]


@pytest.mark.parametrize(("ky", "kx"), [(0, 3), (2, 0), (-2, 3), (2, -3)])
def test_an_amplitude_off_by_a_fifth_is_a_fifth_in_every_norm(square, wave, ky, kx):
    target = wave((15, 16), ky, kx)[None, None, None]
    for name in ("relative_l1", "relative_max", "nrmse"):
        assert METRICS.get(name)(1.2 * target, target, square).item() == pytest.approx(0.2)


def test_the_l1_norm_of_a_sine_is_two_over_pi_of_its_maximum(square, wave):
    constant = torch.ones(1, 1, 1, 1, 1024, dtype=torch.float64)
    error = wave((1, 1024), 0, 1)[None, None, None]
    assert relative_l1(constant + error, constant, square).item() == pytest.approx(2 / math.pi, rel=1e-4)


def test_the_boundary_error_sees_the_outermost_points_of_walls_alone():
    spec = DataSpec((Field("temperature"),), (Axis("y", 1.0, "wall", offset=0.5), Axis("x", 1.0)), dt=0.1)
    target = torch.ones(1, 1, 1, 4, 6)
    inside, outside = target.clone(), target.clone()
    inside[..., 1:3, :] += 5.0
    outside[..., 0, 2] += 1.0
    assert boundary_error(inside, target, spec).item() == 0
    assert boundary_error(outside, target, spec).item() == pytest.approx(math.sqrt(1 / 12))
    assert boundary_points(spec, (4, 6)).sum() == 12


def test_a_periodic_box_has_no_boundary(square):
    with pytest.raises(ValueError, match=r"periodic along y, x .* leave boundary_error out"):
        boundary_error(torch.ones(1, 1, 1, 4, 4), torch.ones(1, 1, 1, 4, 4), square)


@pytest.mark.parametrize("name", ["relative_l1", "relative_max"])
def test_a_vanishing_target_gives_zero_or_infinity_and_never_nan(square, name):
    nothing = torch.zeros(1, 1, 1, 4, 4)
    assert METRICS.get(name)(nothing, nothing, square).item() == 0
    assert METRICS.get(name)(nothing + 1e-20, nothing, square).item() == math.inf
