"""Point groups: their axioms, what they do to arrays and components, and the solvers' agreement."""

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.point_group import (
    GENERATORS,
    MIRROR,
    QUARTER_TURN,
    Element,
    channel_action,
    point_group,
    require_square,
    transform,
)
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.shallow_water import PlanarShallowWater

AXES = (Axis("y", 1.0), Axis("x", 1.0))
VORTICITY = Field("vorticity", kind="pseudoscalar")
VELOCITY = Field("velocity", kind="vector", components=("x", "y"))
SPEC = DataSpec((Field("depth"), VORTICITY, VELOCITY), AXES, 0.1)


@pytest.mark.parametrize(
    ("name", "order"), [("p1", 1), ("p2", 2), ("pm", 2), ("pmm", 4), ("p4", 4), ("p4m", 8)]
)
def test_products_and_inverses_are_those_of_the_maps_of_arrays_and_channels(name, order):
    group = point_group(name)
    assert len(group) == order
    action = channel_action(group, SPEC)
    u = torch.randn(4, 5, 5, dtype=torch.float64)

    def act(g, u):
        return transform(u, group.elements[g], action[g], AXES)

    for g in range(order):
        assert torch.equal(act(group.inverses[g], act(g, u)), u)
        for h in range(order):
            assert torch.equal(act(g, act(h, u)), act(group.products[g, h], u))


def test_the_generators_are_torchs_rot90_and_flip():
    u = torch.randn(2, 5, 5)
    assert torch.equal(Element(QUARTER_TURN).act_on_points(u), u.rot90(1, (-2, -1)))
    assert torch.equal(Element(MIRROR).act_on_points(u), u.flip(-1))


def test_a_mirror_changes_the_sign_of_vorticity_and_of_one_component():
    group = point_group("pm")
    assert channel_action(group, SPEC)[1].diagonal().tolist() == [1, -1, -1, 1]


def test_the_velocity_of_a_transformed_potential_is_the_transformed_velocity():
    """The gradient of a scalar is a vector: both ways around, for all elements."""
    centres = tuple(Axis(name, 1.0, offset=0.5) for name in "yx")
    group, spec = point_group("p4m"), DataSpec((VELOCITY,), centres, 0.1)
    points = (torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5
    y, x = torch.meshgrid(points, points, indexing="ij")
    for element, action in zip(group.elements, channel_action(group, spec), strict=True):
        moved_y, moved_x = (element.act_on_points(c) for c in (y, x))
        # φ = y + 2 x² at the points where they come from; its gradient there.
        gradient = torch.stack([4 * x, torch.ones_like(x)])
        turned = transform(gradient, element, action, spec.axes)
        (a, b), (c, d) = element.inverse.matrix
        expected_x = b * 1 + d * 4 * moved_x  # chain rule with y' = a y + b x, x' = c y + d x
        expected_y = a * 1 + c * 4 * moved_x
        torch.testing.assert_close(turned, torch.stack([expected_x, expected_y]))
        torch.testing.assert_close(moved_y, a * y + b * x)


def solved(name, equation, state, times):
    """Worst differences between transforming before and after a solution, by element."""
    group, spec = point_group(name), DataSpec(equation.fields, equation.axes, 0.1)
    *_, end = equation.frames(state, times)
    errors = []
    for element, action in zip(group.elements, channel_action(group, spec), strict=True):
        *_, moved = equation.frames(transform(state, element, action, spec.axes), times)
        errors.append(((moved - transform(end, element, action, spec.axes)).norm() / end.norm()).item())
    return errors


def smooth(*shape):
    torch.manual_seed(0)
    spectrum = torch.fft.rfft2(torch.randn(*shape, dtype=torch.float64))
    spectrum[..., 4:-3, :] = 0
    spectrum[..., 4:] = 0
    spectrum[..., 0, 0] = 0
    return torch.fft.irfft2(spectrum, s=shape[-2:])


@pytest.mark.parametrize(("forcing", "kept"), [(None, "p4m"), ("symmetric", "p4"), ("li", "p1")])
def test_navier_stokes_commutes_with_the_group_that_its_forcing_leaves(forcing, kept):
    flow = NavierStokes2D(viscosity=1e-2, dt=0.01, forcing=forcing)
    errors = solved("p4m", flow, 4 * smooth(1, 1, 20, 20), [0.2])
    rotations = [e for e, g in zip(errors, point_group("p4m").elements, strict=True) if g.determinant > 0]
    assert max({"p4m": errors, "p4": rotations, "p1": errors[:1]}[kept]) < 1e-12
    assert max(errors) < 1e-12 or kept != "p4m"
    assert kept == "p4m" or max(errors) > 1e-3


def test_vorticity_that_is_reflected_without_its_sign_is_no_solution():
    flow, w = NavierStokes2D(viscosity=1e-3, dt=0.01), 8 * smooth(1, 1, 20, 20)
    *_, end = flow.frames(w, [0.2])
    *_, moved = flow.frames(w.flip(-1), [0.2])
    *_, signed = flow.frames(-w.flip(-1), [0.2])
    assert (moved - end.flip(-1)).norm() > 1e-2 * end.norm()
    assert (signed + end.flip(-1)).norm() < 1e-12 * end.norm()


def test_of_points_from_the_end_of_a_periodic_axis_the_first_one_stays():
    u = torch.arange(6.0).view(1, 1, 6)
    element, action = Element(MIRROR), torch.eye(1)
    nodes, centres = (Axis("x", 1.0, offset=offset) for offset in (0.0, 0.5))
    assert transform(u, element, action, (nodes, nodes)).flatten().tolist() == [0, 5, 4, 3, 2, 1]
    assert transform(u, element, action, (centres, centres)).flatten().tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("boundaries", "name"), [(("open", "open"), "p4m"), (("wall", "periodic"), "pmm")])
def test_shallow_water_commutes_with_depth_and_discharge(boundaries, name):
    water = PlanarShallowWater(boundaries=boundaries, dt=0.01)
    flow = 0.2 * smooth(1, 3, 12, 12)
    flow[:, 0] += 2.0
    assert max(solved(name, water, flow, [0.05])) < 1e-12


def test_fields_without_an_action_are_refused_with_what_to_do():
    group = point_group("p4")
    with pytest.raises(ValueError, match=r"Unknown point group 'p4n'. Did you mean 'p4"):
        point_group("p4n")
    odd = DataSpec((Field("wind", kind="vector", components=("u", "v")),), AXES, 0.1)
    with pytest.raises(ValueError, match=r"'wind' is a vector with the components \('u', 'v'\).*group=p1"):
        channel_action(group, odd)
    lone = DataSpec((Field("wind", kind="vector", components=("y",)),), AXES, 0.1)
    with pytest.raises(ValueError, match=r"no component along 'x'"):
        channel_action(group, lone)
    with pytest.raises(ValueError, match=r"axis 'x' alone.*group=p1"):
        channel_action(group, DataSpec((Field("u"),), AXES[1:], 0.1))
    assert channel_action(point_group("pmm"), lone).shape == (4, 1, 1)


def test_boxes_that_are_not_square_are_refused_for_quarter_turns_alone():
    long = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 2.0)), 0.1)
    with pytest.raises(ValueError, match=r"lengths 1 and 2.*pmm"):
        require_square("gfno", point_group("p4"), long)
    with pytest.raises(ValueError, match=r"8 and 9 points"):
        require_square("gfno", point_group("p4"), SPEC, (8, 9))
    for name in sorted(GENERATORS.keys() - {"p4", "p4m"}):
        require_square("gfno", point_group(name), long, (8, 9))
