"""Low-rank spectral weights: what they stand for, how many numbers they are, and how large they begin."""

import math

import numpy as np
import pytest
import torch

from pdesurrogate.fields.fourier import kept_shape
from pdesurrogate.layers import (
    FACTORISATIONS,
    ChannelMixing,
    FactorisedSpectralWeights,
    decompose,
    spectral_conv,
    spectral_operator,
)

DIMENSIONS = {"line": (6,), "plane": (5, 6), "box": (3, 4, 5), "space-time": (2, 3, 4, 3)}
KINDS = [(joint, separable) for joint in (False, True) for separable in (False, True)]
SUBSCRIPTS = "abcdefghijklmnop"


def weights(num_modes=(5, 6), num_layers=2, channels=4, **options):
    torch.manual_seed(0)
    options = {"rank": 0.4, **options}
    return FactorisedSpectralWeights(num_layers, channels, channels, num_modes, **options).double()


def by_definition(form, factors):
    """The tensor that factors stand for, by one sum over all ranks with NumPy."""
    factors = [torch.view_as_complex(f.detach().double().contiguous()).numpy() for f in factors]
    order = len(factors) - (form != "tt")
    sizes, ranks = SUBSCRIPTS[:order], SUBSCRIPTS[order:]
    if form == "tucker":
        terms = [ranks[:order], *(n + r for n, r in zip(sizes, ranks, strict=False))]
    elif form == "cp":
        terms = [ranks[0], *(n + ranks[0] for n in sizes)]
    else:
        terms = [ranks[k] + n + ranks[k + 1] for k, n in enumerate(sizes)]
    return torch.from_numpy(np.einsum(f"{','.join(terms)}->{sizes}", *factors, optimize=True))


def in_engine_order(tensor, num_axes):
    """``(.., k_1, .., k_d)`` as ``(mode, ..)``, the half axis first."""
    places = tensor.ndim - num_axes
    modes_first = tensor.permute(tensor.ndim - 1, *range(places, tensor.ndim - 1), *range(places))
    return modes_first.flatten(0, num_axes - 1)


@torch.no_grad()
@pytest.mark.parametrize("num_modes", DIMENSIONS.values(), ids=DIMENSIONS)
@pytest.mark.parametrize(("joint", "separable"), KINDS)
@pytest.mark.parametrize("form", FACTORISATIONS)
def test_a_layers_weight_is_what_the_definition_of_its_form_says(form, joint, separable, num_modes):
    found = weights(num_modes, factorisation=form, joint=joint, separable=separable, rank=0.6)
    tensors = [by_definition(form, tensor) for tensor in found.tensors]
    for layer in range(2):
        tensor = tensors[0][layer] if joint else tensors[layer]
        expected = in_engine_order(tensor, len(num_modes))
        expected = torch.diag_embed(expected) if separable else expected
        reconstructed = torch.view_as_complex(found.reconstructed(layer))
        torch.testing.assert_close(reconstructed, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("joint", "separable"), KINDS)
