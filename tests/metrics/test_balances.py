"""Balances of single modes, in all combinations of signs, are the analytic ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes, spherical_grid
from pdesurrogate.metrics.balances import balance_errors, balances, measure_balances

MODES = [k for k in itertools.product((-2, 0, 2), (-3, 0, 3)) if k != (0, 0)]


@pytest.fixture
def velocity() -> DataSpec:
    return DataSpec(
        (Field("velocity", kind="vector", components=("x", "y")),),
        (Axis("y", 2 * math.pi), Axis("x", 2 * math.pi)),
        dt=1.0,
    )


def measured(u: torch.Tensor, spec: DataSpec) -> dict[str, float]:
    names = [balance.name for balance in balances(spec)]
    return dict(zip(names, measure_balances(u[None, None], spec)[0, 0].tolist(), strict=True))


@pytest.mark.parametrize(("ky", "kx"), MODES)
def test_enstrophy_and_energy_of_one_mode_of_vorticity_are_a_quarter_and_that_over_k_squared(
    square, wave, ky, kx
):
    found = measured(3 + 2 * wave((16, 15), ky, kx)[None], square)
    assert found["mean vorticity"] == pytest.approx(3)
    assert found["enstrophy"] == pytest.approx(0.5 * 9 + 0.25 * 4)
    assert found["kinetic energy"] == pytest.approx(0.25 * 4 / (ky**2 + kx**2))


@pytest.mark.parametrize(("ky", "kx"), MODES)
def test_a_velocity_mode_has_the_divergence_along_and_the_enstrophy_across_its_wave_vector(
    velocity, wave, ky, kx
):
    cosine = wave((16, 16), ky, kx)
    along = torch.stack([kx * cosine, ky * cosine])  # (x, y)
    across = torch.stack([-ky * cosine, kx * cosine])
    square = float(ky**2 + kx**2)
    found = measured(along, velocity)
    assert found["divergence"] == pytest.approx(square / math.sqrt(2))
    assert found["enstrophy"] == pytest.approx(0, abs=1e-20)
    assert found["energy of velocity"] == pytest.approx(0.25 * square)
    found = measured(across, velocity)
    assert found["divergence"] == pytest.approx(0, abs=1e-12)
    assert found["enstrophy"] == pytest.approx(0.25 * square**2)


def test_errors_are_relative_to_the_truth_and_those_of_vanishing_balances_to_the_field(velocity, wave):
    cosine = wave((16, 16), 2, 0)
    truth = torch.stack([cosine, torch.zeros_like(cosine)])[None, None]  # free of divergence and of mean
    names = [balance.name for balance in balances(velocity)]
    scaled = dict(zip(names, balance_errors(1.1 * truth, truth, velocity)[0, 0].tolist(), strict=True))
    assert scaled["energy of velocity"] == pytest.approx(0.21)
    assert scaled["enstrophy"] == pytest.approx(0.21)
    assert scaled["divergence"] == pytest.approx(0, abs=1e-12)
    moved = dict(zip(names, balance_errors(0.1 + truth, truth, velocity)[0, 0].tolist(), strict=True))
    assert moved["mean velocity_x"] == pytest.approx(0.1 * math.sqrt(2))
    compressed = torch.stack([torch.zeros_like(cosine), 0.1 * cosine])[None, None]
    found = dict(zip(names, balance_errors(truth + compressed, truth, velocity)[0, 0].tolist(), strict=True))
    assert found["divergence"] == pytest.approx(0.1)


def test_walls_are_closed_to_a_flow_along_them_and_open_to_one_across():
    spec = DataSpec(
        (Field("velocity", kind="vector", components=("y", "x")), Field("bed", is_static=True)),
        (Axis("y", 1.0, "wall", offset=0.5), Axis("x", 1.0)),
        dt=0.1,
    )
    along, across = torch.zeros(2, 3, 4, 6, dtype=torch.float64)
    along[1], across[0] = 1.0, 1.0
    assert measured(along, spec)["wall flow"] == 0
    assert measured(across, spec)["wall flow"] == pytest.approx(1)
    assert not [name for name in measured(along, spec) if "bed" in name]


def test_on_a_sphere_means_are_by_area_and_the_solid_rotation_has_its_energy():
    axes = spherical_axes()
    spec = DataSpec((Field("vorticity", kind="pseudoscalar"),), axes, 1.0, geometry="sphere")
    sine = torch.from_numpy(spherical_grid(spec, (8, 16)).latitudes).sin()[:, None].expand(8, 16)
    found = measured((2 * sine)[None], spec)  # of the wind cos(latitude) on the unit sphere
    assert found["mean vorticity"] == pytest.approx(0, abs=1e-14)
    assert found["enstrophy"] == pytest.approx(0.5 * 4 / 3)
    assert found["kinetic energy"] == pytest.approx(0.5 * 2 / 3)
    wind = spec.replace(fields=(Field("wind", kind="vector", components=("lon", "lat")),))
    flow = torch.stack([(1 - sine.square()).sqrt(), torch.zeros_like(sine)])
    assert measured(flow, wind) == pytest.approx({"energy of wind": 1 / 3, "enstrophy": 2 / 3}, rel=1e-6)
