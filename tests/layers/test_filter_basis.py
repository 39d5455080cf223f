"""Filter bases: partitions of unity, orthogonality, single functions by their formulas, supports, refusals."""

import math

import pytest
import torch

from pdesurrogate.layers.filter_basis import BASES, PiecewiseLinear, Zernike, filter_basis


def disc(size=201):
    x = torch.linspace(-1.2, 1.2, size, dtype=torch.float64)
    return torch.stack(torch.meshgrid(x, x, indexing="ij"))


@pytest.mark.parametrize(
    ("name", "ndim", "shape", "size"),
    [
        ("piecewise_linear", 2, None, 5),
        ("piecewise_linear", 2, (2, 4), 4),
        ("piecewise_linear", 2, (3, 4), 5),
        ("piecewise_linear", 2, (4, 6), 12),
        ("piecewise_linear", 2, 3, 5),
        ("piecewise_linear", 1, None, 3),
        ("piecewise_linear", 3, None, 2),
        ("morlet", 1, 3, 3),
        ("morlet", 2, 3, 9),
        ("morlet", 3, (2, 1, 3), 6),
        ("zernike", 2, None, 6),
        ("zernike", 2, (4,), 10),
    ],
)
def test_a_basis_has_as_many_functions_as_it_says_and_none_reaches_beyond_the_unit_ball(
    name, ndim, shape, size
):
    basis = filter_basis(name, ndim, shape)
    offsets = torch.rand(ndim, 4000, dtype=torch.float64) * 2.6 - 1.3
    values = basis.values(offsets)
    assert basis.size == size
    assert values.shape == (size, 4000)
    inside = offsets.square().sum(0) <= 1
    assert (values[:, inside].abs().amax(1) > 0.1).all()
    assert (values[:, ~inside] == 0).all()


@pytest.mark.parametrize("num_angles", [1, 2, 3, 4])
@pytest.mark.parametrize("num_radii", [1, 2, 3, 4, 5])
def test_hats_add_up_to_one_wherever_two_rings_overlap(num_radii, num_angles):
    values = PiecewiseLinear(2, num_radii, num_angles).values(disc()).sum(0)
    radius = disc().square().sum(0).sqrt()
    last = (num_radii // 2 - 0.5 * (num_radii % 2 == 0)) * 2 / (num_radii + 1)
    # Up to the last ring they are a partition of unity, from there they fall to zero at the cutoff.
    torch.testing.assert_close(values[radius <= last], torch.ones_like(values[radius <= last]))
    outside = (radius > last) & (radius <= 1)
    expected = 1 - (radius[outside] - last) * (num_radii + 1) / 2
    torch.testing.assert_close(values[outside], expected.clamp(min=0), rtol=0, atol=1e-12)


def test_rings_and_angles_sit_where_their_formula_puts_them():
    basis = PiecewiseLinear(2, 3, 4)
    radius = torch.tensor([0.0, 0.5, 0.5, 0.5, 0.25], dtype=torch.float64)
    angle = torch.tensor([0.3, math.pi, 0.0, -math.pi / 4, math.pi / 2], dtype=torch.float64)
    expected = [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0, 0.0],  # centred at -π
        [0.0, 0.0, 0.0, 1.0, 0.0],  # centred at 0
        [0.0, 0.0, 0.5, 0.5, 0.0],  # half way between -π/2 and 0
        [0.5, 0.0, 0.0, 0.0, 0.5],  # half way from the origin to the ring, at π/2
    ]
    found = basis.on_disc(radius, angle).T
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_an_even_number_of_radii_reaches_through_the_origin():
    basis = PiecewiseLinear(2, 2, 4)
    # The ring lies at a third: at a ninth two thirds of its hat are left, and a third on the far side.
    values = basis.on_disc(torch.tensor([1 / 9, 0.0]).double(), torch.tensor([0.0, 0.0]).double())
    torch.testing.assert_close(values[:, 0], torch.tensor([1 / 3, 0.0, 2 / 3, 0.0]).double())
    torch.testing.assert_close(values[:, 1], torch.full((4,), 0.25).double())


def test_on_a_line_two_angles_are_its_two_directions():
    values = filter_basis("piecewise_linear", 1).values(torch.tensor([[-0.5, 0.0, 0.5]]).double())
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).double()
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)


def test_morlet_functions_are_waves_along_the_axes_under_a_window():
    x, y = torch.tensor([0.3, 0.2]).double(), torch.tensor([-0.4, 0.5]).double()
    values = filter_basis("morlet", 2, (3, 2)).values(torch.stack([x, y]))
    window = (0.5 * math.pi * (x**2 + y**2).sqrt()).cos() ** 2
    along = [torch.ones_like(x), (math.pi * x).sin(), (math.pi * x).cos()]
    across = [torch.ones_like(y), (math.pi * y).sin()]
    expected = torch.stack([window * a * b for a in along for b in across])
    torch.testing.assert_close(values, expected)


def test_zernike_polynomials_are_orthogonal_on_the_disc():
    radius = (torch.arange(400).double() + 0.5) / 400
    angle = torch.arange(48).double() * 2 * math.pi / 48
    r, phi = torch.meshgrid(radius, angle, indexing="ij")
    values = Zernike(5, taper=False).on_disc(r, phi).flatten(1)
    gram = (values * r.flatten()) @ values.T * (1 / 400) * (2 * math.pi / 48)
    off = gram - gram.diag().diag()
    assert off.abs().max() < 1e-4
    degree = torch.tensor([n for n in range(5) for _ in range(n + 1)]).double()
    order = torch.tensor([m for n in range(5) for m in range(-n, n + 1, 2)])
    norm = math.pi / (2 * degree + 2) * torch.where(order == 0, 2.0, 1.0)
    torch.testing.assert_close(gram.diag(), norm, rtol=1e-4, atol=0)


def test_tapered_zernike_polynomials_vanish_at_the_cutoff_and_the_plain_ones_jump():
    angle = torch.linspace(0, 6, 50).double()
    edge = torch.full_like(angle, 1 - 1e-12)
    assert Zernike(3).on_disc(edge, angle).abs().max() < 1e-10
    assert Zernike(3, taper=False).on_disc(edge, angle).abs().amax(1).min() > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("piecewise", 2), "basis is 'piecewise'. Did you mean 'piecewise_linear'"),
        (("morlet", 4), "one to three dimensions; 4"),
        (("piecewise_linear", 1, (3, 4)), r"at most 2 angles in one dimension.*basis_shape=\[3, 2\]"),
        (("piecewise_linear", 3, (3, 2)), r"1 in three.*basis_shape=\[3, 1\]"),
        (("piecewise_linear", 2, (0, 4)), "0 radii and 4 angles"),
        (("piecewise_linear", 2, (3, 4, 5)), r"basis_shape is \[3, 4, 5\].*radii and angles"),
        (("morlet", 2, (3, 3, 3)), "one number or one for each of 2 axes"),
        (("morlet", 2, (0, 3)), "at least one wave"),
        (("zernike", 2, (3, 4)), "holds degrees"),
        (("zernike", 2, 0), "0 degrees"),
        (("zernike", 1), "on the disc; the data have 1 axes.*piecewise_linear or morlet"),
    ],
)
def test_bases_that_do_not_exist_are_refused_in_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        filter_basis(*arguments)


def test_every_basis_can_be_asked_for_by_name_alone():
    for name in BASES:
        assert filter_basis(name, 2).size > 1
