"""Distances between fields: functions ``(prediction, target, spec) -> (sample, lead time, field)``.

A metric is never reduced silently: it returns one number per sample, lead time and field. `MetricTable`
keeps these numbers and forms means and intervals where somebody asks for them. Every registered metric is
dimensionless and 0 for a perfect prediction.

What is no distance has a module of its own: `balances` (mass, energy, enstrophy, divergence), `spectra` and
`spectral_errors` (by wavenumber), `stability` (for how long a rollout can be used), `ensembles` (spread and skill).
"""

from ..registry import Registry

METRICS: Registry = Registry("metric", "pdesurrogate.metrics")

from .norms import field_slices, h1, relative_l2, vrmse  # noqa: E402  (they register themselves above)
from .pointwise import boundary_error, relative_l1, relative_max  # noqa: E402
from .spectra import Spectra, error_spectrum  # noqa: E402
from .stability import decorrelation  # noqa: E402
from .table import MetricTable  # noqa: E402

__all__ = [
    "METRICS",
    "MetricTable",
    "Spectra",
    "boundary_error",
    "decorrelation",
    "error_spectrum",
    "field_slices",
    "h1",
    "relative_l1",
    "relative_l2",
    "relative_max",
    "vrmse",
]
