"""Energy by wavenumber: which scales a prediction gets right, and how much energy it gives them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.fourier import RadialBands
from .norms import field_slices


@dataclass(frozen=True)
class Spectra:
    """Mean square per radial band of target, prediction and error, float64.

    Bands are those of `RadialBands`: complete shells, then one bin with the corners of the spectral box.
    The bands of each spectrum add up to the mean over space of the square of the field; the components of
    a vector are added.

    Attributes:
        wavenumber: middle of each complete shell in radians per unit length; the corner bin has none.
        target, prediction, error: the spectra of ``t``, ``p`` and ``p - t``.
    """

    wavenumber: Float[Tensor, " complete"]
    target: Float[Tensor, "batch time field bands"]
    prediction: Float[Tensor, "batch time field bands"]
    error: Float[Tensor, "batch time field bands"]


def error_spectrum(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Spectra:
    """Return the radial spectra of target, prediction and error on a periodic box.

    ``E_b = Σ_{κ in band b} |û(κ)|²``. A prediction with the right energy in a band and an error as large
    as twice that energy has decorrelated there: ``|p̂ - t̂|² = |p̂|² + |t̂|² - 2 Re p̂ t̂*``.

    Raises:
        ValueError: if an axis is not periodic, or the shapes differ.
    """
    require_spectrum(prediction, target, spec)
    bands = RadialBands(tuple(target.shape[3:]), spec.lengths)

    def spectrum(u: Tensor) -> Tensor:
        per_channel = bands.spectrum(u)
        return torch.stack([per_channel[:, :, part].sum(2) for part in field_slices(spec)], dim=2)

    return Spectra(
        bands.centres.to(target.device), spectrum(target), spectrum(prediction), spectrum(prediction - target)
    )


def has_spectrum(spec: DataSpec) -> bool:
    """Return whether fields have a spectrum without leakage: on a periodic box."""
    return spec.is_periodic and spec.geometry == "plane"


def require_spectrum(prediction: Tensor, target: Tensor, spec: DataSpec) -> None:
    """Refuse fields that have no radial spectrum, or are not of one shape.

    At an end that is not periodic the Fourier series jumps, and the jump's ``1/κ`` tail would pass for small scales.

    Raises:
        ValueError: naming the boundaries, or both shapes.
    """
    if not has_spectrum(spec):
        raise ValueError(
            f"a radial spectrum needs a periodic box; the axes {spec.axis_names} of this {spec.geometry} "
            f"have the boundaries {spec.boundaries}."
        )
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have one shape."
        )
