"""Numbers of torch-harmonics 0.9.3, an independent implementation of transforms and layers on the sphere.

`torch_harmonics.npz` holds random fields in hundredths (int16) and what torch-harmonics 0.9.3 (PyTorch 2.13, CPU) made
of them, in float32: ``RealSHT`` in float64 on 8 x 16 Legendre-Gauss and 9 x 16 equiangular points, 8 and 5 degrees;
``SpectralConvS2`` from 2 to 3 channels on the first grid, its own random complex weights beside; and
``DiscreteContinuousConvS2`` in float64 with 2 channels, ``kernel_shape=(3, 4)``, the piecewise linear basis,
``basis_norm_mode="nodal"``, no bias and ``theta_cutoff=0.8``, on 10 x 20 Legendre-Gauss and 9 x 16 equiangular points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.layers import SphericalConv, SphericalDisco

WIDENED = 1.001
"""torch-harmonics stretches filters by a thousandth, so that points just at the cutoff do not matter."""


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).with_name("torch_harmonics.npz"), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def field(theirs, name):
    return theirs[name].double() / 100


@pytest.mark.parametrize(
    ("name", "grid"), [("gauss", SphericalGrid(8, 16)), ("equiangular", SphericalGrid(9, 16, "equiangular"))]
)
def test_coefficients_of_spherical_harmonics_agree(theirs, name, grid):
    expected = torch.complex(*theirs[f"spectrum_{name}"].double())
    found = SphericalTransform(grid, len(expected) - 1, dtype=torch.float64).analyse(
        field(theirs, f"field_{name}")
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_spectral_layer_agrees(theirs):
    weight = theirs["conv_weight"][:, 0]  # (plane, in, out, degree)
    conv = SphericalConv(2, 3, weight.shape[-1] - 1, isotropic=False).double()
    conv.weight.data = weight.permute(3, 1, 2, 0).double()
    found = conv(field(theirs, "conv_input").permute(0, 3, 2, 1), SphericalGrid(8, 16)).permute(0, 3, 2, 1)
    torch.testing.assert_close(found.float(), theirs["conv_output"], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "grid"),
    [("rings_and_angles", SphericalGrid(10, 20)), ("with_poles", SphericalGrid(9, 16, "equiangular"))],
)
def test_the_local_integral_operator_agrees_up_to_the_poles(theirs, name, grid):
    disco = SphericalDisco(2, 2, 0.8 * WIDENED, basis_shape=(3, 4)).double()
    disco.weight.data = theirs[f"disco_{name}_weight"].permute(2, 1, 0).double().contiguous()
    found = disco(field(theirs, f"disco_{name}_input").permute(0, 3, 2, 1), grid).permute(0, 3, 2, 1)
    torch.testing.assert_close(found.float(), theirs[f"disco_{name}_output"], rtol=0, atol=1e-6)
