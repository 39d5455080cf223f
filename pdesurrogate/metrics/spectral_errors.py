"""Errors by scale: which wavenumbers the error sits in, and which wavenumbers are not learned.

With ``û`` the Fourier coefficients of a field, ``r = p - t`` the error and the bands of width one in wavenumber (of
cosines along axes with ends, on a sphere degrees of harmonics, see `pdesurrogate.metrics.scales`),

    e_b = Σ_{κ in b} |r̂|² / Σ_κ |t̂|²                 where the error sits; Σ_b e_b = ‖r‖² / ‖t‖² (Parseval)
    ρ_b = Σ_i Σ_{κ in b} |r̂_i|² / Σ_i Σ_{κ in b} |t̂_i|²   what is not learned; 1 for a prediction of zero.

Qin et al. 2024, "Toward a Better Understanding of Fourier Neural Operators from a Spectral Perspective",
arXiv:2404.07200. Fields have to be in physical units: a normalisation that differs from field to field changes ``e_b``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.fourier import mode_energies
from .norms import check_shapes, field_slices
from .scales import bands_of, energies_by_band
from .spectra import require_spectrum

ROUNDING = 1e-10
"""Share of the energy below which a band holds rounding of single precision."""

RANGES = ("low", "middle", "high")
PDEBENCH_RANGES = {"low": (0, 4), "middle": (5, 12), "high": (13, None)}


def energy_spectrum(
    u: Float[Tensor, "batch time channel *space"], spec: DataSpec
) -> Float[Tensor, "batch time field bands"]:
    """Return the mean square of each field in the bands ``b <= |κ| L/2π < b + 1``, then in the corners; float64.

    ``L`` is the longest side of the box. Energies are summed over a band, not averaged, so that the bands add up to
    the mean square of the field; static fields are left out.

    Raises:
        ValueError: if the fields are not the spec's.
    """
    return energies_by_band(u, spec, centred=False)


def nmse_spectrum(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field bands"]:
    """Return ``e_b`` of each sample, time and field; the sum over bands is the squared relative L2 error.

    Raises:
        ValueError: if the shapes differ.
    """
    check_shapes(prediction, target, spec)
    return energy_spectrum(prediction - target, spec) / energy_spectrum(target, spec).sum(-1, keepdim=True)


def band_ranges(grid: Sequence[int], spec: DataSpec) -> dict[str, slice]:
    """Return the bands of low, middle and high wavenumbers: up to 1/4 and 3/4 of the grid's largest, and beyond.

    On 64 points these are the landmarks 8 and 24 of Qin et al.; the last band is among the high ones.
    """
    complete = bands_of(spec, grid, centred=False).num_complete
    low, high = -(-complete // 4), -(-3 * complete // 4)
    return {"low": slice(0, low), "middle": slice(low, high), "high": slice(high, None)}


def energy_by_range(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field range"]:
    """Return the energy of the prediction over that of the target in the three `band_ranges`.

    1 is right, whatever the phases. How it drifts from 1 with lead time says which scales a rollout damps or feeds.
    Infinite where the target has no energy; 1 where neither has.

    Raises:
        ValueError: if the shapes differ.
    """
    check_shapes(prediction, target, spec)
    ranges = band_ranges(target.shape[3:], spec).values()
    sums = [
        torch.stack([energies[..., part].sum(-1) for part in ranges], dim=-1)
        for energies in (energy_spectrum(prediction, spec), energy_spectrum(target, spec))
    ]
    return torch.where(sums[0] == sums[1], 1.0, sums[0] / sums[1])


def pdebench_frmse(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> dict[str, Float[Tensor, "batch time field"]]:
    """Return PDEBench's fRMSE, ``(Σ_{k in range} |r̂_k|²)^½ / number of bands``, of three ranges of wavenumbers.

    The ranges are 0 to 4, 5 to 12 and 13 upwards on every grid, unlike `band_ranges`. Takamoto et al. 2022,
    arXiv:2210.07182, section 4, whose amplitudes carry the factor of our forward transform; the corners are left out.

    Raises:
        ValueError: if the box is not periodic, or the shapes differ.
    """
    require_spectrum(prediction, target, spec)
    energies = energy_spectrum(prediction - target, spec)[..., :-1]
    found = {}
    for name, (first, last) in PDEBENCH_RANGES.items():
        part = energies[..., first : None if last is None else last + 1]
        found[name] = part.sum(-1).sqrt() / max(part.shape[-1], 1)
    return found


@dataclass(frozen=True)
class DominantModes:
    """The fewest modes that hold a share of the targets' energy, by field; the rest are the non-dominant ones.

    They are chosen on the targets of training, and never on those that a model is judged by. Per field, modes of the
    half spectrum are sorted by ``A_k = Σ w_k |t̂_k|²``, where ``w_k`` counts the complex conjugate, and the shortest
    beginning with at least the share is taken.

    Attributes:
        grid: points along each axis.
        share: of the energy.
        mask: which modes of the half spectrum are dominant, for each field.
    """

    grid: tuple[int, ...]
    share: float
    mask: Bool[Tensor, "field *modes"]

    @classmethod
    def of(
        cls, energies: Float[Tensor, "field *modes"], grid: Sequence[int], share: float = 0.99
    ) -> DominantModes:
        """Choose the modes by the energies that `modes_of_fields` returns, added over a calibration set.

        Raises:
            ValueError: if the share is not between 0 and 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"the share of the dominant modes is {share}; it lies between 0 and 1.")
        flat = energies.flatten(1)
        ordered, order = flat.sort(dim=1, descending=True)
        before = ordered.cumsum(1) - ordered
        chosen = before < share * ordered.sum(1, keepdim=True) * (1 - 1e-12)
        mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, chosen)
        return cls(tuple(grid), share, mask.view_as(energies))

    def to_dict(self) -> dict[str, Any]:
        """Return plain types: the places of the dominant modes in the flattened half spectrum."""
        places = [torch.nonzero(row).flatten().tolist() for row in self.mask.flatten(1)]
        return {
            "grid": list(self.grid),
            "share": self.share,
            "places": places,
            "shape": list(self.mask.shape[1:]),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DominantModes:
        """Return what `to_dict` described."""
        mask = torch.zeros(len(content["places"]), *content["shape"], dtype=torch.bool)
        for row, places in zip(mask.flatten(1), content["places"], strict=True):
            row[torch.tensor(places, dtype=torch.int64)] = True
        return cls(tuple(content["grid"]), content["share"], mask)


def modes_of_fields(
    u: Float[Tensor, "batch time channel *space"], spec: DataSpec
) -> Float[Tensor, "batch time field *modes"]:
    """Return ``w_k |û_k|²`` of every mode of the half spectrum, components of a vector added; float64."""
    energies = mode_energies(u, spec.ndim)
    return torch.stack([energies[:, :, part].sum(2) for part in field_slices(spec)], dim=2)


class SpectralErrors:
    """Spectral errors of many predictions, added up batch by batch and reduced on reading.

    Args:
        grid: points along each axis of all predictions.
        spec: of the fields.
        dominant: modes by which the error is split in two; None for no split.

    Attributes:
        wavenumber: middle of each complete band in radians per unit length, or the degree; the last band has none.
        energies: mean squares of the errors and of the targets by field and band, added up.
        count: samples and times that were added.

    Raises:
        ValueError: if the dominant modes were chosen on another grid.
    """

    def __init__(self, grid: Sequence[int], spec: DataSpec, dominant: DominantModes | None = None) -> None:
        if dominant is not None and dominant.grid != tuple(grid):
            raise ValueError(
                f"the dominant modes are those of the grid {dominant.grid} and the fields are on {tuple(grid)}."
            )
        self.spec, self.grid = spec, tuple(grid)
        bands = bands_of(spec, grid, centred=False)
        shape = (len(field_slices(spec)), bands.num_bands)
        self.wavenumber: Tensor = bands.centres
        self.dominant = dominant
        self._nmse = torch.zeros(shape, dtype=torch.float64)
        self.energies = torch.zeros(2, *shape, dtype=torch.float64)  # of the error and of the target
        self._split = torch.zeros(2, 2, shape[0], dtype=torch.float64)  # the same of (dominant, others)
        self.count = 0

    def add(
        self,
        prediction: Float[Tensor, "batch time channel *space"],
        target: Float[Tensor, "batch time channel *space"],
    ) -> None:
        """Add predictions.

        Raises:
            ValueError: if the shapes differ.
        """
        check_shapes(prediction, target, self.spec)
        error, energy = (energy_spectrum(u, self.spec).cpu() for u in (prediction - target, target))
        self._nmse += (error / energy.sum(-1, keepdim=True)).flatten(0, 1).sum(0)
        self.energies += torch.stack([error.flatten(0, 1).sum(0), energy.flatten(0, 1).sum(0)])
        self.count += error.shape[0] * error.shape[1]
        if self.dominant is not None:
            for row, u in enumerate((prediction - target, target)):
                modes = modes_of_fields(u, self.spec).flatten(0, 1).sum(0).cpu()
                for column, mask in enumerate((self.dominant.mask, ~self.dominant.mask)):
                    self._split[row, column] += (modes * mask).flatten(1).sum(1)

    @property
    def nmse(self) -> Float[Tensor, "field bands"]:
        """``e_b``, mean over samples and times."""
        return self._nmse / self.count

    @property
    def relative(self) -> Float[Tensor, "field bands"]:
        """``ρ_b``, pooled over samples and times; NaN where the targets have no energy."""
        return self.energies[0] / self.energies[1]

    @property
    def has_energy(self) -> Bool[Tensor, "field band"]:
        """Where the truth has more than rounding, such as that of the mean of a vorticity."""
        truth = self.energies[1]
        return truth > ROUNDING * truth.sum(-1, keepdim=True)

    @property
    def by_range(self) -> dict[str, dict[str, Float[Tensor, " field"]]]:
        """``nmse`` and ``relative`` of low, middle and high wavenumbers, see `band_ranges`."""
        ranges = band_ranges(self.grid, self.spec)
        sums = {name: self.energies[..., part].sum(-1) for name, part in ranges.items()}
        return {
            "nmse": {name: self.nmse[:, part].sum(-1) for name, part in ranges.items()},
            "relative": {name: error / energy for name, (error, energy) in sums.items()},
        }

    @property
    def split(self) -> dict[str, Float[Tensor, " field"]]:
        """Relative squared error of the ``dominant`` modes and of the ``others``; empty if there is no split."""
        if self.dominant is None:
            return {}
        dominant, others = (self._split[0] / self._split[1]).unbind(0)
        return {"dominant": dominant, "non_dominant": others}