@pytest.mark.parametrize("form", FACTORISATIONS)
def test_factorised_and_reconstructed_contraction_agree_with_their_gradients(form, joint, separable):
    found = weights(factorisation=form, joint=joint, separable=separable).float()
    u, target = torch.randn(2, 3, 7, 6, 4, requires_grad=True).unbind(0)
    outcomes = []
    for contraction in ("factorised", "reconstructed"):
        found.contraction = contraction
        mixing = found.mixing(1, batch=3)
        assert mixing.is_dense == (contraction == "reconstructed")
        v = spectral_operator(u, mixing, (5, 6))
        used = [p for p in found.parameters() if joint or p in set(found.tensors[1])]
        outcomes.append([v, *torch.autograd.grad((v - target).square().sum(), [u, *used])])
    for one, other in zip(*outcomes, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@torch.no_grad()
@pytest.mark.parametrize("num_modes", DIMENSIONS.values(), ids=DIMENSIONS)
@pytest.mark.parametrize("form", ["tucker", "tt"])
def test_at_full_rank_decomposed_dense_weights_are_the_dense_layer(form, num_modes):
    """Higher-order SVD and TT-SVD, in float32."""
    shape = (4, 3, *kept_shape(num_modes))
    dense = torch.randn(*shape, 2)
    ranks = shape
    if form == "tt":
        ranks = [min(math.prod(shape[:k]), math.prod(shape[k:])) for k in range(1, len(shape))]
    found = FactorisedSpectralWeights(1, 4, 3, num_modes, factorisation=form, rank=1.0)
    found.tensors[0] = torch.nn.ParameterList(decompose(form, dense, ranks))
    weight = in_engine_order(torch.view_as_complex(dense), len(num_modes))
    grid = [n + 3 for n in num_modes]
    u = torch.randn(2, grid[-1], *grid[:-1], 4)
    expected = spectral_conv(u, torch.view_as_real(weight.contiguous()), num_modes)
    for mixing in (found.factors(0), found.factors(0).dense()):
        v = spectral_operator(u, mixing, num_modes)
        assert (v - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("form", ["tucker", "tt"])
def test_a_tensor_of_low_rank_is_found_again_and_any_other_as_nearly_as_ranks_allow(form):
    shape = (4, 4, 5, 4)
    ranks = (2, 2, 3, 2) if form == "tucker" else (2, 4, 2)
    low = by_definition(form, FACTORISATIONS[form].draw(shape, ranks, 1.0))
    again = by_definition(form, decompose(form, torch.view_as_real(low), ranks))
    assert (again - low).norm() <= 1e-6 * low.norm()
    noisy = low + 0.01 * torch.randn_like(low)
    error = by_definition(form, decompose(form, torch.view_as_real(noisy), ranks)) - noisy
    assert error.norm() <= 0.011 * math.sqrt(math.prod(shape))  # no worse than the noise that ranks leave out


def test_there_is_no_direct_decomposition_into_cp():
    with pytest.raises(ValueError, match=r"'cp': its best factors need not exist. Allowed: tucker, tt"):
        decompose("cp", torch.zeros(2, 2, 2), [1])


@torch.no_grad()
@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("form", FACTORISATIONS)
def test_a_layer_of_the_joint_tensor_is_the_tensor_of_the_same_factors_with_its_row_taken_in(form, separable):
    joint = weights(factorisation=form, joint=True, separable=separable, num_layers=3)
    one = weights(factorisation=form, separable=separable, num_layers=1)
    for layer in range(3):
        first, second, *rest = [torch.view_as_complex(p.detach()) for p in joint.tensors[0]]
        if form == "tucker":
            factors = [torch.tensordot(second[layer], first, 1), *rest]
        elif form == "cp":
            factors = [first * second[layer], *rest]
        else:
            factors = [torch.tensordot(first[:, layer], second, 1), *rest]
        one.tensors[0] = torch.nn.ParameterList(torch.view_as_real(f.contiguous()) for f in factors)
        torch.testing.assert_close(joint.reconstructed(layer), one.reconstructed(0), rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(
    ("separable", "rank"), [(False, 0.5), (False, 0.1), (False, 0.01), (True, 0.5), (True, 0.1)]
)
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("form", FACTORISATIONS)
def test_reconstructed_weights_begin_with_the_standard_deviation_of_dense_ones(form, joint, separable, rank):
    """√(2 / (in + out)) to 10 %, so that a layer keeps the variance of its modes; no layer is weak by bad luck."""
    torch.manual_seed(0)
    num_modes = (24, 24) if separable else (12, 16)
    found = FactorisedSpectralWeights(
        3, 24, 24, num_modes, factorisation=form, rank=rank, joint=joint, separable=separable
    )
    target = 1.0 if separable else math.sqrt(1 / 24)
    variances = []
    for layer in range(3):
        weight = found.factors(layer).weight if separable else found.reconstructed(layer)
        variances.append(weight.square().sum(-1).mean())
    assert math.sqrt(sum(variances) / 3) == pytest.approx(target, rel=0.1)
    assert min(variances) > 0.5 * target**2


@pytest.mark.parametrize(("joint", "separable"), KINDS)
def test_numbers_of_parameters_are_those_of_the_closed_forms(joint, separable):
    for form in FACTORISATIONS:
        found = weights((5, 6), channels=4, factorisation=form, joint=joint, separable=separable)
        n = [*([2] if joint else []), *([4] if separable else [4, 4]), 5, 4]
        r = found.ranks
        expected = {
            "tucker": lambda n=n, r=r: math.prod(r) + sum(a * b for a, b in zip(n, r, strict=True)),
            "cp": lambda n=n, r=r: r[0] + r[0] * sum(n),
            "tt": lambda n=n, r=(1, *r, 1): sum(r[k] * n[k] * r[k + 1] for k in range(len(n))),
        }[form]()
        tensors = 1 if joint else 2
        assert found.num_parameters == 2 * tensors * expected
        assert found.num_parameters == sum(p.numel() for p in found.parameters())
        assert found.num_dense_parameters == 2 * tensors * math.prod(n)


@pytest.mark.parametrize("rank", [1.0, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("shape", [(64, 64, 32, 17), (8, 64, 64, 32, 32), (64, 64, 17), (20, 20, 16, 16, 5)])
@pytest.mark.parametrize("form", FACTORISATIONS)
def test_the_realised_share_of_the_dense_numbers_is_the_rank_to_ten_percent(form, shape, rank):
    ranks = FACTORISATIONS[form].ranks(shape, rank)
    assert all(isinstance(r, int) and r >= 1 for r in ranks)
    assert FACTORISATIONS[form].size(shape, ranks) == pytest.approx(rank * math.prod(shape), rel=0.1)


def test_ranks_are_in_proportion_to_the_sizes():
    """Tucker ranks of the joint tensor at a hundredth, as tensorly's rule gives them, to one."""
    ranks = FACTORISATIONS["tucker"].ranks((8, 64, 64, 32, 32), 0.01)
    assert all(abs(a - b) <= 1 for a, b in zip(ranks, (3, 25, 25, 13, 13), strict=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rank": 0}, "rank is 0; it is the share of the dense weights' numbers"),
        ({"rank": 1.5}, "rank is 1.5; .*above 0 and at most 1"),
        ({"rank": 1e-4}, r"leaves 0 of 320 complex numbers; the factors have 18 .*at least rank=0\.056"),
        ({"factorisation": "tuker"}, "factorisation is 'tuker'. Did you mean 'tucker'"),
        ({"contraction": "factorized"}, "contraction is 'factorized'. Did you mean 'factorised'"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        weights(**options)


def test_separable_weights_for_different_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"mix no channels.*there are 4 and 3"):
        FactorisedSpectralWeights(1, 4, 3, (5, 6), separable=True)


def test_what_is_cheaper_depends_on_the_batch_and_a_choice_can_be_forced():
    found = weights((16, 16), channels=16, factorisation="cp", rank=0.4)
    assert not found.mixing(0, batch=1).is_dense
    assert found.mixing(0, batch=512).is_dense
    found.contraction = "factorised"
    assert not found.mixing(0, batch=512).is_dense
    found.contraction = "reconstructed"
    assert found.mixing(0, batch=1).is_dense


def test_under_autocast_factors_are_multiplied_in_float32():
    found = weights().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert found.factors(0).weight.dtype == torch.float32
        assert torch.equal(found.reconstructed(0), weights().float().reconstructed(0))


def test_a_product_of_factors_is_a_map_of_the_modes():
    found = weights().factors(0)
    assert isinstance(found, ChannelMixing)
    assert found.shape == (5 * 4, 4, 4)
