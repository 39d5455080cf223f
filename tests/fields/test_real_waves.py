"""Real waves: orthonormal on every grid that carries them, the same amplitudes on all, exact round trips."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from pdesurrogate.fields.fourier import RealWaves, forward_transform, num_waves, wave_table

NAMES = ("y", "x")


def lowest(kinds, counts, offsets=(0.5, 0.25)):
    return RealWaves(tuple(kinds), tuple(tuple(range(n)) for n in counts), tuple(offsets[: len(kinds)]))


def random_field(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["fourier", "cosine"])
@pytest.mark.parametrize("size", [1, 8, 9])
def test_all_waves_that_a_grid_carries_are_orthonormal_on_it(kind, size):
    table = wave_table(kind, range(num_waves(kind, size)), size, 0.25)
    product = table @ table.T / size
    torch.testing.assert_close(product, torch.eye(len(table), dtype=torch.float64), rtol=0, atol=1e-13)


def test_cosines_are_the_orthonormal_dct_up_to_the_number_of_points():
    u = random_field(2, 8, 9)
    expected = scipy.fft.dctn(u.numpy(), axes=(1, 2), norm="ortho") / math.sqrt(8 * 9)
    found = lowest(("cosine", "cosine"), (8, 9)).analyse(u)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-14)


def test_fourier_waves_are_real_and_imaginary_parts_of_the_fourier_modes():
    u = random_field(3, 11)
    found = lowest(("fourier",), (11,), (0.0,)).analyse(u)
    modes = forward_transform(u, 1)
    torch.testing.assert_close(found[:, 0], modes[:, 0].real)
    torch.testing.assert_close(found[:, 1::2], math.sqrt(2) * modes[:, 1:].real)
    torch.testing.assert_close(found[:, 2::2], -math.sqrt(2) * modes[:, 1:].imag)


@pytest.mark.parametrize("kinds", [("fourier", "cosine"), ("cosine", "fourier")])
def test_fields_of_kept_waves_come_back_and_others_lose_what_is_orthogonal(kinds):
    waves, grid = lowest(kinds, (5, 4)), (9, 10)
    amplitudes = random_field(3, 2, 5, 4)
    field = waves.synthesise(amplitudes, grid)
    torch.testing.assert_close(waves.analyse(field), amplitudes, rtol=0, atol=1e-13)
    u = random_field(3, 2, *grid)
    kept = waves.synthesise(waves.analyse(u), grid)
    assert ((u - kept) * kept).mean((-2, -1)).abs().max() < 1e-13
    parts = kept.square().mean((-2, -1)), waves.analyse(u).square().sum((-2, -1))
    torch.testing.assert_close(*parts)  # Parseval


@pytest.mark.parametrize("kind", ["fourier", "cosine"])
def test_amplitudes_are_those_of_the_function_whatever_the_grid(kind):
    offset = 0.5
    waves = lowest((kind,), (7,), (offset,))
    found = []
    for size in (8, 9, 30):
        s = (torch.arange(size, dtype=torch.float64) + offset) / size
        wave = torch.cos(2 * math.pi * 2 * s) if kind == "fourier" else torch.cos(math.pi * 5 * s)
        found.append(waves.analyse(3 * wave[None] + 1))
    number = 3 if kind == "fourier" else 5
    expected = torch.zeros(1, 7, dtype=torch.float64)
    expected[0, 0], expected[0, number] = 1, 3 / math.sqrt(2)
    for amplitudes in found:
        torch.testing.assert_close(amplitudes, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("kinds", "counts", "grid", "message"),
    [
        (("fourier", "cosine"), (8, 4), (8, 8), r"axis 'y' go up to number 7.*carry 7 fourier.*at most 7"),
        (("cosine", "fourier"), (8, 9), (8, 8), r"axis 'x' go up to number 8.*Nyquist"),
        (("cosine", "cosine"), (8, 9), (8, 8), r"axis 'x' go up to number 8.*carry 8 cosine"),
    ],
)
def test_waves_at_or_above_nyquist_are_refused(kinds, counts, grid, message):
    waves = lowest(kinds, counts)
    with pytest.raises(ValueError, match=message):
        waves.require_resolved(grid, NAMES)
    waves.require_resolved([n + 1 for n in grid], NAMES)


def test_gradients_are_those_of_the_transposed_tables():
    waves = lowest(("fourier", "cosine"), (3, 4))
    assert torch.autograd.gradcheck(
        lambda u: waves.synthesise(waves.analyse(u), (5, 7)), random_field(1, 4, 5).requires_grad_()
    )


def test_narrow_fields_are_transformed_in_float32():
    u = torch.from_numpy(np.linspace(0, 1, 9)).to(torch.bfloat16)[None]
    assert lowest(("cosine",), (3,)).analyse(u).dtype == torch.float32
