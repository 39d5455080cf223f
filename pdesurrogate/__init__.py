"""pdesurrogate: neural-operator surrogates of PDE solvers, from simulation to trusted forecast.

Importing the package imports nothing heavy; the public names below are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .fields import Axis, Batch, DataSpec, Field, Normaliser, Parameter
    from .surrogate import Surrogate

_HOMES = {
    "Axis": ".fields",
    "Batch": ".fields",
    "DataSpec": ".fields",
    "Field": ".fields",
    "Normaliser": ".fields",
    "Parameter": ".fields",
    "Surrogate": ".surrogate",
}

__all__ = [
    "Axis",
    "Batch",
    "DataSpec",
    "Field",
    "Normaliser",
    "Parameter",
    "Surrogate",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
