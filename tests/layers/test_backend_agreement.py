"""All routes of a spectral convolution give the same numbers, on any grid and for any modes that it carries."""

import math

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pdesurrogate.fields.fourier import kept_shape
from pdesurrogate.layers import available_backends, spectral_conv

LARGEST = {1: 40, 2: 14, 3: 7}
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


@st.composite
def convolutions(draw):
    """Any grid of one to three axes, modes up to Nyquist, boundaries, grid to evaluate on, channels and batch."""
    ndim = draw(st.integers(1, 3))
    sizes = st.integers(1, LARGEST[ndim])
    grid = tuple(draw(sizes) for _ in range(ndim))
    num_modes = tuple(draw(st.integers(1, n)) for n in grid)
    out_grid = draw(st.sampled_from([grid, tuple(n + draw(st.integers(0, 5)) for n in num_modes)]))
    periodic = ("periodic",) * ndim
    boundaries = draw(
        st.sampled_from([periodic, tuple(draw(st.sampled_from(["periodic", "wall"])) for _ in grid)])
    )
    channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return grid, num_modes, boundaries, out_grid, channels, draw(st.integers(1, 3)), draw(st.booleans())


def outcome(backend, tensors, direction, **options):
    """The convolution, and the gradients of its product with a direction with respect to everything."""
    inputs = [t.clone().requires_grad_() for t in tensors]
    u, weight, *base = inputs
    v = spectral_conv(u, weight, backend=backend, base=base[0] if base else None, **options)
    return [v.detach(), *torch.autograd.grad(v, inputs, direction)]


@settings(max_examples=120)
@example(((8, 8), (8, 8), ("periodic", "periodic"), (8, 8), (2, 3), 2, True), torch.float32)
@example(((9, 6, 7), (9, 6, 7), ("periodic",) * 3, (12, 6, 9), (2, 2), 1, False), torch.float64)
@example(((6, 7), (6, 7), ("wall", "periodic"), (6, 7), (2, 2), 2, True), torch.float64)
@given(convolutions(), st.sampled_from(list(TOLERANCES)))
def test_all_backends_agree_in_value_and_in_every_gradient(convolution, dtype):
    grid, num_modes, boundaries, out_grid, (in_channels, out_channels), batch, with_base = convolution
    generator = torch.Generator().manual_seed(math.prod(grid) + in_channels)

    def layout(size, channels):
        return torch.randn(batch, size[-1], *size[:-1], channels, generator=generator, dtype=dtype)

    planes = 1 + ("periodic" in boundaries)
    shape = math.prod(kept_shape(num_modes, boundaries)), in_channels, out_channels, planes
    tensors = [layout(grid, in_channels), torch.randn(shape, generator=generator, dtype=dtype)]
    tensors += [layout(out_grid, out_channels)] if with_base else []
    direction = layout(out_grid, out_channels)
    options = {"num_modes": num_modes, "boundaries": boundaries, "out_grid": out_grid}
    exact = outcome("reference", [t.double() for t in tensors], direction.double(), **options)
    for backend in available_backends(torch.device("cpu"), dtype, len(grid), boundaries):
        for found, expected in zip(outcome(backend, tensors, direction, **options), exact, strict=True):
            assert found.dtype == dtype
            error, largest = float((found - expected).abs().max()), float(expected.abs().max())
            assert error <= TOLERANCES[dtype] * largest, (backend, error / largest)
