"""Cutting and stitching: nothing is lost, windows lie where they should, and what lies beyond the box is right."""

import math

import pytest
import torch

from pdesurrogate.layers import RegionGrid, split_regions

BOXES = {
    "square, no halo": RegionGrid((16, 16), (2, 2), (0, 0), ("periodic", "periodic")),
    "square, halo": RegionGrid((16, 16), (4, 4), (3, 3), ("periodic", "periodic")),
    "not square": RegionGrid((12, 30), (2, 5), (2, 4), ("periodic", "wall")),
    "odd": RegionGrid((15, 21), (3, 7), (1, 2), ("wall", "open")),
    "halo on one axis only": RegionGrid((16, 8), (2, 2), (3, 0), ("periodic", "periodic")),
    "an axis left whole": RegionGrid((16, 9), (4, 1), (2, 0), ("periodic", "periodic")),
    "line": RegionGrid((24,), (6,), (1,), ("periodic",)),
    "box": RegionGrid((4, 6, 8), (2, 3, 2), (1, 0, 2), ("periodic", "open", "wall")),
    "nothing is cut": RegionGrid((7, 5), (1, 1), (0, 0), ("periodic", "periodic")),
}


@pytest.fixture(params=BOXES.values(), ids=BOXES)
def cut(request):
    return request.param


@pytest.fixture
def field(cut):
    return torch.randn(2, 3, *cut.grid)


def test_regions_cropped_from_their_windows_and_stitched_are_the_field(cut, field):
    windows = [cut.cut(field, i, 0) for i in range(cut.num_regions)]
    assert {tuple(w.shape[2:]) for w in windows} == {cut.window}
    regions = torch.stack([cut.crop(w) for w in windows])
    assert regions.shape[3:] == cut.region
    assert torch.equal(cut.stitch(regions), field)


def test_regions_of_samples_stitch_back_per_sample(cut, field):
    parts = split_regions(field, cut.counts)
    assert parts.shape == (2 * cut.num_regions, 3, *cut.region)
    regions = parts.unflatten(0, (2, -1)).movedim(1, 0)
    assert torch.equal(cut.stitch(regions), field)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_window_of_every_level_is_centred_on_its_region_within_half_a_coarse_point(cut, level):
    for dim in range(len(cut.grid)):
        stride = cut.strides(level)[dim]
        for region in range(cut.num_regions):
            first = cut.starts(region, level)[dim]
            centre = first + stride * (cut.window[dim] - 1) / 2
            start = cut.starts(region, 0)[dim]
            truth = start + (cut.window[dim] - 1) / 2
            assert abs(centre - truth) <= stride / 2
            # As cells of the box, not as points, it is exact up to the halves that a grid does not have.
            assert abs((first + stride * cut.window[dim] / 2) - (start + cut.window[dim] / 2)) <= 0.5


