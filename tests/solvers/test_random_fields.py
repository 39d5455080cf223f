import math

import numpy as np
import pytest
import scipy.fft
import torch

from pdesurrogate.fields import fourier
from pdesurrogate.solvers.random_fields import GaussianRandomField, WallRandomField


def lattice_sum(length, alpha=2.5, tau=7.0, bound=31, exclude_column=False):
    k = np.arange(-bound, bound + 1)
    ky, kx = np.meshgrid(k, k)
    keep = (ky != 0) | (kx != 0)
    if exclude_column:
        keep &= kx != 0
    return np.sum((4 * np.pi**2 * (kx**2 + ky**2)[keep] / length**2 + tau**2) ** -alpha)


EXPECTED_VARIANCE = {
    ("original", 1.0): 2 * 7.0**3 * lattice_sum(1.0),
    ("rewrite", 1.0): 7.0**3 * lattice_sum(1.0),
    ("paper", 1.0): 7.0**1.5 * lattice_sum(1.0),
    ("pino", 2 * math.pi): 7.0**3
    * (lattice_sum(2 * math.pi) + lattice_sum(2 * math.pi, exclude_column=True)),
}


@pytest.mark.parametrize(("amplitude", "length"), EXPECTED_VARIANCE)
@pytest.mark.usefixtures("as_users_run")
def test_the_pointwise_variance_follows_the_formula(amplitude, length):
    field = GaussianRandomField(lengths=(length, length), amplitude=amplitude)
    samples = torch.stack([field.sample(0, i, (64, 64)) for i in range(256)])
    variance = samples.square().mean().item()
    assert variance == pytest.approx(EXPECTED_VARIANCE[amplitude, length], rel=0.05)


@pytest.mark.parametrize(
    ("amplitude", "length", "std"),
    [
        ("original", 1.0, 0.262),
        ("rewrite", 1.0, 0.185),
        ("paper", 1.0, 0.043),
        ("pino", 1.0, 0.241),
        ("pino", 2 * math.pi, 2.0),
    ],
)
def test_the_documented_standard_deviations_are_those_of_the_spectrum(amplitude, length, std):
    field = GaussianRandomField(lengths=(length, length), amplitude=amplitude)
    k = np.arange(-63, 64)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    assert math.sqrt(field.mode_variance(ky, kx).sum()) == pytest.approx(std, rel=0.02)


