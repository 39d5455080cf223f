"""``results.nc``: every error of every contender, by grid, trajectory, lead time and field, as xarray opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..version import __version__
from .results import Evaluation


def to_dataset(evaluation: Evaluation) -> Any:
    """Return all errors as an ``xarray.Dataset``.

    Variables are ``rollout_METRIC`` over ``(model, grid, trajectory, lead, field)`` and ``one_step_METRIC`` over
    ``(model, grid, trajectory, start, field)``; NaN where a contender has no row, infinite where it diverged.
    """
    import xarray

    models = [c.label for c in evaluation.contenders]
    grids = ["x".join(map(str, grid)) for grid in evaluation.grids]
    tables = evaluation.headline
    variables: dict[str, Any] = {}
    for protocol, axis in (("rollout", "lead"), ("one_step", "start")):
        for metric, table in getattr(tables, protocol).items():
            values = np.full((len(models), len(grids), *table.values.shape), np.nan)
            for i, contender in enumerate(evaluation.contenders):
                for j, grid in enumerate(evaluation.grids):
                    found = getattr(evaluation.score(contender, grid), protocol).get(metric)
                    if found is not None:
                        values[i, j] = found.values.numpy()
            dims = ("model", "grid", "trajectory", axis, "field")
            variables[f"{protocol}_{metric}"] = (dims, values, {"units": "1"})
    fields = [f.name for f in evaluation.spec.forecast_fields]
    rollout, one_step = (getattr(tables, name)["relative_l2"] for name in ("rollout", "one_step"))
    coordinates = {
        "model": models,
        "grid": grids,
        "trajectory": rollout.samples,
        "lead": (
            "lead",
            evaluation.lead_times,
            {"units": evaluation.spec.time_units, "long_name": "lead time"},
        ),
        "start": (
            "start",
            np.arange(one_step.values.shape[1]),
            {"long_name": "number of the true window, from the first"},
        ),
        "field": fields,
    }
    attributes = {
        "title": f"Errors of {evaluation.main.label}",
        "equation": evaluation.spec.equation,
        "training_grid": "x".join(map(str, evaluation.training_grid)),
        "pdesurrogate_version": __version__,
    }
    return xarray.Dataset(variables, coordinates, attributes)


def write_samples(evaluation: Evaluation, path: Path) -> None:
    """Write `to_dataset` as netCDF-4."""
    to_dataset(evaluation).to_netcdf(path, engine="h5netcdf")
