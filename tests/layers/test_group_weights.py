"""Group convolutions: the defining formula, the number of free weights, symmetry of every map, and kept weights."""

import copy
import itertools
import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.point_group import GENERATORS, channel_action, point_group
from pdesurrogate.layers import (
    GroupLift,
    GroupLinear,
    GroupProjection,
    GroupSpectralWeight,
    IsotropicSpectralWeight,
    mode_matmul,
    spectral_operator,
    symmetric_modes,
)
from pdesurrogate.layers.group_tables import kept_modes, spectral_tables

BOXES = {"plane": ((7, 7), (0, 1)), "plane and time": ((5, 5, 3), (0, 1)), "box": ((3, 5, 5), (1, 2))}


def act(group, g, v, plane, ndim):
    """An element on a field on the group, in the engine's layout."""
    u = v.unflatten(-1, (len(group), -1)).movedim(1, ndim).movedim((-2, -1), (1, 2))
    dims = tuple(3 + axis for axis in plane)
    u = group.elements[g].act_on_points(u.movedim(dims, (-2, -1))).movedim((-2, -1), dims)
    out = torch.empty_like(u)
    out[:, torch.from_numpy(group.products[g])] = u
    return out.movedim((1, 2), (-2, -1)).flatten(-2).movedim(ndim, 1)


@pytest.fixture(params=itertools.product(sorted(GENERATORS), BOXES), ids="-".join)
def case(request):
    name, box = request.param
    num_modes, plane = BOXES[box]
    torch.manual_seed(0)
    weight = GroupSpectralWeight(name, 2, 3, num_modes, plane).double()
    sizes = [n + 2 + i % 2 for i, n in enumerate(num_modes)]  # neither square nor even alone
    field = torch.randn(2, sizes[-1], *sizes[:-1], 2 * len(point_group(name)), dtype=torch.float64)
    return point_group(name), weight, num_modes, plane, field


def test_the_free_numbers_are_those_of_a_real_kernel_of_that_many_points(case):
    group, weight, num_modes, _, _ = case
    assert sum(p.numel() for p in weight.parameters()) == 2 * 3 * len(group) * math.prod(num_modes)


def test_orbits_expanded_matrices_and_the_defining_formula_agree(case):
    group, weight, num_modes, _, _ = case
    modes = kept_modes(num_modes)
    place = {mode: i for i, mode in enumerate(modes)}
    dense = (
        torch.view_as_complex(weight.dense().detach())
        .unflatten(2, (len(group), -1))
        .unflatten(1, (len(group), -1))
    )
    kernel = dense[:, :, :, 0]  # s = 1: Ψ_h(k)
    action = weight.tables.action
    for s in range(len(group)):
        back = int(group.inverses[s])
        permuted = [int(group.products[back, h]) for h in range(len(group))]
        for i, mode in enumerate(modes):
            moved = action.move(back, mode)
            block = kernel[place[moved]] if moved in place else kernel[place[tuple(-k for k in moved)]].conj()
            assert torch.equal(dense[i, :, :, s], block[permuted])
    for mode in modes:
        mirror = tuple(-k for k in mode)
        if mirror in place:
            assert torch.equal(kernel[place[mirror]], kernel[place[mode]].conj())


def test_values_and_gradients_of_the_orbits_are_those_of_the_expanded_matrices(case):
    _, weight, num_modes, _, field = case
    field.requires_grad_()
    inputs = [field, *weight.parameters()]

    def evaluate(mixing):
        v = spectral_operator(field, mixing, num_modes)
        return v, torch.autograd.grad((v * torch.linspace(0, 1, v.numel()).view_as(v)).sin().sum(), inputs)

    values, gradients = evaluate(weight)
    expected, expected_gradients = evaluate(lambda modes: mode_matmul(modes, weight.dense()))
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-14)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)


@torch.no_grad()
def test_the_convolution_commutes_with_every_element(case):
    group, weight, num_modes, plane, field = case
    ndim = len(num_modes)
    v = spectral_operator(field, weight, num_modes)
    for g in range(len(group)):
        moved = spectral_operator(act(group, g, field, plane, ndim), weight, num_modes)
        torch.testing.assert_close(moved, act(group, g, v, plane, ndim), rtol=1e-12, atol=1e-13)


