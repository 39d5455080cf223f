"""A rollout as a film with a slider: truth, prediction and error of one case, frame by frame.

The frames of a row lie side by side in one image, of which the page shows a window. Without the script of the page the
first frame is shown; with it, the slider (arrow keys too) and a button move all rows together.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..fields import DataSpec
from .cases import Case
from .charts import plain_number

if TYPE_CHECKING:
    from .pictures import ColourScale

_LARGEST = 72  # pixels along an axis of a frame

SCRIPT = """
for (const film of document.querySelectorAll(".film")) {
  const slider = film.querySelector("input"), button = film.querySelector("button");
  const time = film.querySelector("output"), times = JSON.parse(slider.dataset.times);
  let timer = 0;
  const show = () => {
    film.style.setProperty("--frame", slider.value);
    time.textContent = times[slider.value];
    slider.setAttribute("aria-valuetext", times[slider.value]);
  };
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    button.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = (Number(slider.value) + 1) % times.length;
      show();
    }, 250);
  });
  film.classList.add("ready");
  show();
}
"""
"""Moves the films; the only script of a page, and the same in every page."""


def film(
    case: Case, channel: int, spec: DataSpec, rows: Sequence[tuple[str, Tensor, ColourScale]], name: str
) -> str:
    """Return a film as HTML.

    Args:
        case: whose frames they are.
        channel: which channel, for identifiers.
        spec: of the data.
        rows: name, frames ``(lead, y, x)`` and colour scale of each row.
        name: what it shows, for people who do not see it.
    """
    unit = "" if spec.time_units == "1" else f" {spec.time_units}"
    times = [f"t + {plain_number(n * spec.dt)}{unit}" for n in case.film_leads]
    label = html.escape(f"{name}, {case.rank} case")
    cells = []
    for title, frames, scale in rows:
        strip = np.concatenate([_small(frame) for frame in frames], axis=1)
        height, width = _small(frames[0]).shape
        title = html.escape(title)
        cells.append(
            f'<div><span>{title}</span><div class="window" style="aspect-ratio:{width}/{height};'
            f'--frames:{len(times)}"><img alt="{title} of {label}, all frames" src="{scale.png(strip)}"></div></div>'
        )
    identifier = f"film-{case.rank}-{channel}"
    return (
        f'<div class="film" role="group" aria-label="Film of {label}"><div class="screens">{"".join(cells)}</div>'
        f'<div class="controls"><button type="button">Play</button><label for="{identifier}">lead time</label>'
        f'<input type="range" id="{identifier}" min="0" max="{len(times) - 1}" value="0" step="1" '
        f"data-times='{html.escape(json.dumps(times, ensure_ascii=False))}'>"
        f'<output for="{identifier}">{html.escape(times[0])}</output></div></div>'
    )


def _small(frame: Tensor) -> np.ndarray:
    steps = tuple(slice(None, None, math.ceil(n / _LARGEST)) for n in frame.shape)
    return np.asarray(frame[steps])
