"""Local operators: halos and their adjoints, routes that agree, gradients of both orders, and the choice of a route."""

import pytest
import torch
import torch.nn.functional as F

from pdesurrogate.fields.fourier import layout_order
from pdesurrogate.layers.filter_bank import FilterBank, filtered, joined
from pdesurrogate.layers.halo import extend, extend_into, fold, interior
from pdesurrogate.layers.local_cost import choose_route, predicted_seconds
from pdesurrogate.layers.local_operator import local_operator
from pdesurrogate.layers.native import filter_lines, native_library

BOUNDARIES = {
    "periodic": ("periodic", "periodic"),
    "channel": ("wall", "periodic"),
    "box": ("wall", "open"),
}
SPACES = [((12,), (5,)), ((9, 7), (3, 5)), ((5, 6, 4), (3, 3, 5))]
needs_library = pytest.mark.skipif(native_library() is None, reason="there is no compiled library")


def bank_of(box, size=4, sparse=False):
    filters = torch.randn(size, *box, dtype=torch.float64)
    if sparse:
        filters *= torch.rand(size, *box) < 0.3
    return FilterBank(filters)


def by_hand(v, bank, weights, boundaries):
    """The definition, tap by tap, on a continued field; ``v`` is not activated."""
    ends = [boundaries[axis] for axis in layout_order(v.ndim - 2)]
    padded = extend(v, bank.widths, ends)
    y = 0
    for m in range(bank.size):
        z = torch.zeros_like(v)
        for tap in bank.filters[m].nonzero().tolist():
            moved = padded
            for dim, (start, size) in enumerate(zip(tap, v.shape[1:-1], strict=True), start=1):
                moved = moved.narrow(dim, start, size)
            z = z + bank.filters[m][tuple(tap)].to(v.dtype) * moved
        y = y + (z * weights[m] if weights.ndim == 2 else z @ weights[m])
    return y


def test_a_periodic_axis_goes_round_a_wall_mirrors_and_an_open_end_repeats_its_edge():
    u = torch.arange(5.0).view(1, 5, 1)
    continued = {b: extend(u, [2], [b]).flatten().tolist() for b in ("periodic", "wall", "open", "zero")}
    assert continued == {
        "periodic": [3, 4, 0, 1, 2, 3, 4, 0, 1],
        "wall": [1, 0, 0, 1, 2, 3, 4, 4, 3],
        "open": [0, 0, 0, 1, 2, 3, 4, 4, 4],
        "zero": [0, 0, 0, 1, 2, 3, 4, 0, 0],
    }


@pytest.mark.parametrize(
    "ends", [("periodic", "wall"), ("open", "periodic"), ("wall", "open"), ("zero", "open")]
)
def test_filling_in_place_equals_joining_and_folding_is_its_adjoint(ends):
    u = torch.randn(2, 6, 5, 3, dtype=torch.float64, requires_grad=True)
    widths = (2, 3)
    continued = extend(u, widths, ends)
    memory = torch.full_like(continued, float("nan"))
    interior(memory, widths).copy_(u.detach())
    extend_into(memory, widths, ends)
    assert torch.equal(memory, continued)
    gradient = torch.randn_like(continued)
    (expected,) = torch.autograd.grad(continued, u, gradient)
    torch.testing.assert_close(fold(gradient.clone(), widths, ends), expected)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("kind", ["periodic", "wall", "open"])
@pytest.mark.parametrize(("grid", "box"), SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_routes_equal_the_definition_and_so_do_their_gradients(dtype, grid, box, kind, depthwise):
    bank, boundaries = bank_of(box), [kind] * len(grid)
    weights = torch.randn(4, 3, *([] if depthwise else [5]), dtype=dtype, requires_grad=True)
    u = torch.randn(2, *grid, 3, dtype=dtype, requires_grad=True)
    expected = by_hand(F.gelu(u), bank, weights, boundaries)
    probe = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, (u, weights), probe)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for route in ("direct", "fft"):
        y = local_operator(u, bank, weights, boundaries, activate=True, route=route)
        found = torch.autograd.grad(y, (u, weights), probe)
        for one, other in zip((y, *found), (expected, *gradients), strict=True):
            assert (one - other).norm() <= tolerance * other.norm(), route


