"""Line charts as small inline SVG: no script, no font, colours from the page's style sheet.

Colours are CSS classes, so that one picture serves light and dark pages. A line is told apart by its
colour and by its dashes, and its points carry their numbers as tooltips.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440, 310
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 12, 50


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        label: in the legend.
        style: CSS class that sets the colour.
        x, y: its points; those that are not finite, or not positive on a logarithmic axis, are left out.
        low, high: ends of a shaded band; empty for none.
        dash: SVG dash pattern, such as ``"6 3"``; empty for a solid line.
        markers: whether points are marked.
    """

    label: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dash: str = ""
    markers: bool = False


@dataclass(frozen=True)
class Scale:
    """One axis: from data to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values beyond the ends lie beyond the frame."""
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, max(value, 1e-300)))
            if self.is_log
            else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return at least three round numbers: even ones on a linear axis, 1-2-3-5 to decades on a logarithmic one."""
        if not self.is_log or self.high / self.low < 4:  # within a factor of 4 logarithms are nearly even
            return self._even_ticks()
        every = max(1, math.ceil(math.log10(self.high / self.low) / 6))
        choices = [self._decade_ticks(digits, 1) for digits in ((1, 2, 3, 5), (1, 2, 5), (1,))]
        choices.append(self._decade_ticks((1,), every))
        ticks = next((t for t in choices if len(t) <= 7), choices[-1])
        return ticks if len(ticks) >= 3 else self._even_ticks()

    def _even_ticks(self) -> list[float]:
        for wanted in (5, 8, 12):
            step = _round_step((self.high - self.low) / wanted)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first >= 2:
                break
        return [i * step for i in range(first, last + 1)]

    def _decade_ticks(self, digits: Sequence[int], every: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        ticks = [d * 10.0**e for e in decades if e % every == 0 for d in digits]
        return [t for t in ticks if self.low * (1 - 1e-9) <= t <= self.high * (1 + 1e-9)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = True,
    y_format: Callable[[float], str] | None = None,
    y_limits: tuple[float, float] = (0.0, math.inf),
    y_include: Sequence[float] = (),
    level: float | None = None,
    mark: tuple[float, str] | None = None,
) -> str:
    """Return a figure's ``<svg>`` and its legend as HTML.

    Args:
        series: the lines.
        title: what a screen reader says, followed by the first and the last value of each line.
        x_label: under the axis, with units.
        y_label: beside the axis, with units.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is logarithmic.
        y_format: text of a tick and a tooltip; powers of ten by default.
        y_limits: values outside are cut off.
        y_include: values that the y axis reaches in any case.
        level: a position on the y axis that is drawn as a horizontal line.
        mark: a position on the x axis with a label, drawn as a vertical line.
    """
    y_format = y_format or power_of_ten
    xs = [x for s in series for x in s.x if math.isfinite(x) and (x > 0 or not log_x)]
    ys = [y for s in series for y in (*s.y, *s.low, *s.high) if math.isfinite(y) and (y > 0 or not log_y)]
    ys = [min(max(y, y_limits[0]), y_limits[1]) for y in ys]
    if not xs or not ys:
        return '<p class="note">No finite numbers to draw.</p>'
    ys += y_include
    # Markers are drawn whole; lines alone begin and end at the frame.
    margin = 0.02 if any(s.markers for s in series) else 0.0
    across = Scale(*_span(xs, log_x, pad=margin), float(LEFT), float(WIDTH - RIGHT), log_x)
    up = Scale(*_span(ys, log_y, pad=0.06), float(HEIGHT - BOTTOM), float(TOP), log_y)
    x_format = power_of_ten if log_x and across.high / across.low > 100 else plain_number
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(". ".join([title, *(_in_words(s, y_format) for s in series)]))}">',
        _axes(across, up, x_label, y_label, x_format, y_format),
    ]
    if mark is not None and across.low < mark[0] < across.high:
        at = across(mark[0])
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="tick" text-anchor="end" x="{at - 4:.1f}" y="{TOP + 11}">{html.escape(mark[1])}</text>'
        )
    if level is not None:
        at = up(level)
        parts.append(f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
    inside = f'x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
    parts.append(f'<svg {inside} viewBox="{inside_box()}" class="plot">')
    parts += [_line(s, across, up, y_format) for s in series]
    parts.append("</svg></svg>")
    return "".join(parts) + _legend(series)


def inside_box() -> str:
    """Return the viewBox of the framed area; a nested svg clips what lies outside it."""
    return f"{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}"


def plain_number(value: float) -> str:
    """Return a number without needless digits, with a minus sign rather than a hyphen."""
    return f"{value:.4g}".replace("-", "−")


def percent(value: float) -> str:
    """Return a fraction as a percentage without needless digits."""
    return f"{100 * value:.3g} %"


def power_of_ten(value: float) -> str:
    """Return ``10⁻³`` for a decade, a plain number otherwise."""
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-9:
        return f"{value:.2g}"
    return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _axes(
    across: Scale,
    up: Scale,
    x_label: str,
    y_label: str,
    x_format: Callable[[float], str],
    y_format: Callable[[float], str],
) -> str:
    parts = []
    for value in up.ticks():
        at = up(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{at + 4:.1f}">{y_format(value)}</text>'
        )
    for value in across.ticks():
        at = across(value)
        parts.append(
            f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>'
            f'<text class="tick" text-anchor="middle" x="{at:.1f}" y="{HEIGHT - BOTTOM + 19}">'
            f"{x_format(value)}</text>"
        )
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="name" text-anchor="middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 7}">'
        f"{html.escape(x_label)}</text>"
        f'<text class="name" text-anchor="middle" transform="translate(15 {middle}) rotate(-90)">'
        f"{html.escape(y_label)}</text>"
    )
    return "".join(parts)


def _in_words(s: Series, y_format: Callable[[float], str]) -> str:
    drawn = [(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(y) and y > 0]
    if not drawn:
        return f"{s.label}: no finite values"
    ends = " to ".join(f"{y_format(y)} at {plain_number(x)}" for x, y in dict.fromkeys((drawn[0], drawn[-1])))
    return f"{s.label}: {ends}"


def _line(s: Series, across: Scale, up: Scale, y_format: Callable[[float], str]) -> str:
    def usable(value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not up.is_log)

    points = [(x, y) for x, y in zip(s.x, s.y, strict=True) if usable(y) and (x > 0 or not across.is_log)]
    pixels = [(across(x), up(y)) for x, y in points]
    parts = [f'<g class="series {s.style}">']
    if s.low and all(math.isfinite(y) for y in (*s.low, *s.high)):
        outline = [(across(x), up(y)) for x, y in zip(s.x, s.high, strict=True)]
        outline += [
            (across(x), up(max(y, up.low / 10))) for x, y in reversed(list(zip(s.x, s.low, strict=True)))
        ]
        parts.append(f'<polygon points="{_path(outline)}"/>')
    dash = f' stroke-dasharray="{s.dash}"' if s.dash else ""
    parts.append(f'<polyline points="{_path(pixels)}"{dash}/>')
    if s.markers:
        for (x, y), (px, py) in zip(points, pixels, strict=True):
            tip = html.escape(f"{s.label}, {plain_number(x)}: {y_format(y)}")
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6"><title>{tip}</title></circle>')
    return "".join(parts) + "</g>"


def _legend(series: Sequence[Series]) -> str:
    items = []
    for s in series:
        dash = f' stroke-dasharray="{s.dash}"' if s.dash else ""
        items.append(
            f'<li><svg class="key series {s.style}" viewBox="0 0 26 10" aria-hidden="true">'
            f'<polyline points="0,5 26,5"{dash}/></svg>{html.escape(s.label)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _path(pixels: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)


def _span(values: Sequence[float], is_log: bool, pad: float) -> tuple[float, float]:
    """Return the range of some values, widened by a fraction, never empty."""
    low, high = min(values), max(values)
    if is_log:
        room = (high / low) ** pad if high > low else 2.0
        return low / room, high * room
    room = (high - low) * pad if high > low else 0.5
    return low - room, high + room


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(d * power for d in (1, 2, 5, 10) if d * power >= step * (1 - 1e-9))
