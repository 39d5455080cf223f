"""Maps of the kept modes: products of smaller matrices equal the matrix that they multiply out to, everywhere."""

import pytest
import torch
import torch.nn.functional as F

from pdesurrogate.layers import (
    MEMORY_MODES,
    ChannelMixing,
    FourierLayerWeights,
    fourier_layer,
    spectral_conv,
    spectral_operator,
)
from pdesurrogate.layers.channel_mixing import NUMBER_COST
from pdesurrogate.layers.real_pairs import pair_contract, pair_multiply

NUM_MODES, KEPT, WIDTH, RANK = (3, 4), 9, 4, 3
SHAPES = {
    "matrices between matrices": ((KEPT, RANK, 2, 2), (WIDTH, RANK, 2), (2, WIDTH, 2)),
    "factors between matrices": ((KEPT, RANK, 2), (WIDTH, RANK, 2), (RANK, WIDTH, 2)),
    "matrices after a matrix": ((KEPT, RANK, WIDTH, 2), (WIDTH, RANK, 2), None),
    "factors alone": ((KEPT, WIDTH, 2), None, None),
    "factors after a matrix": ((KEPT, WIDTH, 2), (WIDTH, WIDTH, 2), None),
}


def randn(*shape, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) / shape[-2]


@pytest.fixture(params=SHAPES)
def tensors(request):
    return [
        None if shape is None else randn(*shape, seed=i).requires_grad_()
        for i, shape in enumerate(SHAPES[request.param])
    ]


def field(seed=4):
    return 2 * randn(2, 5, 4, WIDTH, seed=seed)


def gradients_of(y, tensors):
    return torch.autograd.grad(y.square().sum(), [t for t in tensors if t is not None])


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_products_of_pairs_are_products_of_complex_numbers(dim):
    tensor, matrix = randn(3, 4, 5, 2), randn(6, (3, 4, 5)[dim], 2)
    numbers = torch.view_as_complex(tensor).movedim(dim, -1) @ torch.view_as_complex(matrix).t()
    found = torch.view_as_complex(pair_contract(matrix, tensor, dim).contiguous())
    torch.testing.assert_close(found, numbers.movedim(-1, dim))
    other = randn(4, 1, 2)
    product = torch.view_as_complex(pair_multiply(tensor, other))
    torch.testing.assert_close(product, torch.view_as_complex(tensor) * torch.view_as_complex(other))


def test_the_product_multiplied_out_acts_alike_with_the_same_gradients(tensors):
    mixing = ChannelMixing(*tensors)
    assert not mixing.is_dense
    whole = mixing.dense()
    assert whole.is_dense
    assert whole.shape == mixing.shape == (KEPT, WIDTH, WIDTH)
    by_factors = spectral_operator(field(), mixing, NUM_MODES)
    multiplied_out = spectral_conv(field(), whole.weight, NUM_MODES)
    assert_same([by_factors], [multiplied_out])
    assert_same(gradients_of(by_factors, tensors), gradients_of(multiplied_out, tensors))


@pytest.mark.parametrize("hidden", [0, 3])
@pytest.mark.parametrize("memory", MEMORY_MODES)
def test_a_fourier_layer_with_a_product_equals_one_with_the_whole_matrix(tensors, memory, hidden):
    pointwise = [randn(WIDTH, WIDTH), randn(1, WIDTH)[0]]
    if hidden:
        pointwise += [randn(hidden, WIDTH), randn(1, hidden)[0], randn(WIDTH, hidden), *randn(2, WIDTH)]
    for t in pointwise:
        t.requires_grad_()
    u, outcomes = field().requires_grad_(), []
    for mixing in (ChannelMixing(*tensors), ChannelMixing(*tensors).dense()):
        y = fourier_layer(u, FourierLayerWeights(mixing, *pointwise), NUM_MODES, memory=memory)
        outcomes.append([y, *gradients_of(y, [u, *tensors, *pointwise])])
    assert_same(*outcomes)


def test_gradients_through_a_fourier_layer_are_exact_to_second_order(tensors):
    given = [t for t in tensors if t is not None]
    places = [t is not None for t in tensors]
    u, skip, bias = field()[:1].requires_grad_(), randn(WIDTH, WIDTH), randn(1, WIDTH)[0]

    def layer(u, *given):
        rest = iter(given)
        mixing = ChannelMixing(*[next(rest) if there else None for there in places])
        return fourier_layer(u, FourierLayerWeights(mixing, skip, bias), NUM_MODES)

    assert torch.autograd.gradcheck(layer, (u, *given), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (u, *given), fast_mode=True)


def test_a_graph_that_is_kept_can_be_walked_twice_and_one_that_is_not_cannot(tensors):
    u = field().requires_grad_()
    weights = FourierLayerWeights(ChannelMixing(*tensors), randn(WIDTH, WIDTH), randn(1, WIDTH)[0])
    loss = fourier_layer(u, weights, NUM_MODES).sum()
    once = torch.autograd.grad(loss, u, retain_graph=True)
    assert_same(torch.autograd.grad(loss, u), once)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, u)


def test_the_predicted_cost_counts_the_products_of_the_matrices_sizes_and_the_numbers_between():
    """Matrices of rank 3 and 2 around 3 x 2 ones; against 4 x 4 ones."""
    shapes = SHAPES["matrices between matrices"]
    mixing = ChannelMixing(*[randn(*shape) for shape in shapes])
    products = WIDTH * RANK + RANK * 2 + 2 * WIDTH
    assert mixing.cost(batch=5) == 5 * KEPT * (products + NUMBER_COST * (RANK + 2))
    assert mixing.dense().cost(batch=5) == 5 * KEPT * WIDTH * WIDTH
    products = KEPT * (RANK * 2 * WIDTH + WIDTH * RANK * WIDTH)
    numbers = KEPT * (RANK * WIDTH + WIDTH * WIDTH)
    assert mixing.cost_of_dense(batch=5) == 5 * KEPT * WIDTH**2 + products + NUMBER_COST * numbers


@torch.no_grad()
def test_without_gradients_nothing_is_recorded_and_the_result_is_the_same(tensors):
    weights = FourierLayerWeights(ChannelMixing(*tensors), randn(WIDTH, WIDTH), randn(1, WIDTH)[0])
    y = fourier_layer(field(), weights, NUM_MODES, first=True)
    waves = spectral_operator(field(), ChannelMixing(*tensors), NUM_MODES)
    assert_same([y], [F.linear(field(), weights.skip, weights.skip_bias) + waves])
