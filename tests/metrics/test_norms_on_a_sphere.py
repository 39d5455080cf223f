"""Norms on a sphere weigh points by area: the same numbers on every grid, and exact ones for harmonics."""

from __future__ import annotations

import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes, spherical_grid
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.metrics import METRICS, h1, relative_l2, vrmse

NODES = ["gauss-legendre", "equiangular", "cell-centred"]
WIND = Field("wind", "m s-1", "vector", ("lon", "lat"))


def sphere(*fields, nodes="gauss-legendre"):
    return DataSpec(fields or (Field("height"),), spherical_axes(nodes), 1.0, geometry="sphere")


def harmonic(spec, sizes, degree, order):
    """A real spherical harmonic, orthonormal but for a factor of 2 where the order is not 0, (1, 1, 1, lat, lon)."""
    grid = spherical_grid(spec, sizes)
    transform = SphericalTransform(grid, dtype=torch.float64)
    spectrum = torch.zeros(
        1, 1, 1, transform.truncation + 1, transform.truncation + 1, dtype=torch.complex128
    )
    spectrum[..., degree, order] = 1.0
    return transform.synthesise(spectrum)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("sizes", [(17, 32), (24, 50)])
def test_the_error_of_an_added_harmonic_is_the_ratio_of_their_norms_on_every_grid(nodes, sizes):
    spec = sphere(nodes=nodes)
    target, error = harmonic(spec, sizes, 2, 0), harmonic(spec, sizes, 5, 3)
    found = relative_l2(target + 0.1 * error, target, spec)
    assert found.item() == pytest.approx(0.1 * math.sqrt(2), rel=1e-12)  # orders 3 and -3
    weighted = h1(target + 0.1 * error, target, spec)
    assert weighted.item() == pytest.approx(0.1 * math.sqrt(2 * (1 + 30) / (1 + 6)), rel=1e-12)


def test_rows_near_the_poles_count_for_the_little_area_that_they_are():
    spec = sphere(nodes="equiangular")
    target = torch.ones(1, 1, 1, 33, 64, dtype=torch.float64)
    at_pole, at_equator = target.clone(), target.clone()
    at_pole[..., 0, :] += 1
    at_equator[..., 16, :] += 1
    assert relative_l2(at_pole, target, spec) < 0.2 * relative_l2(at_equator, target, spec)
    cap = torch.ones_like(target)
    cap[..., :17, :] = 2.0  # the northern half; the equator's row straddles it
    error = relative_l2(target + (cap - 1), target, spec).item()
    assert error == pytest.approx(math.sqrt(0.5), rel=0.05)


@pytest.mark.parametrize("nodes", NODES)
def test_vrmse_takes_off_the_mean_over_the_area(nodes):
    spec = sphere(nodes=nodes)
    target = harmonic(spec, (17, 32), 4, 0) + 100.0
    assert vrmse(torch.full_like(target, 100.0), target, spec).item() == pytest.approx(1.0, rel=1e-10)


def test_winds_are_measured_by_speed_and_by_their_vorticity_and_divergence():
    spec = sphere(WIND)
    transform = SphericalTransform(spherical_grid(spec, (16, 32)), dtype=torch.float64)
    both = torch.zeros(2, 16, 16, dtype=torch.complex128)
    both[0, 3, 0] = 1.0  # vorticity of one harmonic: a wind of norm 1/sqrt(l(l+1))
    target = transform.velocity(both)[None, None]
    both = torch.zeros(2, 16, 16, dtype=torch.complex128)
    both[1, 5, 0] = 1.0
    error = transform.velocity(both)[None, None]
    assert relative_l2(target + error, target, spec).item() == pytest.approx(math.sqrt(12 / 30), rel=1e-12)
    expected = math.sqrt((1 / 30 + 1) / (1 / 12 + 1))
    assert h1(target + error, target, spec).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["relative_l2", "vrmse", "h1"])
def test_gradients_are_right_and_zero_at_an_exact_prediction(name):
    spec, metric = sphere(Field("height"), WIND), METRICS.get(name)
    target = torch.randn(1, 2, 3, 5, 8, dtype=torch.float64)
    prediction = torch.randn(1, 2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: metric(p, target, spec), prediction, fast_mode=True)
    exact = target.clone().requires_grad_()
    metric(exact, target, spec).sum().backward()
    assert exact.grad.abs().max() == 0


@pytest.mark.parametrize("name", ["relative_l2", "vrmse", "h1"])
def test_latitudes_without_a_rule_have_no_known_areas_and_are_refused(name):
    axes = (Axis("lat", 180.0, "open"), Axis("lon", 360.0))
    spec = DataSpec((Field("height"),), axes, 1.0, geometry="sphere")
    frames = torch.zeros(1, 1, 1, 4, 8)
    with pytest.raises(ValueError, match="latitudes after a rule"):
        METRICS.get(name)(frames, frames, spec)
