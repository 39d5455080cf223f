"""Filters on the modes of a grid: they equal taps, alone and inside a Fourier layer, by every route and derivative."""

import pytest
import torch
import torch.nn.functional as F

import pdesurrogate.layers.local_spectrum as local_spectrum
from pdesurrogate.fields.fourier import kept_shape
from pdesurrogate.layers import (
    MEMORY_MODES,
    FilterBank,
    FourierLayerWeights,
    fourier_layer,
    joins_the_waves,
    local_operator,
    spectral_conv,
)
from pdesurrogate.layers.local_spectrum import TransferMap, transfer_table
from pdesurrogate.layers.native import native_library, transfer_forward

needs_library = pytest.mark.skipif(native_library() is None, reason="there is no compiled library")
CPU = torch.device("cpu")
CASES = [((8,), (5,), (5,)), ((6, 9), (6, 4), (3, 5)), ((4, 3, 5), (3, 3, 5), (3, 1, 3))]


def bank_of(box, size=3):
    return FilterBank(torch.randn(size, *box, dtype=torch.float64))


def layer_case(grid, num_modes, box, hidden=0, depthwise=False, width=3, dtype=torch.float64):
    """A field and all weights of a layer, and its filters."""
    kept = 1
    for n in kept_shape(num_modes):
        kept *= n
    shapes = [
        (2, grid[-1], *grid[:-1], width),
        (kept, width, width, 2),
        (3, width, *[width] * (not depthwise)),
    ]
    shapes += [(width, width), (width,)]
    if hidden:
        shapes += [(hidden, width), (hidden,), (width, hidden), (width,), (width,)]
    tensors = [torch.randn(shape, dtype=dtype).div_(shape[-1] ** 0.5).requires_grad_() for shape in shapes]
    return tensors, bank_of(box)


def layer_of(tensors, bank, num_modes, **options):
    u, waves, matrices, *pointwise = tensors
    weights = FourierLayerWeights(waves, *pointwise)
    return fourier_layer(u, weights, num_modes, filters=(bank, matrices), **options)


def by_hand(tensors, bank, num_modes, first=False, last=False):
    """The layer from its parts, each by its reference route."""
    u, waves, matrices, skip, skip_bias, *mlp = tensors
    v = u if first else F.gelu(u)
    s = F.linear(v, skip, skip_bias) + spectral_conv(v, waves, num_modes, backend="reference")
    s = s + local_operator(v, bank, matrices, ["periodic"] * (u.ndim - 2), route="direct")
    if not mlp:
        return s
    *perceptron, gate = mlp
    hidden = F.gelu(F.linear(s if last else F.gelu(s), *perceptron[:2]))
    return F.linear(hidden, *perceptron[2:]) + gate * v