def their_fields(recipe, size, num_samples):
    """The lattice recipes of the two published codes, transcribed: weights times complex noise, transformed."""
    rng = np.random.default_rng(0)
    k = np.fft.fftfreq(size, 1 / size)
    weights = size**2 * math.sqrt(2) * 7.0**1.5 * (4 * np.pi**2 * (k[:, None] ** 2 + k**2) + 49) ** -1.25
    weights[0, 0] = 0.0
    noise = rng.standard_normal((num_samples, size, size, 2)) @ np.array([1, 1j])
    if recipe == "original":
        return np.fft.ifft2(weights * noise).real
    return np.fft.irfftn((weights * noise / math.sqrt(2))[..., : size // 2 + 1], s=(size, size), axes=(1, 2))


@pytest.mark.parametrize("recipe", ["original", "pino"])
def test_every_mode_has_the_variance_that_the_published_code_gives_it(recipe):
    spectrum = np.abs(np.fft.fft2(their_fields(recipe, 16, 4000), norm="forward")) ** 2
    ky, kx = np.meshgrid(np.arange(-3, 4), np.arange(-3, 4), indexing="ij")
    ours = GaussianRandomField(amplitude=recipe).mode_variance(ky, kx)
    np.testing.assert_allclose(spectrum.mean(0)[ky, kx], ours, rtol=0.12, atol=1e-30)


@pytest.mark.usefixtures("as_users_run")
def test_modes_are_gaussian_and_isotropic_on_both_axes():
    field = GaussianRandomField()
    samples = torch.stack([field.sample(1, i, (16, 16)) for i in range(2000)])
    power = fourier.forward_transform(samples, 2).abs().square().mean(0).numpy()
    assert power[0, 2] == pytest.approx(power[2, 0], rel=0.12)
    assert power[2, 1] == pytest.approx(power[-2, 1], rel=0.12)
    assert (samples.pow(4).mean() / samples.square().mean() ** 2).item() == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("grid", [(33, 33), (48, 48), (65, 65), (64, 128), (129, 47)])
def test_a_field_is_the_same_function_on_every_grid(grid):
    field = GaussianRandomField()
    coarse = field.sample(3, 5, (32, 32))
    fine = field.sample(3, 5, grid)
    # The grid of 31 points carries exactly the modes that both grids carry.
    torch.testing.assert_close(
        fourier.resample(fine, (31, 31)), fourier.resample(coarse, (31, 31)), rtol=0, atol=1e-14
    )


def test_a_field_depends_on_seed_and_index_alone():
    field = GaussianRandomField()
    assert torch.equal(field.sample(3, 5, (32, 32)), field.sample(3, 5, (32, 32)))
    # Fields of a few large modes correlate by chance; over many pairs the mean must vanish.
    pairs = [((3, i), (3, i + 1)) for i in range(100)] + [((s, 5), (s + 1, 5)) for s in range(100)]
    pairs += [((a, b), (b, a)) for a in range(10) for b in range(a)]
    products = [
        torch.corrcoef(
            torch.stack([field.sample(*p, (16, 16)).flatten(), field.sample(*q, (16, 16)).flatten()])
        )[0, 1]
        for p, q in pairs
    ]
    correlation = torch.stack(products)
    assert abs(correlation.mean().item()) < 4 * correlation.std().item() / len(pairs) ** 0.5
    assert correlation.abs().max().item() < 1 - 1e-6


def test_an_unknown_amplitude_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'rewrite'"):
        GaussianRandomField(amplitude="rewritten")


@pytest.mark.usefixtures("as_users_run")
def test_a_number_is_the_scale_of_the_covariance_itself():
    """Li et al.'s initial velocity of Burgers' equation, N(0, 625 (-Δ + 25)^-2) on a line."""
    field = GaussianRandomField((1.0,), 2.0, 5.0, 625.0)
    samples = torch.stack([field.sample(0, i, (64,)) for i in range(2000)])
    power = fourier.forward_transform(samples, 1).abs().square().mean(0)[:4].numpy()
    k = np.arange(4)
    expected = np.where(k == 0, 0.0, 625.0 * (4 * np.pi**2 * k**2 + 25) ** -2.0)
    np.testing.assert_allclose(power, expected, rtol=0.1, atol=1e-30)


@pytest.mark.parametrize(("coarse", "fine"), [((31,), (96,)), ((8, 9), (32, 17)), ((5, 6, 7), (9, 12, 11))])
@pytest.mark.parametrize("kind", [GaussianRandomField, WallRandomField])
def test_a_field_of_any_dimension_is_the_same_function_on_every_grid(kind, coarse, fine):
    field = kind((1.0, 2.0, 3.0)[: len(coarse)], 2.0, 3.0, "rewrite")
    one, other = field.sample(3, 5, coarse), field.sample(3, 5, fine)
    if kind is WallRandomField:
        shared = fourier.cosine_transform(other, range(len(fine)))[tuple(slice(n) for n in coarse)]
        found = fourier.cosine_transform(one, range(len(coarse)))
    else:
        grid = [n - 1 + n % 2 for n in coarse]  # an odd grid carries exactly the modes that both carry
        shared, found = fourier.resample(other, grid), fourier.resample(one, grid)
    torch.testing.assert_close(found, shared, rtol=0, atol=1e-14)


@pytest.mark.usefixtures("as_users_run")
def test_every_cosine_between_walls_has_the_variance_that_the_published_code_gives_it():
    """Weights times white noise, through an orthonormal inverse DCT scaled by the number of points an axis."""
    k = np.arange(4)
    weights = 16 * 3.0 * (np.pi**2 * (k[:, None] ** 2 + k**2) + 9) ** -1.0
    weights[0, 0] = 0.0
    samples = torch.stack([WallRandomField().sample(1, i, (16, 16)) for i in range(3000)])
    orthonormal = scipy.fft.dctn(samples.numpy(), axes=(1, 2), norm="ortho")[:, :4, :4]
    np.testing.assert_allclose(np.square(orthonormal).mean(0), weights**2, rtol=0.12, atol=1e-25)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianRandomField(amplitude=-1.0), "amplitude of the random field is -1.0"),
        (lambda: WallRandomField(amplitude="pino"), "belongs to a half spectrum"),
        (lambda: WallRandomField(tau=0.0), "must both be positive"),
    ],
)
def test_what_is_no_random_field_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
