from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pdesurrogate.evaluation.cost_section import cost_content, pareto_front
from pdesurrogate.evaluation.film import SCRIPT
from pdesurrogate.evaluation.paired import paired_table, pairs_of
from pdesurrogate.evaluation.plan import prepare
from pdesurrogate.evaluation.reference import SolverRun
from pdesurrogate.evaluation.report import render
from pdesurrogate.evaluation.run import evaluate, run
from pdesurrogate.evaluation.verdict import verdict
from pdesurrogate.fields import Field


class Reader(HTMLParser):
    """Checks that tags are balanced and collects attributes."""

    VOID = frozenset({"meta", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def report(finished):
    value, folder = finished
    return value, folder, (folder / "report.html").read_text(encoding="utf-8")


def test_the_number_for_sweeps_is_the_mean_rollout_error_on_the_training_grid(report, gain_error):
    value, folder, _ = report
    expected = sum(gain_error(0.1, n) for n in range(1, 9)) / 8
    assert value == pytest.approx(expected, rel=1e-5)
    headline = json.loads((folder / "metrics.json").read_text())["headline"]
    assert headline["grid"] == [16, 16]
    assert headline["rollout"]["mean"] == pytest.approx(value)
    assert headline["one_step"]["mean"] == pytest.approx(0.1, rel=1e-5)


def test_metrics_json_holds_every_number_by_sample_lead_time_and_field(report):
    _, folder, _ = report
    content = json.loads((folder / "metrics.json").read_text())
    rows = {(r["role"], r["grid"][0]): r for r in content["results"]}
    assert set(rows) == {
        (role, n) for role in ("main", "compared", "coarse", "persistence") for n in (8, 16, 32)
    }
    assert "refused" in rows["compared", 8]
    table = rows["main", 32]["rollout"]["relative_l2"]
    assert table["dims"] == ["sample", "lead", "field"]
    assert [len(table["values"]), len(table["values"][0]), len(table["values"][0][0])] == [6, 8, 1]
    assert set(rows["main", 32]["rollout"]) == {"relative_l2", "vrmse", "h1"}
    for metric in rows["main", 16]["one_step"].values():
        values = [v[0] for row in metric["values"] for v in row]
        assert metric["summary"]["mean"] == pytest.approx(sum(values) / len(values))
        assert metric["n"] == 6
    assert content["lead_times"] == pytest.approx([0.125 * n for n in range(1, 9)])
    assert re.fullmatch(r"[0-9a-f]{64}", content["provenance"]["Artifact: Gain"]["sha256"])
    assert content["config"]["horizon"] == 8


def test_the_page_is_self_contained_and_well_formed(report):
    _, _, page = report
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    for tag, name, value in reader.attributes:
        if name in ("src", "href", "srcset", "xlink:href"):
            assert value.startswith("data:"), (tag, value[:60])
        assert not name.startswith("on"), (tag, name)
    assert re.findall(r"<script.*?</script>", page, re.DOTALL) == [f"<script>{SCRIPT}</script>"]
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_the_page_can_be_read_without_seeing_it(report):
    _, _, page = report
    reader = Reader()
    reader.feed(page)
    tags = [tag for tag, name, _ in reader.attributes if name == "alt"]
    assert len(tags) == page.count("<img") > 0
    assert all(value for tag, name, value in reader.attributes if name in ("alt", "aria-label"))
    assert page.count("<svg viewBox") == page.count('role="img"')
    assert re.search(r"<th(?=[ >])(?! scope)", page) is None
    assert '<html lang="en">' in page
    tables = page.count('<table class="results"')
    assert page.count('tabindex="0"') == page.count('role="region"') == tables == 8


def test_a_model_has_the_same_colour_in_every_table_and_chart(report):
    _, _, page = report
    swatches = r'<span class="swatch(?: ring)? ([\w-]+)" aria-hidden="true"></span>([^<]+)</th>'
    styles = re.findall(swatches, page)
    legend = re.findall(r'<svg class="key series ([\w-]+)"[^>]*>.*?</svg>([^<]+)</li>', page)
    names = {label: style for style, label in styles}
    assert len(names) == 5
    seen = [(style, label) for style, label in legend if label.removeprefix("error of ") in names]
    assert len(seen) >= 5
    assert all(names[label.removeprefix("error of ")] == style for style, label in seen)


def test_every_row_and_grid_of_the_table_shows_its_error_or_says_why_not(report, gain_error):
    value, _, page = report
    table = page.split("Table 1.")[1].split("</table>")[0]
    rows = {m[0]: m[1] for m in re.findall(r"</span>([^<]+)</th>(.*?)</tr>", table)}
    assert list(rows) == [
        "Gain",
        "Gain at 16 × 16, resampled",
        "U-Net",
        "U-Net at 16 × 16, resampled",
        "Persistence",
    ]
    assert f"{100 * value:.1f} %" in rows["Gain"]
    assert rows["Gain"].count("10.0 %") >= 3
    assert rows["U-Net"].startswith("<td>—</td><td>—</td>")
    assert "U-Net at 8 × 8:" in page
    for grid in ("8 × 8", "16 × 16", "32 × 32"):
        assert f'class="group">{grid}<small>' in table


def test_the_last_lines_say_where_the_report_is_and_what_the_errors_were(configure, caplog):
    config = configure(resolutions=[32])
    with caplog.at_level(logging.INFO):
        evaluate(config)
    last = caplog.messages[-1]
    assert last.startswith(f"Report: {Path(config['artifact']).parent / 'evaluation' / 'report.html'}")
    assert "one-step 10.0 %, 8-frame rollout" in last
    assert "at 16x16" in last
    assert "at 32x32" in last
    assert any("rolled out 6 of 6" in line for line in caplog.messages)


def evaluated(config):
    return run(prepare(config), config)


def test_the_verdict_comes_first_and_does_not_flatter(configure, make_artifact):
    config = configure(resolutions=[32])
    page = render(evaluated(config))
    body = page.split("<main>")[1]
    assert body.startswith('<p class="verdict">')
    good = verdict(evaluated(configure(artifact=str(make_artifact(gain=0.01)))))
    assert "against" in good
    assert "worse" not in good
    bad = verdict(evaluated(configure(artifact=str(make_artifact(gain=3.0)))))
    assert "does worse than Persistence" in bad


def test_a_model_that_blows_up_is_reported_as_diverged(configure, make_artifact):
    config = configure(artifact=str(make_artifact(gain=1e12)), resolutions=[32])
    evaluate(config)
    folder = Path(config["artifact"]).parent / "evaluation"
    assert "is off by diverged" not in (page := (folder / "report.html").read_text(encoding="utf-8"))
    assert "diverges" in page
    headline = json.loads((folder / "metrics.json").read_text())["headline"]
    assert headline["rollout"]["mean"] is None


def test_two_models_of_one_class_get_different_names(configure, make_artifact):
    rival = make_artifact("other", gain=0.2)
    evaluation = evaluated(configure(compare=[str(rival)]))
    assert [c.label for c in evaluation.contenders][:2] == ["Gain (run)", "Gain (other)"]


def test_names_from_files_cannot_inject_markup(configure, make_artifact, spec, replace_waves, wave):
    nasty = spec.replace(equation="u_t < 0 <script>alert(1)</script>")
    replace_waves(wave(1, 1)[None], spec=nasty)
    page = render(evaluated(configure(artifact=str(make_artifact(spec=nasty)))))
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page


def test_several_fields_are_reported_apart(configure, make_artifact, spec, replace_waves, wave):
    both = spec.replace(fields=(Field("tracer"), Field("flow", kind="vector", components=("y", "x"))))
    frames = np.concatenate([wave(1, 1), wave(0, 2), wave(2, 1)], axis=1)
    replace_waves(frames[None], spec=both)
    config = configure(artifact=str(make_artifact(spec=both)))
    page = render(evaluated(config))
    assert "tracer on the training grid" in page
    assert "flow on the training grid" in page
    assert '<th scope="col">flow, rollout</th>' in page
    assert "<h3>flow_x</h3>" in page


def test_every_key_of_the_configuration_is_read(configure, tmp_path, waves, make_artifact):
    base = configure()
    reference = evaluated(base)
    assert prepare(base | {"output": str(tmp_path / "there")}).output == tmp_path / "there"
    assert len(evaluated(base | {"num_trajectories": 2}).headline.rollout["relative_l2"]) == 2
    assert evaluated(base | {"horizon": 3}).headline.rollout["relative_l2"].values.shape[1] == 3
    assert list(evaluated(base | {"metrics": ["vrmse"]}).headline.rollout) == ["relative_l2", "vrmse"]
    assert len(evaluated(base | {"resolutions": [[16, 32]]}).grids) == len(reference.grids) + 1
    moved = tmp_path / "moved"
    waves.rename(moved)
    assert (
        evaluated(base | {"data_root": str(moved)})
        .headline.rollout["h1"]
        .values.equal(reference.headline.rollout["h1"].values)
    )


def test_results_nc_holds_every_error_under_names_that_xarray_reads(report):
    import xarray

    value, folder, _ = report
    with xarray.open_dataset(folder / "results.nc", engine="h5netcdf") as found:
        assert found.rollout_relative_l2.dims == ("model", "grid", "trajectory", "lead", "field")
        own = found.rollout_relative_l2.sel(model="Gain", grid="16x16")
        assert float(own.mean()) == pytest.approx(value)
        assert bool(found.rollout_relative_l2.sel(model="U-Net", grid="8x8").isnull().all())
        assert found.one_step_h1.sel(model="Gain", grid="32x32").shape == (6, 8, 1)
        assert found.lead.values == pytest.approx([0.125 * n for n in range(1, 9)])


def test_metrics_json_compares_in_pairs_and_says_for_how_long_a_forecast_can_be_used(report):
    _, folder, _ = report
    content = json.loads((folder / "metrics.json").read_text())
    pairs = {(c["model"], c["metric"]): c for c in content["comparisons"] if c["protocol"] == "rollout"}
    assert ("Gain", "relative_l2") not in pairs
    rival = pairs["Persistence", "relative_l2"]
    assert rival["against"] == "Gain"
    assert rival["standing"] == "worse"
    rows = {
        r["model"]: r["rollout"]["relative_l2"]["values"]
        for r in content["results"]
        if r["grid"] == [16, 16] and "rollout" in r
    }
    difference = np.array(rows["Persistence"]) - np.array(rows["Gain"])
    assert rival["difference"] == pytest.approx(difference.mean())
    assert rival["bootstrap_95"]["low"] <= rival["difference"] <= rival["bootstrap_95"]["high"]
    usable = {s["model"]: s for s in content["stability"]}
    assert usable["Gain"]["correlation_time"]["never"] == 6  # a gain keeps the pattern
    assert usable["Gain"]["growth_rate"] > 0
    assert usable["Persistence"]["correlation_time"]["median"] < 0.3
    main = next(r for r in content["results"] if r["role"] == "main" and r["grid"] == [32, 32])
    assert main["further"]["truth beyond"]["fields"] == ["tracer"]
    assert main["further"]["balances"]["fields"] == ["mean tracer", "energy of tracer"]
    assert "why_no_solver" in content


def test_a_solver_that_starts_from_more_than_frames_hold_is_said_to(configure):
    evaluation = evaluated(configure())
    run = SolverRun((8, 8), 0.1, torch.tensor([0.5, 0.5], dtype=torch.float64), 3.0)
    fair = dataclasses.replace(evaluation, solver=[run], why_no_solver="")
    sentence = "The solver has an advantage: frames hold a part of its state"
    assert sentence not in cost_content(fair)
    assert sentence in cost_content(dataclasses.replace(fair, solver_knows_more=True))


def test_every_two_artifacts_are_compared_in_pairs_with_bootstrap_intervals(configure, make_artifact):
    rivals = [str(make_artifact(f"run{gain}", gain=gain)) for gain in (0.05, 0.2)]
    evaluation = evaluated(configure(compare=rivals, metrics=[]))
    labels = [(row.label, against.label) for row, against in pairs_of(evaluation)]
    assert labels == [
        ("Gain (run0.05)", "Gain (run)"),
        ("Gain (run0.2)", "Gain (run)"),
        ("Persistence", "Gain (run)"),
        ("Gain (run0.2)", "Gain (run0.05)"),
    ]
    table = paired_table(evaluation)
    rows = re.findall(r'<th scope="row">(.*?)<small>less (.*?)</small></th>(.*?)</tr>', table)
    assert [row[:2] for row in rows] == labels
    assert "−5.00" in rows[0][2]  # one step is off by 5 % instead of 10 %
    assert "errs less" in rows[0][2]
    assert "+15.0" in rows[3][2]
    assert "errs more" in rows[3][2]
    assert "bootstrap interval" in table


def test_energy_by_scale_is_the_square_of_the_gain_in_every_range_that_has_energy(configure):
    evaluation = evaluated(configure())
    table = evaluation.headline.further["band_energy"]
    assert table.fields[0] == "tracer, low"
    values = table.values[:, :, 0]
    expected = np.array([1.1 ** (2 * n) for n in range(1, 9)])
    np.testing.assert_allclose(values.numpy(), np.tile(expected, (6, 1)), rtol=1e-4)


def test_costs_are_in_the_table_and_the_plot_and_no_speed_up_is_invented(report):
    _, _, page = report
    section = page.split('id="cost"')[1].split("</section>")[0]
    assert "peak MiB" in section
    assert "Error against cost" in section
    assert "No speed-up: The data set does not say which solver made it." in section
    assert "times as fast" not in page


def test_the_front_is_what_nothing_beats_in_both():
    points = [(3.0, 0.1), (1.0, 0.5), (2.0, 0.6), (4.0, 0.1), (5.0, 0.01), (1.0, float("inf"))]
    assert pareto_front(points) == [(1.0, 0.5), (3.0, 0.1), (5.0, 0.01)]


def test_tables_and_page_go_to_weights_and_biases(configure, monkeypatch):
    import wandb

    logged: dict[str, object] = {}

    class Run:
        def log(self, content):
            logged.update(content)

        def finish(self):
            logged["finished"] = True

    monkeypatch.setattr(wandb, "init", lambda **options: logged.update(options) or Run())
    monkeypatch.setattr(wandb, "Table", lambda columns, data: (columns, data))
    monkeypatch.setattr(wandb, "Html", lambda text, inject: text)
    monkeypatch.setattr(wandb, "Video", lambda path, format: (Path(path).read_bytes(), format))
    monkeypatch.setattr(wandb.plot, "line_series", lambda **curves: curves)
    value = evaluate(configure(resolutions=[32], wandb={"project": "flows"}))
    assert (logged["project"], logged["mode"], logged["finished"]) == ("flows", "offline", True)
    assert logged["test/rollout/relative_l2/16x16"] == pytest.approx(value)
    columns, rows = logged["accuracy"]
    assert columns == ["model", "grid", "one step", "rollout"]
    assert ["Gain", "16 × 16"] in [row[:2] for row in rows]
    names = {"paired_differences", "other_measures", "scales", "other_samplings", "certificates", "balances"}
    assert names | {"cost"} <= set(logged)
    for name in names:
        heads, rows = logged[name]
        assert rows
        assert all(len(row) == len(heads) for row in rows)
    assert logged["scales"][1][0][0] == "Gain"
    assert {"error within", "error beyond", "truth beyond"} < set(logged["other_samplings"][0])
    assert all(v is not None for v in logged["other_samplings"][1][0])
    assert "tracer, low" in logged["balances"][0]
    assert str(logged["report"]).startswith("<!doctype html>")
    film, kind = logged["rollout/worst/tracer"]
    with Image.open(io.BytesIO(film)) as frames:
        assert (kind, frames.format, frames.is_animated) == ("gif", "GIF", True)
        width, height = frames.size
    assert width > 2.9 * height  # truth, prediction and error side by side
    by_grid = logged["resolution/rollout"]
    assert by_grid["xs"] == [16 * 16, 32 * 32]
    assert dict(zip(by_grid["keys"], by_grid["ys"], strict=True))["Gain"][0] == pytest.approx(value)
    spectrum = logged["spectrum/nmse/tracer"]
    assert len(spectrum["xs"]) == len(spectrum["ys"][0]) > 4
