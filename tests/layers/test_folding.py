import torch

from pdesurrogate.layers import fold_inputs, unfold_frames


def test_frames_and_parameters_become_channels_in_order():
    history = torch.randn(2, 3, 2, 5, 4)
    parameters = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
    folded = fold_inputs(history, parameters)
    assert folded.shape == (2, 8, 5, 4)
    torch.testing.assert_close(unfold_frames(folded[:, :6], 3), history)
    assert torch.equal(folded[:, 6:], parameters[:, :, None, None].expand(2, 2, 5, 4))


def test_without_parameters_only_the_frames_are_folded():
    history = torch.randn(2, 3, 1, 6)
    assert torch.equal(fold_inputs(history, torch.zeros(2, 0)), history.squeeze(2))