def test_second_derivatives_are_those_of_the_expanded_matrices():
    weight = GroupSpectralWeight("p4m", 1, 1, (5, 5), (0, 1)).double()
    field = torch.randn(1, 6, 6, 8, dtype=torch.float64, requires_grad=True)

    def curvature(mixing):
        (first,) = torch.autograd.grad(
            spectral_operator(field, mixing, (5, 5)).pow(3).sum(), field, create_graph=True
        )
        return torch.autograd.grad(first.square().sum(), [field, *weight.parameters()])

    pairs = zip(curvature(weight), curvature(lambda m: mode_matmul(m, weight.dense())), strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", ["p4", "p4m"])
def test_isotropic_weights_commute_and_have_a_matrix_an_orbit(name):
    group = point_group(name)
    weight = IsotropicSpectralWeight(name, 2, 3, (7, 7), (0, 1)).double()
    assert len(weight.weight) == {"p4": 4 + 9, "p4m": 10}[name]
    field = torch.randn(2, 9, 9, 2, dtype=torch.float64)
    v = spectral_operator(field, weight, (7, 7))
    for element in group.elements:
        moved, expected = (
            element.act_on_points(t.permute(0, 3, 2, 1)).permute(0, 3, 2, 1) for t in (field, v)
        )
        torch.testing.assert_close(spectral_operator(moved, weight, (7, 7)), expected, rtol=1e-12, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_lifting_pointwise_maps_and_projection_commute_with_every_element(name):
    group = point_group(name)
    fields = (
        Field("depth"),
        Field("w", kind="pseudoscalar"),
        Field("v", kind="vector", components=("y", "x")),
    )
    action = channel_action(group, DataSpec(fields, (Axis("y", 1.0), Axis("x", 1.0)), 0.1))
    lift, middle = GroupLift(action, 3).double(), GroupLinear(group, 3, 2).double()
    project = GroupProjection(action, 2).double()
    u = torch.randn(5, 4, dtype=torch.float64)

    def regular(g, v):
        out = torch.empty_like(v).unflatten(-1, (len(group), -1))
        out[:, torch.from_numpy(group.products[g])] = v.unflatten(-1, (len(group), -1))
        return out.flatten(1)

    for g in range(len(group)):
        lifted = lift(u)
        torch.testing.assert_close(lift(u @ action[g].T), regular(g, lifted))
        torch.testing.assert_close(middle(regular(g, lifted)), regular(g, middle(lifted)))
        matrix, bias = project.weights()
        ahead, behind = (
            torch.nn.functional.linear(middle(v), matrix, bias) for v in (regular(g, lifted), lifted)
        )
        torch.testing.assert_close(ahead, behind @ action[g].T)
    kept = {"p1": 4, "p2": 2, "pm": 2, "pmm": 1, "p4": 2, "p4m": 1}[name]
    assert len(project.bias) == kept


def test_weights_are_expanded_once_an_update_and_never_again_in_evaluation():
    weight = GroupSpectralWeight("p4", 2, 2, (5, 5), (0, 1))
    field = torch.randn(2, 8, 8, 8)
    optimiser = torch.optim.SGD(weight.parameters(), 0.1)
    with torch.no_grad():
        for _ in range(3):
            spectral_operator(field, weight, (5, 5))
    assert weight._dense.num_built == 1
    for step in range(1, 3):
        for _ in range(2):  # two passes on one graph of the weight
            spectral_operator(field, weight, (5, 5)).square().sum().backward()
        assert weight._some.num_built == step
        optimiser.step()
    assert weight._dense.num_built == 1
    with torch.no_grad():
        spectral_operator(field, weight, (5, 5))
    assert weight._dense.num_built == 2


@pytest.mark.parametrize("change", ["load", "step", "copy"])
def test_no_change_of_the_parameters_leaves_a_stale_weight(change):
    layer = GroupLinear(point_group("p4"), 2, 2).eval()
    v = torch.randn(3, 8)
    with torch.no_grad():
        before = layer(v)
    if change == "load":
        layer.load_state_dict({name: torch.zeros_like(p) for name, p in layer.state_dict().items()})
    elif change == "step":
        layer(v).sum().backward()
        torch.optim.Adam(layer.parameters(), 0.1).step()
    else:
        layer, original = copy.deepcopy(layer), layer
        with torch.no_grad():
            layer.weight.zero_()
            assert torch.equal(original(v), before)
    with torch.no_grad():
        after = layer(v)
        weight, bias = layer._expand(layer.weight), layer._repeat(layer.bias)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, v @ weight.T + bias)


def test_initial_numbers_have_the_bounds_that_they_say():
    plain = GroupSpectralWeight("p4", 3, 3, (9, 9), (0, 1))
    bound = 1 / math.sqrt(12 * 81)
    assert all(0.9 * bound < p.abs().max() <= bound for p in plain.parameters() if p.numel() > 100)
    release = GroupSpectralWeight("p4", 3, 3, (9, 9), (0, 1), bound_by_axis=True)
    assert 1 / math.sqrt(12) >= release.mean.abs().max() > 10 * bound / math.sqrt(12)
    assert release.orbit.abs().max() <= 1 / math.sqrt(12 * 4)
    assert release.orbit.abs().max() > 2 / math.sqrt(12 * 36)


def test_modes_without_a_partner_are_left_out():
    assert symmetric_modes((24, 23, 2, 1)) == (23, 23, 1, 1)
    assert spectral_tables("p4", (23, 23), (0, 1)).num_orbits == 132
