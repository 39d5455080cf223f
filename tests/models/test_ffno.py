"""The factorised FNO: its convolutions against transforms along single axes, its options, and what it refuses."""

import pytest
import torch

from pdesurrogate.models.ffno import axis_convolutions

CHANGES = {
    "width": 8,
    "depth": 3,
    "num_modes": [6, 4],
    "mlp_ratio": 1,
    "share_weights": True,
    "coordinates": "periodic",
    "precision": "bf16",
}


@torch.no_grad()
@pytest.mark.parametrize(("option", "value"), CHANGES.items())
def test_every_option_changes_the_output(option, value, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    reference = build_model("ffno", plane)(*inputs)
    changed = build_model("ffno", plane, **{option: value})(*inputs)
    assert changed.shape == reference.shape
    assert (changed - reference).abs().max() > 1e-4


@torch.no_grad()
def test_padding_changes_the_output_on_a_wall_axis(channel, build_model, sample_windows):
    inputs = sample_windows(channel)
    plain, padded = (build_model("ffno", channel, padding=p) for p in (0, 0.5))
    assert (plain(*inputs) - padded(*inputs)).abs().max() > 1e-4
    assert padded.symmetries == frozenset()


@pytest.mark.parametrize("memory", ["speed", "minimal"])
def test_memory_changes_no_number(memory, plane, build_model, sample_windows):
    inputs = sample_windows(plane, dtype=torch.float64)
    futures = [build_model("ffno", plane, memory=m).double()(*inputs) for m in ("lean", memory)]
    torch.testing.assert_close(*futures)


@pytest.mark.parametrize(("grid", "num_modes"), [((9,), (5,)), ((8, 10), (6, 5)), ((6, 8, 7), (4, 5, 3))])
def test_the_convolutions_are_products_of_transforms_along_single_axes(grid, num_modes):
    channels, ndim = 3, len(grid)
    v = torch.randn(2, *grid, channels, dtype=torch.float64)
    weights = [torch.randn(k // 2 + 1, channels, channels, 2, dtype=torch.float64) for k in num_modes]
    expected = torch.zeros_like(v)
    for axis, (weight, n) in enumerate(zip(weights, grid, strict=True)):
        v_hat = torch.fft.rfft(v, dim=1 + axis).movedim(1 + axis, -2)
        mixed = torch.zeros_like(v_hat)
        kept = slice(0, weight.shape[0])
        matrices = torch.view_as_complex(weight)
        mixed[..., kept, :] = torch.einsum("...ki,kio->...ko", v_hat[..., kept, :], matrices)
        expected += torch.fft.irfft(mixed.movedim(-2, 1 + axis), n=n, dim=1 + axis)
    in_layout = v.movedim(ndim, 1) if ndim > 1 else v
    found = axis_convolutions(in_layout, weights, num_modes)
    torch.testing.assert_close(found.movedim(1, ndim) if ndim > 1 else found, expected)


def test_weights_grow_with_the_sum_of_modes_and_may_be_shared(plane, build_model):
    def spectral(**options):
        return sum(p.numel() for p in build_model("ffno", plane, **options).spectral.parameters())

    one_layer = 2 * 6 * 6 * 2 * 4  # axes, channels, real and imaginary part, 0 to 3 periods
    assert spectral(depth=5) == 5 * one_layer
    assert spectral(depth=5, share_weights=True) == one_layer


def test_what_cannot_be_is_refused(plane, build_model):
    with pytest.raises(ValueError, match="ffno: mlp_ratio is 0"):
        build_model("ffno", plane, mlp_ratio=0)
    with pytest.raises(ValueError, match="depth is 0"):
        build_model("ffno", plane, depth=0)
    with pytest.raises(ValueError, match="40 modes"):
        build_model("ffno", plane, num_modes=40).check_grid((16, 16))