@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_a_coordinate_field_has_its_window_around_the_regions_centre(num_levels):
    """The angle on a ring, so that a window may go past the end of the box."""
    size, count = 64, 2**num_levels
    cut = RegionGrid((size,), (count,), (2,), ("periodic",))
    angle = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
    ring = torch.stack([angle.cos(), angle.sin()])
    for level in range(num_levels + 1):
        for region in range(count):
            x, y = cut.cut(ring, region, level)
            centre = 2 * math.pi * (region + 0.5) / count
            step = 2 * math.pi * 2**level / size
            turned = torch.atan2(
                y * math.cos(centre) - x * math.sin(centre), x * math.cos(centre) + y * math.sin(centre)
            )
            middle = turned[cut.window[0] // 2 - 1 : cut.window[0] // 2 + 1]
            assert middle.mean().abs() <= step / 2 + 1e-12
            assert torch.allclose(middle.diff(), torch.tensor(step, dtype=torch.float64))


def test_the_last_level_spans_the_box():
    cut = RegionGrid((16, 32), (4, 4), (0, 0), ("periodic", "periodic"))
    field = torch.arange(16 * 32.0).reshape(16, 32)
    seen = cut.cut(field, 5, 2)
    assert sorted(seen.flatten().tolist()) == sorted(
        field.roll([-s for s in cut.starts(5, 2)], (0, 1))[::4, ::4].flatten().tolist()
    )
    assert (cut.window[0] * 4, cut.window[1] * 4) == cut.grid


def test_two_levels_of_half_a_box_are_those_of_the_paper():
    """64 points, two regions: region 0 is 0 .. 31, its coarse window -16, -14, .. 46."""
    cut = RegionGrid((64,), (2,), (0,), ("periodic",))
    field = torch.arange(64.0)
    assert cut.cut(field, 0, 0).tolist() == list(range(32))
    assert cut.cut(field, 0, 1).tolist() == [n % 64 for n in range(-16, 48, 2)]
    with_halo = RegionGrid((64,), (2,), (3,), ("periodic",))
    assert with_halo.cut(field, 1, 1).tolist() == [n % 64 for n in range(32 - 16 - 6, 32 + 48 + 6, 2)]


@pytest.mark.parametrize(
    ("boundary", "beyond"),
    [
        ("periodic", [4, 5, 0, 1, 2, 3, 4]),
        ("wall", [1, 0, 0, 1, 2, 3, 4]),
        ("open", [0, 0, 0, 1, 2, 3, 4]),
    ],
)
def test_beyond_the_end_lies_the_other_end_or_the_mirror_image_or_the_edge_value(boundary, beyond):
    cut = RegionGrid((6,), (2,), (2,), (boundary,))
    assert cut.cut(torch.arange(6.0), 0, 0).tolist() == beyond


def test_a_coarse_window_far_beyond_a_wall_folds_back_into_the_box():
    cut = RegionGrid((8,), (4,), (2,), ("wall",))
    seen = cut.cut(torch.arange(8.0), 0, 2)
    assert cut.starts(0, 2) == (-11,)
    assert seen.tolist() == [5, 6, 2, 1, 5, 6]


@pytest.mark.parametrize("boundary", ["periodic", "wall", "open"])
def test_the_low_pass_keeps_what_a_coarse_grid_carries_and_removes_the_rest(boundary):
    size = 48
    cut = RegionGrid((size,), (4,), (0,), (boundary,))
    x = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    turn = 2 * math.pi if boundary == "periodic" else math.pi
    highest = size // 4 if boundary == "periodic" else size // 2  # of level 1
    for k in (0, 1, highest - 1):
        wave = torch.cos(turn * k * x)
        torch.testing.assert_close(cut.low_pass(wave, 1), wave)
    for k in (highest + 1, size // 2 - 1 if boundary == "periodic" else size - 1):
        wave = torch.cos(turn * k * x)
        assert cut.low_pass(wave, 1).abs().max() < 1e-12
        # Plain subsampling folds it onto a long wave of full amplitude.
        assert cut.cut(wave, 0, 1).abs().max() > 0.3


def test_an_axis_that_is_not_cut_is_neither_subsampled_nor_smoothed():
    cut = RegionGrid((16, 8), (4, 1), (0, 0), ("periodic", "periodic"))
    noise = torch.randn(16, 8)
    assert cut.strides(2) == (4, 1)
    rough = noise.mean(0, keepdim=True).expand(16, 8)
    torch.testing.assert_close(cut.low_pass(rough, 2), rough)


def test_a_coarse_window_of_a_refined_grid_holds_the_same_places():
    coarse = RegionGrid((24,), (3,), (2,), ("periodic",))
    fine = RegionGrid((48,), (3,), (4,), ("periodic",))
    for level in (0, 1):
        for region in range(3):
            assert fine.starts(region, level)[0] == 2 * coarse.starts(region, level)[0]


def test_regions_that_do_not_divide_the_grid_are_refused():
    with pytest.raises(ValueError, match="do not divide the grid"):
        RegionGrid((16, 15), (2, 2), (0, 0), ("periodic", "periodic"))
    with pytest.raises(ValueError, match="one number per axis"):
        RegionGrid((16, 16), (2,), (0, 0), ("periodic", "periodic"))
