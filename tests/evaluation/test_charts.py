from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from importlib import resources

import pytest
import torch

from pdesurrogate.evaluation.charts import (
    LEFT,
    RIGHT,
    WIDTH,
    Scale,
    Series,
    line_chart,
    percent,
    power_of_ten,
)
from pdesurrogate.evaluation.pictures import ColourScale
from pdesurrogate.evaluation.typography import error_text, number_text, property_text, range_text


def pixels(svg: str) -> list[tuple[float, float]]:
    """Points of the first drawn line."""
    points = re.search(r'<polyline points="([^"]+)"', svg).group(1)
    return [tuple(map(float, pair.split(","))) for pair in points.split()]


def test_a_power_law_is_straight_on_logarithmic_axes():
    x = [1.0, 2.0, 4.0, 8.0]
    chart = line_chart(
        [Series("law", "c-main", x, [v**-2 for v in x])], title="t", x_label="k", y_label="E", log_x=True
    )
    drawn = pixels(chart)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(drawn)]
    assert max(slopes) - min(slopes) < 0.01
    assert slopes[0] > 0  # energy falls, and pixels count downwards


def test_points_that_cannot_be_drawn_are_left_out_and_the_rest_stays_in_the_frame():
    y = [0.1, math.nan, math.inf, 0.0, 0.2]
    chart = line_chart(
        [Series("s", "c-main", [1.0, 2.0, 3.0, 4.0, 5.0], y)], title="t", x_label="x", y_label="y"
    )
    assert len(pixels(chart)) == 2
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_rollout_that_blew_up_is_cut_off_and_does_not_squeeze_the_others():
    quiet = Series("quiet", "c-main", [1.0, 2.0], [0.01, 0.02])
    wild = Series("wild", "c-rival-1", [1.0, 2.0], [0.01, 1e30])
    chart = line_chart([quiet, wild], title="t", x_label="x", y_label="y", y_limits=(1e-7, 10.0))
    (_, low), (_, high) = pixels(chart)
    assert low - high > 20


def test_a_chart_without_finite_numbers_says_so():
    chart = line_chart([Series("s", "c-main", [1.0], [math.nan])], title="t", x_label="x", y_label="y")
    assert "No finite numbers" in chart


def test_a_chart_is_well_formed_and_names_are_escaped():
    series = Series(
        "a < b & c", "c-main", [1.0, 2.0], [1.0, 2.0], low=[0.5, 1.0], high=[2.0, 3.0], markers=True
    )
    chart = line_chart([series], title='"quoted"', x_label="<x>", y_label="y")
    ElementTree.fromstring(f"<div>{chart}</div>")
    assert "a &lt; b &amp; c" in chart
    assert chart.count("<circle") == 2
    assert "<polygon" in chart


@pytest.mark.parametrize(
    ("low", "high", "is_log", "expected"),
    [
        (0.0, 20.0, False, [0, 5, 10, 15, 20]),
        (0.1, 2.0, False, [0.5, 1, 1.5, 2]),
        (0.01, 1.0, True, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        (1e-4, 1.0, True, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (1e-12, 1.0, True, [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1]),
    ],
)
def test_ticks_are_round_numbers(low, high, is_log, expected):
    assert Scale(low, high, 0.0, 1.0, is_log).ticks() == pytest.approx(expected)


def test_a_short_logarithmic_axis_has_ticks_too():
    assert len(Scale(0.021, 0.027, 0.0, 1.0, True).ticks()) >= 2


def test_numbers_are_written_for_people():
    assert power_of_ten(1e-3) == "10⁻³"
    assert power_of_ten(2e-3) == "0.002"
    assert percent(0.05) == "5 %"


def test_errors_at_the_end_of_single_precision_are_no_percentages():
    assert error_text(0.1234) == "12.3 %"
    assert error_text(2e-7) == "2.0 × 10⁻⁷"
    assert range_text(1e-7, 2e-7) == "1.0 × 10⁻⁷–2.0 × 10⁻⁷"
    assert range_text(0.029, 0.034) == "2.90–3.40 %"
    assert number_text(8.7e-15) == "8.7 × 10⁻¹⁵"
    assert property_text(0.0) == "0"


def test_numbers_have_no_computer_notation():
    assert number_text(45_230.0) == "45,200"
    assert number_text(1_234.0) == "1,230"
    assert number_text(999.6) == "1,000"
    assert number_text(52.5) == "52.5"
    assert number_text(-0.081) == "−0.081"
    assert number_text(-2.5e7) == "−2.5 × 10⁷"
    assert number_text(2.5e-7) == "2.5 × 10⁻⁷"


def test_markers_at_the_ends_of_an_axis_are_drawn_whole():
    ends = Series("s", "c-main", [1.0, 100.0], [0.1, 0.2], markers=True)
    for is_log in (True, False):
        chart = line_chart([ends], title="t", x_label="x", y_label="y", log_x=is_log)
        centres = [float(x) for x in re.findall(r'<circle cx="([^"]+)"', chart)]
        assert LEFT + 2.6 < centres[0] < centres[1] < WIDTH - RIGHT - 2.6


def test_colours_diverge_around_zero_only_where_signs_mean_something():
    assert ColourScale.of(torch.tensor([-1.0, 3.0])) == ColourScale(-3.0, 3.0, "RdBu_r")
    assert ColourScale.of(torch.tensor([1.0, 3.0])) == ColourScale(1.0, 3.0, "viridis")
    assert ColourScale.of(torch.zeros(3)).high > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_contenders_can_be_told_apart(scheme):
    sheet = resources.files("pdesurrogate.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", dark if scheme == "dark" else light))
    names = ["main", "rival-1", "rival-2", "rival-3", "rival-4", "ensemble", "persistence"]
    lab = {name: cielab(colours[name]) for name in names}
    apart = {pair: math.dist(*(lab[name] for name in pair)) for pair in itertools.combinations(names, 2)}
    assert min(apart.values()) > 20, min(apart, key=apart.get)


def cielab(colour: str) -> tuple[float, float, float]:
    """Return a colour such as ``#0072b2`` in CIE 1976 L*a*b*, white point D65, in which distances are perceptual."""
    encoded = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in encoded]
    to_xyz = [(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        sum(w * v for w, v in zip(row, linear, strict=True)) / n for row, n in zip(to_xyz, white, strict=True)
    )
    x, y, z = (v ** (1 / 3) if v > (6 / 29) ** 3 else v * (29 / 6) ** 2 / 3 + 4 / 29 for v in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
