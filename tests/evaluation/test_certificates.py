"""Certificates: what a model has, what it says that it has, and what the equation has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from pdesurrogate.evaluation.certificates import certify, symmetries
from pdesurrogate.evaluation.contenders import Native
from pdesurrogate.evaluation.plan import prepare
from pdesurrogate.evaluation.run import run
from pdesurrogate.evaluation.trust_tables import certificate_lines, certificates_table, violations_sentence
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

FLOW = DataSpec(
    (Field("vorticity", kind="pseudoscalar"), Field("velocity", kind="vector", components=("x", "y"))),
    (Axis("y", 1.0), Axis("x", 1.0)),
    dt=0.1,
)
SPHERE = DataSpec(
    (Field("vorticity", kind="pseudoscalar"), Field("wind", kind="vector", components=("lon", "lat"))),
    spherical_axes(),
    dt=1.0,
    geometry="sphere",
)


class Tilted(nn.Module):
    """Multiplies by a weight that grows along one axis, and says that it does not."""

    symmetries: ClassVar[frozenset[str]] = frozenset({"shift", "rotation", "reflection"})

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, history, parameters):
        size = history.shape[self.dim]
        shape = [1] * history.ndim
        shape[self.dim] = size
        return history * torch.linspace(1, 2, size).view(shape)


class Sideways(nn.Module):
    """Adds the neighbour on the left to every point: the same everywhere, and not the same in every direction."""

    symmetries: ClassVar[frozenset[str]] = frozenset()

    def forward(self, history, parameters):
        return history + 0.5 * history.roll(1, -1)


def certificates(model: nn.Module, spec: DataSpec, grid=(8, 8), solve=None):
    channels = spec.num_channels
    surrogate = Surrogate(spec, Normaliser([0.0] * channels, [1.0] * channels), model, history=1, horizon=1)
    frames = torch.randn(2, 2, channels, *grid, generator=torch.Generator().manual_seed(0))
    native = Native(surrogate, "model", Path("model.pt"))
    found = certify(native, frames[:, :1], torch.zeros(2, 0), frames, [], solve)
    return {c.name: c for c in found}


@pytest.mark.parametrize(("spec", "grid"), [(FLOW, (8, 8)), (FLOW, (9, 9)), (SPHERE, (8, 16))])
def test_persistence_has_every_symmetry_and_loses_nothing(spec, grid):
    found = certificates(MODELS.build("persistence", spec, 1, 1), spec, grid)
    for name in ("shift", "rotation", "reflection"):
        assert found[name].error == 0
        assert found[name].by_model
        assert not found[name].is_violated
        assert found[name].by_equation is None
    assert all(c.error == 0 for name, c in found.items() if name.startswith("conservation"))
    assert not any(c.by_equation for name, c in found.items() if name.startswith("conservation"))


@pytest.mark.parametrize(("spec", "grid", "dim"), [(FLOW, (8, 8), -1), (SPHERE, (8, 16), -1)])
def test_a_declaration_that_does_not_hold_is_a_violation(spec, grid, dim):
    found = certificates(Tilted(dim), spec, grid)
    for name in ("shift", "rotation", "reflection"):
        assert found[name].error > 0.05
        assert found[name].is_violated


def test_on_a_sphere_a_weight_of_latitude_breaks_mirrors_and_half_turns_and_not_shifts():
    found = certificates(Tilted(-2), SPHERE, (8, 16))
    assert found["shift"].error < 1e-6
    assert found["rotation"].error > 0.05
    assert found["reflection"].error > 0.05


def test_a_function_of_left_neighbours_has_shifts_alone_and_says_nothing_else():
    found = certificates(Sideways(), FLOW)
    assert found["shift"].error < 1e-6
    assert found["rotation"].error > 0.1
    assert found["reflection"].error > 0.1
    assert not any(c.is_violated for c in found.values())


def test_mirrors_of_the_sphere_are_their_own_inverses_and_make_the_half_turn():
    acts = symmetries(SPHERE, (6, 12))
    u = torch.randn(1, 1, 3, 6, 12, generator=torch.Generator().manual_seed(0))
    equator, meridian = acts["reflection"]
    assert torch.equal(equator(equator(u)), u)
    assert torch.equal(meridian(meridian(u)), u)
    assert torch.equal(acts["rotation"][0](u), meridian(equator(u)))
    assert torch.equal(equator(u)[:, :, 0], -u[:, :, 0].flip(-2))
    assert torch.equal(equator(u)[:, :, 1], u[:, :, 1].flip(-2))
    assert torch.equal(equator(u)[:, :, 2], -u[:, :, 2].flip(-2))


def test_what_a_domain_does_not_have_is_said_in_a_sentence():
    oblong = FLOW.replace(axes=(Axis("y", 1.0), Axis("x", 2.0)))
    assert "lengths 1 and 2" in symmetries(oblong, (8, 8))["rotation"]
    assert "8 and 10 points" in symmetries(FLOW, (8, 10))["rotation"]
    closed = FLOW.replace(axes=(Axis("y", 1.0, "wall"), Axis("x", 1.0, "wall")))
    assert symmetries(closed, (8, 8))["shift"] == "No axis is periodic."
    line = DataSpec((Field("u"),), (Axis("x", 1.0),), dt=0.1)
    assert "'x' alone" in symmetries(line, (8,))["reflection"]


def test_a_solver_decides_what_the_equation_has():
    def solve(history, parameters):
        return history[:, -1:] * torch.linspace(1, 2, 8)  # a forcing that depends on x

    found = certificates(Tilted(-1), FLOW, solve=solve)
    assert found["shift"].by_equation is False
    assert found["shift"].equation_error > 0.05
    assert certificates(Sideways(), FLOW, solve=lambda h, p: 2 * h[:, -1:])["rotation"].by_equation is True


@pytest.mark.parametrize(
    ("kind", "options", "is_one_function"),
    [
        ("fno", {"width": 4, "depth": 1, "num_modes": 2}, True),
        ("unet", {"width": 4, "multipliers": [1, 1], "num_blocks": 1, "groups": 1}, False),
        ("dilated_resnet", {"width": 4, "depth": 1, "dilations": [1]}, False),
    ],
)
def test_stencils_that_count_in_points_are_not_one_function_on_all_grids(kind, options, is_one_function):
    found = certificates(MODELS.build(kind, FLOW, 1, 1, **options), FLOW)["resolution"]
    assert found.by_model is is_one_function


def test_certificates_are_printed_and_in_the_page(configure):
    config = configure(resolutions=[32])
    evaluation = run(prepare(config), config)
    found = {c.name: c for c in evaluation.certificates}
    assert found["resolution"].error < 1e-5
    assert found["conservation of energy of tracer"].error == pytest.approx(0.21, rel=1e-4)
    assert found["conservation of energy of tracer"].by_equation is True
    assert found["conservation of mean tracer"].error == pytest.approx(0, abs=1e-6)
    assert math.isfinite(found["shift"].error)
    lines = certificate_lines(evaluation)
    assert any(line.startswith("shift") and "unknown" in line for line in lines)
    assert "conservation of mean tracer" in certificates_table(evaluation)
    assert violations_sentence(evaluation) == ""
    broken = replace(found["shift"], error=0.1, by_model=True)
    page = certificates_table(replace(evaluation, certificates=[broken]))
    assert '<td class="broken">10.0 %<small>built in</small></td>' in page
    assert '<td class="words">Violated: ' in page
    assert "shift (10.0 %)" in violations_sentence(replace(evaluation, certificates=[broken]))
    sound = replace(broken, label="another", error=1e-7, by_equation=True, note="")
    page = certificates_table(replace(evaluation, certificates=[broken, sound]))
    assert f'<td class="words">{broken.label}: Violated: ' in page
