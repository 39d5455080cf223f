"""Fields as images inside the page: truth, prediction and error of a case on one colour scale."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..fields import DataSpec
from ..metrics.magnification import error_magnification
from .cases import Case
from .charts import plain_number
from .film import film
from .typography import counted, error_text

_LARGEST = 160  # pixels along an axis; more only makes the page heavy


@dataclass(frozen=True)
class ColourScale:
    """From a value to a colour: diverging around 0 where signs mean something, sequential elsewhere."""

    low: float
    high: float
    colours: str

    @classmethod
    def of(cls, truth: Tensor) -> ColourScale:
        """Return the scale of a truth: symmetric if it takes both signs."""
        low, high = float(truth.min()), float(truth.max())
        if low < 0 < high:
            limit = max(-low, high)
            return cls(-limit, limit, "RdBu_r")
        return cls(low, high if high > low else low + 1, "viridis")

    @property
    def is_symmetric(self) -> bool:
        """Whether 0 is in the middle."""
        return self.low == -self.high

    def png(self, image: np.ndarray) -> str:
        """Return an image ``(rows, columns)``, first row at the bottom, as a data URI."""
        from matplotlib.image import imsave

        buffer = io.BytesIO()
        values = np.nan_to_num(image, nan=self.high, posinf=self.high, neginf=self.low)
        imsave(buffer, values, vmin=self.low, vmax=self.high, cmap=self.colours, origin="lower", format="png")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def bar(self, units: str) -> str:
        """Return a colour bar with its numbers."""
        strip = self.png(np.linspace(self.low, self.high, 128)[None])
        unit = "" if units == "1" else f" {html.escape(units)}"
        return (
            f'<p class="bar"><span>{plain_number(self.low)}</span><img alt="colour scale" src="{strip}">'
            f"<span>{plain_number(self.high)}{unit}</span></p>"
        )


def fields_figure(cases: Sequence[Case], channel: int, spec: DataSpec) -> str:
    """Return the pictures of one channel for all cases as HTML.

    Truth and prediction share the colour scale of the truth, and so do the errors where it is symmetric;
    else they get a symmetric one of the same width. Errors of a good model would be blank on it, so they are
    multiplied by one round factor for the whole figure, and the name of their row says so.
    """
    truth = torch.cat([case.truth[:, channel].flatten() for case in cases])
    errors = torch.cat([(case.prediction - case.truth)[:, channel].flatten() for case in cases])
    finite = errors[errors.isfinite()]
    scale = ColourScale.of(truth)
    width = scale.high - scale.low
    error_scale = scale if scale.is_symmetric else ColourScale(-width, width, "RdBu_r")
    factor = error_magnification(float(finite.abs().max()) if len(finite) else math.inf, error_scale.high)
    blocks = [_case(case, channel, spec, (scale, error_scale), factor) for case in cases]
    bars = [scale.bar(spec.channel_units[channel])]
    if not scale.is_symmetric:
        bars.append(error_scale.bar(spec.channel_units[channel]))
    return "".join(blocks) + "".join(bars)


def _case(
    case: Case, channel: int, spec: DataSpec, scales: tuple[ColourScale, ColourScale], factor: int
) -> str:
    def rows_of(truth: Tensor, prediction: Tensor) -> tuple[tuple[str, Tensor, ColourScale], ...]:
        return (
            ("Truth", truth, scales[0]),
            ("Prediction", prediction, scales[0]),
            (f"Error × {factor}" if factor > 1 else "Error", factor * (prediction - truth), scales[1]),
        )

    rows = rows_of(case.truth[:, channel], case.prediction[:, channel])
    unit = "" if spec.time_units == "1" else f" {spec.time_units}"
    head = "".join(f'<th scope="col">t + {plain_number(n * spec.dt)}{unit}</th>' for n in case.leads)
    body = []
    for name, images, scale in rows:
        alt = f"{name}, {case.rank} case, after "
        cells = "".join(
            _image(alt + counted(n, "frame"), scale.png(_flat(image)))
            for n, image in zip(case.leads, images, strict=True)
        )
        body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        f'<table class="fields"><caption><b>{case.rank.capitalize()} case</b>: test trajectory '
        f"{case.trajectory}, rollout error {error_text(case.error, undefined=case.undefined)}</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        + (_film(case, channel, spec, rows_of) if len(case.film_leads) > 1 else "")
    )


def _film(
    case: Case,
    channel: int,
    spec: DataSpec,
    rows_of: Callable[[Tensor, Tensor], Sequence[tuple[str, Tensor, ColourScale]]],
) -> str:
    rows = [
        (name, as_pictures(frames), scale)
        for name, frames, scale in rows_of(case.film_truth[:, channel], case.film_prediction[:, channel])
    ]
    return film(case, channel, spec, rows, spec.channel_names[channel])


def _image(alt: str, source: str) -> str:
    return f'<td><img alt="{alt}" src="{source}"></td>'


def _flat(field: Tensor) -> np.ndarray:
    """Return a picture of a field: itself in 2-D, its middle section in 3-D, a strip in 1-D."""
    field = as_pictures(field[None])[0]
    steps = tuple(slice(None, None, math.ceil(n / _LARGEST)) for n in field.shape)
    return np.asarray(field[steps])


def as_pictures(frames: Tensor) -> Tensor:
    """Return fields ``(lead, *space)`` as pictures ``(lead, y, x)``."""
    if frames.ndim == 2:
        frames = frames[:, None].expand(-1, max(1, frames.shape[-1] // 8), -1)
    while frames.ndim > 3:
        frames = frames[:, frames.shape[1] // 2]
    return frames