@pytest.mark.parametrize("hidden", [0, 2])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(("grid", "num_modes", "box"), CASES)
def test_a_fourier_layer_with_filters_is_the_sum_of_its_parts(grid, num_modes, box, depthwise, hidden):
    tensors, bank = layer_case(grid, num_modes, box, hidden, depthwise)
    expected = by_hand(tensors, bank, num_modes)
    probe = torch.randn_like(expected)
    exact = [expected, *torch.autograd.grad(expected, tensors, probe)]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        inputs = [t.detach().to(dtype).requires_grad_() for t in tensors]
        y = layer_of(inputs, bank, num_modes)
        found = [y, *torch.autograd.grad(y, inputs, probe.to(dtype))]
        for one, other in zip(found, exact, strict=True):
            assert (one.double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("memory", MEMORY_MODES)
@pytest.mark.parametrize("ends", [{"first": True}, {"last": True}])
def test_memory_modes_and_ends_of_a_network_keep_the_numbers(memory, ends):
    tensors, bank = layer_case((6, 5), (4, 5), (3, 3), hidden=2)
    expected, y = (
        by_hand(tensors, bank, (4, 5), **ends),
        layer_of(tensors, bank, (4, 5), memory=memory, **ends),
    )
    torch.testing.assert_close(y, expected)
    pairs = zip(*(torch.autograd.grad(one.square().sum(), tensors) for one in (y, expected)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("depthwise", [False, True])
def test_gradients_of_a_layer_with_filters_are_exact_to_second_order(depthwise):
    tensors, bank = layer_case((4, 3), (3, 3), (3, 3), width=2, depthwise=depthwise)

    def run(*tensors):
        return layer_of(tensors, bank, (3, 3))

    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


def test_gradients_by_spectra_are_exact_to_second_order():
    bank, u = bank_of((3, 3)), torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(u, weights):
        return local_operator(u, bank, weights, ("wall", "periodic"), route="fft")

    assert torch.autograd.gradgradcheck(run, (u, weights), fast_mode=True)


def map_case(in_channels, out_channels, batch):
    bank = bank_of((3, 5), size=5)
    table = transfer_table(bank, (6, 10), (4, 5), torch.float32, CPU)
    modes, kept = len(table.places), len(table.waves)
    weights, waves = (
        torch.randn(5, in_channels, out_channels),
        torch.randn(kept, in_channels, out_channels, 2),
    )
    u_hat = torch.randn(modes, batch, in_channels, dtype=torch.complex64)
    return (
        TransferMap(table, waves, weights),
        u_hat,
        torch.randn(modes, batch, out_channels, dtype=torch.complex64),
    )


@needs_library
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 2), (16, 16, 4), (20, 9, 3)])
def test_the_compiled_products_equal_those_of_torch_with_any_number_of_threads(sizes, monkeypatch):
    transfer, u_hat, gradient = map_case(*sizes)
    outcomes = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        grad_modes, grads = transfer.backward(u_hat, [], gradient.clone())
        outcomes.append([transfer.steps(u_hat)[0], grad_modes, *grads[:2]])
    monkeypatch.setattr(local_spectrum, "native_applies", lambda *tensors: False)
    grad_modes, grads = transfer.backward(u_hat, [], gradient.clone())
    expected = [transfer.steps(u_hat)[0], grad_modes, *grads[:2]]
    for once, again, other in zip(*outcomes, expected, strict=True):
        assert torch.equal(once, again)
        assert (once - other).norm() <= 2e-6 * other.norm()


@needs_library
@pytest.mark.usefixtures("as_users_run")
def test_the_compiled_products_refuse_what_they_would_read_wrongly():
    transfer, u_hat, _ = map_case(2, 3, 1)
    table, weights, waves = transfer.table, transfer.weights, transfer.waves
    given = [u_hat, table.response, weights, table.places, waves]
    assert transfer_forward(*given).shape == (*u_hat.shape[:2], 3)
    with pytest.raises(ValueError, match=r"response is of shape"):
        transfer_forward(u_hat, table.response[1:], *given[2:])
    with pytest.raises(ValueError, match=r"torch\.float64"):
        transfer_forward(u_hat, table.response, weights.double(), *given[3:])
    with pytest.raises(ValueError, match="has row 11 of spectral weights for 3 modes"):
        transfer_forward(*given[:4], waves[:3])


def test_the_matrices_of_all_modes_never_exist_together(monkeypatch):
    """Only pieces of them, whose size is that of the cache."""
    monkeypatch.setattr(local_spectrum, "native_applies", lambda *tensors: False)
    monkeypatch.setattr(local_spectrum, "piece_rows", lambda device, row_bytes, num_rows: 3)
    transfer, u_hat, _ = map_case(4, 4, 2)
    assert {len(matrices) for _, matrices in transfer._pieces(transfer.weights)} == {3, 1}
    in_pieces = transfer.steps(u_hat)[0]
    monkeypatch.setattr(local_spectrum, "piece_rows", lambda device, row_bytes, num_rows: num_rows)
    torch.testing.assert_close(in_pieces, transfer.steps(u_hat)[0])


def test_filters_join_the_waves_where_matrices_are_many_and_keep_away_where_modes_are():
    u = torch.randn(4, 32, 32, 16)
    bank, matrices = bank_of((5, 5), size=12), torch.randn(12, 16, 16)
    assert joins_the_waves(bank, u, matrices, (16, 16))
    assert not joins_the_waves(bank_of((3, 3), size=1), u[:1], torch.randn(1, 16), (2, 2))


def test_filters_that_do_not_fit_the_grid_are_refused_in_a_layer_too():
    tensors, _ = layer_case((4, 4), (3, 3), (3, 3))
    with pytest.raises(ValueError, match="reaches 5 points along axis"):
        layer_of(tensors, bank_of((11, 3)), (3, 3))
