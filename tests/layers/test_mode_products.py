"""Products of kept modes with real-valued weights, on complex numbers and on real planes."""

import pytest
import torch
from jaxtyping import TypeCheckError

from pdesurrogate.layers import mode_matmul, mode_multiply

MODES, BATCH, IN, OUT = 5, 3, 4, 2


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


def spectrum(planes):
    return draw(MODES, BATCH, IN, dtype=torch.complex128 if planes == 2 else torch.float64)


def planes_of(modes):
    return torch.stack([modes.real, modes.imag]) if modes.is_complex() else modes[None]


def numbers(weight):
    return torch.complex(weight[..., 0], weight[..., 1]) if weight.shape[-1] == 2 else weight[..., 0]


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_a_matrix_a_mode_or_one_for_all_is_the_sum_over_input_channels(planes, shared):
    modes, weight = spectrum(planes), draw(*([] if shared else [MODES]), IN, OUT, planes)
    expected = torch.einsum("kbi,kio->kbo", modes, numbers(weight).expand(MODES, IN, OUT))
    torch.testing.assert_close(mode_matmul(modes, weight), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(mode_matmul(planes_of(modes), weight), planes_of(expected), rtol=0, atol=1e-14)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_a_factor_a_mode_or_one_for_all_multiplies_its_channel(planes, shared):
    modes, factors = spectrum(planes), draw(*([] if shared else [MODES]), IN, planes)
    expected = torch.einsum("kbi,ki->kbi", modes, numbers(factors).expand(MODES, IN))
    torch.testing.assert_close(mode_multiply(modes, factors), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(
        mode_multiply(planes_of(modes), factors), planes_of(expected), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("as_planes", [False, True])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("product", [mode_matmul, mode_multiply])
def test_gradients_of_first_and_second_order_are_exact(product, shared, planes, as_planes):
    modes = draw(3, 2, 2, dtype=torch.complex128 if planes == 2 else torch.float64)
    modes = (planes_of(modes) if as_planes else modes).requires_grad_()
    channels = (2, 3) if product is mode_matmul else (2,)
    weight = draw(*([] if shared else [3]), *channels, planes).requires_grad_()
    assert torch.autograd.gradcheck(product, (modes, weight))
    assert torch.autograd.gradgradcheck(product, (modes, weight))


@pytest.mark.parametrize("planes", [1, 2])
def test_the_adjoint_of_a_product_is_the_product_with_the_conjugate_transpose(planes):
    modes, weight = spectrum(planes), draw(MODES, IN, OUT, planes)
    image = draw(MODES, BATCH, OUT, dtype=modes.dtype)
    adjoint = weight.transpose(1, 2) * torch.tensor([1.0, -1.0], dtype=torch.float64)[:planes]
    one = torch.vdot(mode_matmul(modes, weight).flatten(), image.flatten())
    other = torch.vdot(modes.flatten(), mode_matmul(image, adjoint).flatten())
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["modes", "weight"])
def test_a_frozen_factor_gets_no_gradient_and_the_other_one_does(frozen):
    modes = spectrum(2).requires_grad_(frozen != "modes")
    weight = draw(MODES, IN, OUT, 2).requires_grad_(frozen != "weight")
    mode_matmul(modes, weight).abs().square().sum().backward()
    assert (modes.grad is None) == (frozen == "modes")
    assert (weight.grad is None) == (frozen == "weight")


def test_a_weight_in_half_precision_is_read_in_the_precision_of_the_spectrum():
    modes, weight = spectrum(2), draw(MODES, IN, OUT, 2).bfloat16()
    torch.testing.assert_close(mode_matmul(modes, weight), mode_matmul(modes, weight.double()))
    assert mode_multiply(modes, weight[:, :, 0]).dtype == torch.complex128


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("product", [mode_matmul, mode_multiply])
def test_weights_with_other_planes_than_the_spectrum_are_refused(product, planes):
    channels = (IN, OUT) if product is mode_matmul else (IN,)
    weight = draw(MODES, *channels, 3 - planes)
    kind = "complex" if planes == 2 else "real"
    for modes in (spectrum(planes), planes_of(spectrum(planes))):
        with pytest.raises(ValueError, match=rf"spectra are {kind} .*last axis of {planes}.*{3 - planes}\)"):
            product(modes, weight)


@pytest.mark.parametrize(
    ("product", "shape"),
    [(mode_matmul, (MODES + 1, IN, OUT, 2)), (mode_matmul, (IN, 2)), (mode_multiply, (MODES + 1, IN, 2))],
)
def test_a_weight_of_another_shape_breaks_the_annotation(product, shape):
    with pytest.raises(TypeCheckError):
        product(spectrum(2), draw(*shape))
