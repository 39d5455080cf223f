import pytest
import torch
from neuralop.layers.spectral_convolution import SpectralConv as PeerConv

from pdesurrogate.layers import spectral_conv, spectral_weight_from_neuralop, spectral_weight_to_neuralop

GRIDS = [
    ((16,), (9,)),
    ((12, 10), (6, 5)),
    ((12, 10), (7, 10)),
    ((12, 10), (12, 10)),
    ((6, 8, 10), (4, 5, 6)),
]


@pytest.mark.parametrize(("grid", "num_modes"), GRIDS)
def test_a_converted_weight_acts_like_the_neuraloperator_layer_it_came_from(grid, num_modes):
    torch.manual_seed(1)
    peer = PeerConv(3, 4, num_modes, bias=False)
    u = torch.randn(2, 3, *grid)
    weight = spectral_weight_from_neuralop(peer.weight.to_tensor().detach())
    v = spectral_conv(u.movedim(1, -1).movedim(-2, 1), weight, num_modes)
    torch.testing.assert_close(v.movedim(1, -2).movedim(-1, 1), peer(u), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("grid", "num_modes"), GRIDS)
def test_converting_to_neuraloperator_and_back_is_the_identity(grid, num_modes):
    weight = torch.randn(*num_modes[:-1], num_modes[-1] // 2 + 1, 3, 4, 2).flatten(0, len(num_modes) - 1)
    there = spectral_weight_to_neuralop(weight, num_modes)
    assert there.shape == (3, 4, *num_modes[:-1], num_modes[-1] // 2 + 1)
    assert torch.equal(spectral_weight_from_neuralop(there), weight)


def test_a_weight_for_other_modes_is_refused():
    with pytest.raises(ValueError, match="keep 12"):
        spectral_weight_to_neuralop(torch.randn(9, 2, 2, 2), (4, 4))
