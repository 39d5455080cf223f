"""What an evaluation shows besides tables: rollouts as films, errors by scale and by grid as curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..metrics.magnification import error_magnification
from .cases import Case
from .pictures import ColourScale, as_pictures
from .results import HEADLINE, Estimate, Evaluation
from .scales_section import scale_label

_FRAMES_PER_SECOND = 4
_PIXELS = 160  # of the shorter side of a frame, at least; single points are too small to look at


@dataclass(frozen=True)
class Curves:
    """Curves over a common axis.

    Attributes:
        title: what they show.
        axis: name of what lies along it, with its unit.
        x: along the axis.
        y: values of each curve by its name.
    """

    title: str
    axis: str
    x: Sequence[float]
    y: Mapping[str, Sequence[float]]


def write_films(evaluation: Evaluation, folder: Path) -> dict[str, Path]:
    """Write a GIF of truth, prediction and error side by side for every case and field; return them by name."""
    spec, films = evaluation.spec, {}
    shown = [channel for channel, static in enumerate(spec.static_channels) if not static]
    for case in evaluation.cases:
        for channel in shown if len(case.film_leads) > 1 else ():
            name = f"rollout/{case.rank}/{spec.channel_names[channel]}"
            films[name] = folder / f"{name.replace('/', '_')}.gif"
            _write_gif(_screens(case, channel), films[name])
    return films


def error_curves(evaluation: Evaluation) -> dict[str, Curves]:
    """Return the errors of all contenders by name: over the points of the grids, and of each field by scale."""
    curves = {"resolution/rollout": _by_grid(evaluation)} if len(evaluation.grids) > 1 else {}
    for index, field in enumerate(evaluation.spec.forecast_fields):
        values, axis = {}, []
        for contender in evaluation.contenders:
            errors = evaluation.score(contender, evaluation.training_grid).spectral_errors
            if errors is not None:
                axis = errors.wavenumber.tolist()
                values[contender.label] = errors.nmse[index, : len(axis)].tolist()
        if values:
            title = f"{field.name}: squared error by scale, as a share of the energy of the truth"
            curves[f"spectrum/nmse/{field.name}"] = Curves(title, scale_label(evaluation), axis, values)
    return curves


def _by_grid(evaluation: Evaluation) -> Curves:
    points = [math.prod(grid) for grid in evaluation.grids]
    values = {
        contender.label: [
            math.nan if score.refused else Estimate.of(score.rollout[HEADLINE]).mean
            for score in (evaluation.score(contender, grid) for grid in evaluation.grids)
        ]
        for contender in evaluation.contenders
    }
    return Curves("Relative L2 error of rollouts by grid", "points", points, values)


def _screens(case: Case, channel: int) -> np.ndarray:
    """Return the frames ``(lead, y, x, colour)`` of a film, first row at the top."""
    truth, prediction = (as_pictures(f[:, channel]) for f in (case.film_truth, case.film_prediction))
    scale = ColourScale.of(truth)
    width = scale.high if scale.is_symmetric else scale.high - scale.low
    error = prediction - truth
    finite = error[error.isfinite()]
    factor = error_magnification(float(finite.abs().max()) if len(finite) else math.inf, width)
    errors = ColourScale(-width, width, "RdBu_r")
    screens = [_coloured(truth, scale), _coloured(prediction, scale), _coloured(factor * error, errors)]
    gap = np.full((*screens[0].shape[:2], 1, 3), 255, np.uint8)
    joined = np.concatenate([screens[0], gap, screens[1], gap, screens[2]], axis=2)[:, ::-1]
    enlarge = max(1, -(-_PIXELS // min(truth.shape[1:])))
    return joined.repeat(enlarge, axis=1).repeat(enlarge, axis=2)


def _coloured(frames: Tensor, scale: ColourScale) -> np.ndarray:
    import matplotlib

    values = (
        torch.nan_to_num(frames, nan=scale.high, posinf=scale.high, neginf=scale.low).double().cpu().numpy()
    )
    shares = ((values - scale.low) / (scale.high - scale.low)).clip(0, 1)
    colours: np.ndarray = matplotlib.colormaps[scale.colours](shares, bytes=True)[..., :3]
    return colours


def _write_gif(screens: np.ndarray, path: Path) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(screen) for screen in screens)
    pause = round(1000 / _FRAMES_PER_SECOND)
    first.save(path, save_all=True, append_images=others, duration=pause, loop=0)
