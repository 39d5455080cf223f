"""Turning amplitudes is a permutation, back and forth, with gradients of any order."""

import pytest
import torch

from pdesurrogate.layers.turned import channels_first, channels_last

SHAPES = [(5, 3, 4), (5, 6, 3, 4), (2, 5, 6, 3, 4)]  # (*waves, batch, channel)


@pytest.mark.parametrize("shape", SHAPES)
def test_entries_are_where_they_belong_and_come_back(shape):
    v = torch.randn(shape)
    h = channels_first(v)
    assert h.shape == (shape[-1], *shape[:-3], shape[-2], shape[-3])
    assert h.is_contiguous()
    place = tuple(n - 1 for n in shape)
    assert h[(place[-1], *place[:-3], place[-2], place[-3])] == v[place]
    back = channels_last(h)
    assert back.is_contiguous()
    assert torch.equal(back, v)
    assert torch.equal(channels_last(h, onto=2 * v), 3 * v)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_a_permutation(shape):
    v = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    h = channels_first(torch.randn(shape, dtype=torch.float64)).requires_grad_()
    for function, inputs in ((channels_first, (v,)), (channels_last, (h,)), (channels_last, (h, v))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)
    pair = torch.stack([v.detach(), 2 * v.detach()])
    assert torch.equal(
        torch.func.vmap(channels_first)(pair), torch.stack([channels_first(one) for one in pair])
    )
