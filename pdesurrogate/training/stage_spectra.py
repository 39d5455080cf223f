"""What a stage gets right, scale by scale, on the validation set: the analysis that boosting is argued from."""

from __future__ import annotations

from typing import Any

import torch

from ..data.datamodule import TrajectoryDataModule
from ..metrics.spectra import has_spectrum
from ..metrics.spectral_errors import DominantModes, SpectralErrors, modes_of_fields
from ..metrics.table import plain
from ..surrogate import Surrogate
from .corrections import in_batches


@torch.no_grad()
def dominant_modes(surrogate: Surrogate, data: TrajectoryDataModule) -> DominantModes | None:
    """Return the modes that hold 99 % of the energy of the training targets; None where there is no spectrum."""
    spec = surrogate.spec
    if not has_spectrum(spec):
        return None
    total: torch.Tensor | None = None
    for batch in in_batches(data.windows("train"), data.batch_size, torch.device("cpu")):
        energies = modes_of_fields(batch.future, spec).sum((0, 1))
        total = energies if total is None else total + energies
    return None if total is None else DominantModes.of(total, data.grid)


@torch.no_grad()
def stage_spectra(
    surrogate: Surrogate, data: TrajectoryDataModule, dominant: DominantModes | None, device: torch.device
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return numbers and spectra of one-step errors on the validation set; both empty where there is no spectrum.

    Numbers: ``valid/nmse/RANGE``, where the error sits, ``valid/unlearned/RANGE``, the relative squared error of a
    range of wavenumbers, and ``valid/nmse_dominant`` and ``valid/nmse_non_dominant``. Means over fields.
    """
    spec = surrogate.spec
    if not has_spectrum(spec):
        return {}, {}
    errors = SpectralErrors(data.grid, spec, dominant)
    for batch in in_batches(data.windows("valid"), data.batch_size, device):
        prediction = surrogate.step(batch.history, batch.parameters)
        errors.add(prediction, batch.future[:, : surrogate.horizon])
    ranges = errors.by_range
    numbers = {f"valid/nmse/{name}": float(v.mean()) for name, v in ranges["nmse"].items()}
    numbers |= {f"valid/unlearned/{name}": float(v.mean()) for name, v in ranges["relative"].items()}
    numbers |= {f"valid/nmse_{name}": float(v.mean()) for name, v in errors.split.items()}
    spectra = {
        "wavenumber": plain(errors.wavenumber),
        "nmse": plain(errors.nmse),
        "unlearned": plain(errors.relative),
    }
    return numbers, spectra
