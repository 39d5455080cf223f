"""Layers of torch-harmonics with our weights, as functions of a field ``(batch, channel, lat, lon)``.

torch-harmonics is optional: ``pip install --target FOLDER --no-deps torch-harmonics``, of a release that loads with the
PyTorch at hand.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import torch
from torch import nn

from pdesurrogate.layers import SphericalConv, SphericalDisco

WIDENED = 1.001
"""torch-harmonics stretches filters by a thousandth beyond the cutoff that it is given."""


def find_torch_harmonics(folder: str) -> Any:
    """Return torch-harmonics, or None if it is not installed.

    Args:
        folder: of ``pip install --target``, searched after the environment's own packages; may be empty.
    """
    if folder:
        sys.path.append(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torch_harmonics")
    except ImportError:
        return None


class SpectralPeer(nn.Module):
    """Our spherical convolution as theirs writes it: transform, one product a degree, transform back."""

    def __init__(self, library: Any, conv: SphericalConv, sizes: tuple[int, int]) -> None:
        super().__init__()
        degrees = conv.max_degree + 1
        options = {"lmax": degrees, "mmax": degrees, "grid": "legendre-gauss"}
        self.forward_transform = library.RealSHT(*sizes, **options).float()
        self.inverse_transform = library.InverseRealSHT(*sizes, **options).float()
        self.weight = nn.Parameter(torch.view_as_complex(conv.weight.detach().clone()))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Return the convolved field."""
        modes = torch.einsum("bilm,lio->bolm", self.forward_transform(u), self.weight)
        return self.inverse_transform(modes)


def local_peer(library: Any, disco: SphericalDisco, sizes: tuple[int, int]) -> nn.Module:
    """Return their discrete-continuous convolution with the weights of ours."""
    functions, in_channels, out_channels = disco.weight.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer: nn.Module = library.DiscreteContinuousConvS2(
            in_channels, out_channels, in_shape=sizes, out_shape=sizes, kernel_shape=disco.basis_shape,
            basis_type="piecewise linear", basis_norm_mode="nodal", grid_in="legendre-gauss",
            grid_out="legendre-gauss", theta_cutoff=disco.cutoff / WIDENED, bias=False,
        )  # fmt: skip
    with torch.no_grad():
        peer.weight.copy_(disco.weight.permute(2, 1, 0).reshape(out_channels, in_channels, functions))  # type: ignore[operator]
    return peer


def model_peer(library: Any, name: str, sizes: tuple[int, int], **options: Any) -> nn.Module:
    """Return one of the models of their examples, ``"sfno"`` or ``"lsno"``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"{library.__name__}.examples.models.{name}")
        classes = {"sfno": "SphericalFourierNeuralOperator", "lsno": "LocalSphericalNeuralOperator"}
        return getattr(module, classes[name])(
            img_size=sizes, grid="legendre-gauss", scale_factor=1, bias=False, **options
        )
