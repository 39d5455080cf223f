"""Energy by scale: which scales a prediction gets right, and how much energy it gives them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from .norms import check_shapes
from .scales import bands_of, energies_by_band


@dataclass(frozen=True)
class Spectra:
    """Mean square per radial band of target, prediction and error, float64.

    Bands are those of `bands_of`: complete shells, then one bin with the corners of the spectral box; on a sphere
    degrees, then one bin with what lies beyond. The bands of each spectrum add up to the mean over space of the square
    of the field; the components of a vector are added.

    Attributes:
        wavenumber: middle of each complete shell in radians per unit length, or the degree; the last bin has none.
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
    """Return the spectra of target, prediction and error.

    ``E_b = Σ_{κ in band b} |û(κ)|²``, over waves of a box, cosines along axes with ends, or harmonics of a degree. A
    prediction with the right energy in a band and an error as large as twice that energy has decorrelated there:
    ``|p̂ - t̂|² = |p̂|² + |t̂|² - 2 Re p̂ t̂*``.

    Raises:
        ValueError: if the shapes differ, or for latitudes that follow no rule.
    """
    check_shapes(prediction, target, spec)
    bands = bands_of(spec, target.shape[3:], centred=True)
    spectra = (energies_by_band(u, spec, centred=True) for u in (target, prediction, prediction - target))
    return Spectra(bands.centres.to(target.device), *spectra)


def has_spectrum(spec: DataSpec) -> bool:
    """Return whether fields are sums of waves: on a periodic box."""
    return spec.is_periodic and spec.geometry == "plane"


def require_spectrum(prediction: Tensor, target: Tensor, spec: DataSpec) -> None:
    """Refuse fields that are no sums of waves, or not of one shape.

    At an end that is not periodic the Fourier series jumps, and the jump's ``1/κ`` tail would pass for small scales.

    Raises:
        ValueError: naming the boundaries, or both shapes.
    """
    if not has_spectrum(spec):
        raise ValueError(
            f"a spectrum of waves needs a periodic box; the axes {spec.axis_names} of this {spec.geometry} "
            f"have the boundaries {spec.boundaries}."
        )
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have one shape."
        )