@pytest.mark.parametrize("name", BOUNDARIES)
@pytest.mark.parametrize("depthwise", [False, True])
def test_derivatives_of_both_orders_are_those_of_the_function(name, depthwise):
    bank = bank_of((3, 3), size=2)
    weights = torch.randn(2, 2, *([] if depthwise else [2]), dtype=torch.float64, requires_grad=True)
    u = torch.randn(1, 3, 4, 2, dtype=torch.float64, requires_grad=True)

    def run(u, weights):
        return local_operator(u, bank, weights, BOUNDARIES[name], activate=True, route="direct")

    assert torch.autograd.gradcheck(run, (u, weights))
    assert torch.autograd.gradgradcheck(run, (u, weights))


def test_only_one_of_the_two_gradients_can_be_asked_for():
    bank, u, weights = bank_of((3,)), torch.randn(2, 8, 3), torch.randn(4, 3, 3)
    fields, matrices = u.clone().requires_grad_(), weights.clone().requires_grad_()
    both = local_operator(fields, bank, matrices, ["wall"])
    expected = torch.autograd.grad(both.sum(), (fields, matrices))
    (of_fields,) = torch.autograd.grad(local_operator(fields, bank, weights, ["wall"]).sum(), fields)
    (of_matrices,) = torch.autograd.grad(local_operator(u, bank, matrices, ["wall"]).sum(), matrices)
    assert torch.equal(of_fields, expected[0])
    assert torch.equal(of_matrices, expected[1])


@needs_library
@pytest.mark.parametrize(("grid", "box"), SPACES)
@pytest.mark.parametrize("channels", [1, 3, 16, 20, 64])
def test_the_compiled_filters_equal_a_convolution(grid, box, channels):
    from pdesurrogate.layers.filter_bank import pieces

    bank = bank_of(box, sparse=True)
    sizes = [n + 2 * width for n, width in zip(grid, bank.widths, strict=True)]
    padded = torch.randn(3, *sizes, channels)
    expected = filtered(padded, bank).flatten(0, -3)
    found = torch.cat([z.clone() for _, z in pieces(padded, bank, grid, channels)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_library
def test_the_compiled_filters_refuse_what_they_would_read_wrongly():
    padded, lines = torch.randn(1, 4, 2), torch.zeros(1, dtype=torch.int64)
    bounds, shifts, values = torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1)
    assert filter_lines(padded, lines, 4, (bounds, shifts, values)).shape == (1, 4, 1, 2)
    with pytest.raises(ValueError, match="reach from 2 to 10 of a field of 8"):
        filter_lines(padded, lines, 4, (bounds, shifts + 2, values))
    with pytest.raises(ValueError, match=r"torch\.float64"):
        filter_lines(padded.double(), lines, 4, (bounds, shifts, values))
    with pytest.raises(ValueError, match="out has the shape"):
        filter_lines(padded, lines, 4, (bounds, shifts, values), out=torch.empty(1, 4, 2, 2))


def test_joined_banks_do_what_their_parts_do_one_after_the_other():
    first, second = bank_of((3, 5), 2), bank_of((5, 1), 3)
    padded = torch.randn(1, 12, 12, 2, dtype=torch.float64)
    both = filtered(padded, joined((first, second)))
    torch.testing.assert_close(both[..., :2, :], filtered(padded[:, 1:-1], first))
    torch.testing.assert_close(both[..., 2:, :], filtered(padded[:, :, 2:-2], second))


def test_few_taps_go_one_by_one_and_many_by_their_spectra():
    v, weights = torch.randn(2, 32, 32, 8), torch.randn(2, 8, 8)
    ends = ("periodic", "periodic")
    few, many = bank_of((3, 3), 2), bank_of((31, 31), 2)
    assert choose_route("auto", few, ends, v, weights) == "direct"
    assert choose_route("auto", many, ends, v, weights) == "fft"
    assert choose_route("direct", many, ends, v, weights) == "direct"
    seconds = [predicted_seconds(bank, ends, v, weights) for bank in (few, many)]
    assert seconds[0]["fft"] == seconds[1]["fft"]
    assert seconds[0]["direct"] < seconds[1]["direct"]


def test_what_cannot_be_done_is_refused_in_a_sentence():
    u, weights = torch.randn(1, 4, 8, 2), torch.randn(4, 2, 2)
    with pytest.raises(ValueError, match="reaches 5 points along axis 1 and the grid has 4"):
        local_operator(u, bank_of((11, 3)), weights, BOUNDARIES["periodic"])
    with pytest.raises(ValueError, match="a bank of 4 filters came with weights for 3"):
        local_operator(u, bank_of((3, 3)), weights[:3], BOUNDARIES["periodic"])
    with pytest.raises(ValueError, match=r"Unknown route 'fttt'\. Did you mean 'fft'"):
        local_operator(u, bank_of((3, 3)), weights, BOUNDARIES["periodic"], route="fttt")
