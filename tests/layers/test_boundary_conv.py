import pytest
import torch

from pdesurrogate.layers import BoundaryConv, pad_boundaries


def test_periodic_axes_continue_from_the_other_end_and_walls_repeat_their_edge():
    u = torch.arange(12.0).view(1, 1, 3, 4)
    padded = pad_boundaries(u, 1, ("wall", "periodic"))
    assert padded.shape == (1, 1, 5, 6)
    assert padded[0, 0, 0].tolist() == padded[0, 0, 1].tolist() == [3, 0, 1, 2, 3, 0]
    assert padded[0, 0, -1].tolist() == [11, 8, 9, 10, 11, 8]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_convolution_on_a_periodic_box_commutes_with_shifts(ndim):
    conv = BoundaryConv(2, 3, ["periodic"] * ndim).double()
    u = torch.randn(1, 2, *[8] * ndim, dtype=torch.float64)
    dims = tuple(range(2, u.ndim))
    torch.testing.assert_close(conv(u.roll([3] * ndim, dims)), conv(u).roll([3] * ndim, dims))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_wall_breaks_the_shift_along_its_own_axis_only(axis):
    boundaries = ["periodic", "periodic"]
    boundaries[axis] = "wall"
    conv = BoundaryConv(1, 1, boundaries).double()
    u = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    along, across = 2 + axis, 3 - axis
    torch.testing.assert_close(conv(u.roll(3, across)), conv(u).roll(3, across))
    assert (conv(u.roll(3, along)) - conv(u).roll(3, along)).abs().max() > 1e-3


def test_a_strided_convolution_samples_every_second_point_of_the_full_one():
    fine = BoundaryConv(1, 2, ("periodic", "wall"))
    coarse = BoundaryConv(1, 2, ("periodic", "wall"), stride=2)
    coarse.load_state_dict(fine.state_dict())
    u = torch.randn(1, 1, 8, 6)
    torch.testing.assert_close(coarse(u), fine(u)[..., ::2, ::2])


def test_an_even_stencil_a_fourth_dimension_and_missing_boundaries_are_refused():
    with pytest.raises(ValueError, match="odd number of points"):
        BoundaryConv(1, 1, ("periodic",), kernel=4)
    with pytest.raises(ValueError, match="1 to 3 dimensions"):
        BoundaryConv(1, 1, ("periodic",) * 4)
    with pytest.raises(ValueError, match="1 boundaries"):
        pad_boundaries(torch.randn(1, 1, 4, 4), 1, ("wall",))
