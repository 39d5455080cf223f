"""Distances between fields: functions ``(prediction, target, spec) -> (sample, lead time, field)``.

A metric is never reduced silently: it returns one number per sample, lead time and field. `MetricTable`
keeps these numbers and forms means and intervals where somebody asks for them. Every registered metric is
dimensionless and 0 for a perfect prediction.
"""

from ..registry import Registry

METRICS: Registry = Registry("metric", "pdesurrogate.metrics")

from .norms import field_slices, h1, relative_l2, vrmse  # noqa: E402  (they register themselves above)
from .spectra import Spectra, error_spectrum  # noqa: E402
from .table import MetricTable  # noqa: E402

__all__ = [
    "METRICS",
    "MetricTable",
    "Spectra",
    "error_spectrum",
    "field_slices",
    "h1",
    "relative_l2",
    "vrmse",
]
