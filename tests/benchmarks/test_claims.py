"""Claims of papers: files that are checked to the letter, and verdicts that nothing but numbers decides."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
from omegaconf import OmegaConf

from benchmarks.claims import page, planning, rules, schema
from benchmarks.options import OptionError

FILE = {
    "title": "Wide",
    "paper": {"citation": "Nobody (2000).", "number": "Half the error.", "metric": "Relative L2."},
    "here": "Smaller.",
    "sets": {
        "many": {"data": "navier_stokes"},
        "few": {"data": "navier_stokes", "overrides": ["data.generator.num_trajectories.train=2"]},
    },
    "arms": {
        "fno": {"model": "fno", "baseline": True},
        "wide": {"model": "fno", "overrides": ["model.num_modes=8"], "match": {"arm": "fno"}},
    },
    "claims": [
        {
            "says": "Wide halves the error",
            "of": {"arm": "wide"},
            "over": {"arm": "fno"},
            "below": 0.5,
            "partly_below": 1,
            "why": {"not": "Width does not help where modes are missing."},
        }
    ],
    "scales": {"cpu": {"seeds": [0, 1], "steps": 10, "grids": [1, 2], "horizon": 2}},
}


def read(tmp_path, changes=None):
    """Load the file with some values changed: ``{"arms.wide.model": "fnoo"}``; DELETE takes a key away."""
    content = OmegaConf.create(copy.deepcopy(FILE))
    for key, value in (changes or {}).items():
        OmegaConf.update(content, key, value, force_add=True)
    path = tmp_path / "wide.yaml"
    OmegaConf.save(content, path)
    return schema.load(str(path))


def result(of, over, *, checksum="same", grid="1", **facts):
    """Return a recorded result with the errors (seed, sample) of the arms ``wide`` and ``fno`` on ``many``."""
    runs = [
        {
            "arm": arm,
            "set": "many",
            "seed": seed,
            "steps": 10,
            "parameters": 100 if arm == "wide" else 400,
            "spectral_parameters": 0,
            "cpu_seconds": 2.0,
            "errors": {grid: {"one_step": {"vorticity": list(row)}, "rollout": {"vorticity": list(row)}}},
        }
        for arm, table in (("wide", of), ("fno", over))
        for seed, row in enumerate(table)
    ]
    sets = {
        name: {"test_checksum": checksum, "training_windows": 3, "persistence": None} for name in FILE["sets"]
    }
    return {
        "claims": "wide",
        "command": "python -m benchmarks.claims claims=wide",
        "revision": "abc",
        "versions": {"torch": "2"},
        "machine": {"processor": "a processor", "gpu": None, "cores": 2},
        "settings": {"scale": "cpu", "device": "cpu", "jobs": 2, "threads": 1},
        "sets": sets,
        "runs": runs,
        **facts,
    }


def errors(mean, *, seeds=3, samples=40, spread=0.1):
    rng = np.random.default_rng(round(1000 * mean))
    return (mean * (1 + spread * rng.standard_normal((seeds, samples)))).round(4).tolist()


@pytest.mark.parametrize(
    ("mean", "verdict", "reason"),
    [
        (0.4, "reproduced", "below 0.5 with its whole interval"),
        (0.495, "partly", "below 0.5 on average, not with its whole interval"),
        (0.7, "partly", "not below 0.5, below 1 with its whole interval"),
        (1.0, "not", "not below 0.5, nor with its whole interval below 1"),
        (1.4, "not", "not below 0.5, nor with its whole interval below 1"),
    ],
)
def test_the_verdict_follows_from_ratio_interval_and_bounds(tmp_path, mean, verdict, reason):
    file = read(tmp_path)
    finding = rules.judge(file, file.claims[0], result(errors(mean), errors(1.0001)))
    assert (finding.verdict, finding.reason) == (verdict, reason)
    assert finding.low < finding.ratio < finding.high
    assert finding.ratio == pytest.approx(mean, rel=0.03)


def test_without_a_weaker_bound_a_missed_bound_is_not_reproduced(tmp_path):
    file = read(tmp_path, {"claims": [{**FILE["claims"][0], "partly_below": None}]})
    assert rules.judge(file, file.claims[0], result(errors(0.7), errors(1.0001))).verdict == "not"


def test_only_the_explanation_of_the_verdict_that_came_out_is_shown(tmp_path):
    file = read(tmp_path)
    assert rules.judge(file, file.claims[0], result(errors(0.4), errors(1.0))).why == ""
    assert "modes are missing" in rules.judge(file, file.claims[0], result(errors(1.4), errors(1.0))).why


def test_the_interval_covers_the_ratio_of_the_true_means():
    """With many seeds, so that what is tested is the bootstrap and not the smallness of three."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        difficulty = rng.lognormal(0, 0.3, 30)  # of the test samples, the same for both sides
        of, over = (
            mean * difficulty * rng.lognormal(0, 0.1, (8, 30)) * rng.lognormal(0, 0.1, (8, 1))
            for mean in (1, 2)
        )
        _, low, high = rules.ratio_of_means(of, over, paired_samples=True, paired_seeds=False)
        covered += low < 0.5 < high
    assert covered >= 50


def test_samples_tested_on_both_sides_are_drawn_together():
    difficulty = np.linspace(0.1, 2.0, 40)[None]
    paired = rules.ratio_of_means(difficulty, 2 * difficulty, paired_samples=True, paired_seeds=True)
    assert paired == pytest.approx((0.5, 0.5, 0.5))
    _, low, high = rules.ratio_of_means(difficulty, 2 * difficulty, paired_samples=False, paired_seeds=True)
    assert low < 0.45
    assert high > 0.55


def test_two_test_sets_are_not_paired(tmp_path):
    over = {"arm": "fno", "set": "few"}
    file = read(tmp_path, {"claims": [{**FILE["claims"][0], "over": over}]})
    table = [np.linspace(0.1, 2.0, 40).tolist()] * 2
    found = result(table, table)
    for run in found["runs"]:
        run["set"] = "few" if run["arm"] == "fno" else "many"
    assert rules.judge(file, file.claims[0], found).low == pytest.approx(1.0)
    found["sets"]["few"]["test_checksum"] = "another"
    assert rules.judge(file, file.claims[0], found).low < 0.9


def test_the_spread_over_seeds_widens_the_interval():
    steady, over = np.ones((3, 10)), np.ones((3, 10))
    spread = steady * np.array([[0.5], [1.0], [1.5]])
    ends = [
        rules.ratio_of_means(of, over, paired_samples=True, paired_seeds=False) for of in (steady, spread)
    ]
    assert ends[0] == (1.0, 1.0, 1.0)
    assert ends[1][1] < 0.7
    assert ends[1][2] > 1.3


def test_the_same_numbers_give_the_same_interval_each_time():
    tables = np.array(errors(0.7)), np.array(errors(1.0))
    assert (
        len({rules.ratio_of_means(*tables, paired_samples=True, paired_seeds=False) for _ in range(3)}) == 1
    )


@pytest.mark.parametrize(
    ("of", "over", "verdict"),
    [(None, 1.0, "not"), (0.1, None, "reproduced"), (None, None, "not")],
)
def test_a_rollout_that_blew_up_has_not_got_away(tmp_path, of, over, verdict):
    file = read(tmp_path)
    found = result(*([[side, side], [side, side]] for side in (of, over)))
    assert rules.judge(file, file.claims[0], found).verdict == verdict


def test_one_infinite_error_among_many_leaves_no_claim_standing(tmp_path):
    file = read(tmp_path)
    of = errors(0.1)
    of[1][3] = None
    assert rules.judge(file, file.claims[0], result(of, errors(1.0))).verdict == "not"


def test_a_model_that_refuses_the_grid_has_not_reproduced_anything(tmp_path):
    file = read(tmp_path, {"claims": [{**FILE["claims"][0], "of": {"arm": "wide", "grid": 2}}]})
    found = result(errors(0.4), errors(1.0))
    for run in found["runs"]:
        run["errors"]["2"] = {"refused": "wide was made for one grid."}
    finding = rules.judge(file, file.claims[0], found)
    assert finding.verdict == "not"
    assert "made for one grid" in finding.reason


def test_costs_are_compared_without_an_interval(tmp_path):
    sides = {side: {"arm": arm, "measure": "parameters"} for side, arm in (("of", "wide"), ("over", "fno"))}
    file = read(tmp_path, {"claims": [{**FILE["claims"][0], **sides}]})
    finding = rules.judge(file, file.claims[0], result(errors(1.0), errors(1.0)))
    assert (finding.verdict, finding.low, finding.ratio, finding.high) == ("reproduced", 0.25, 0.25, 0.25)


def test_a_file_is_reproduced_only_if_all_its_claims_are():
    made = [rules.Finding(verdict, 1.0, 1.0, 1.0, "") for verdict in ("reproduced", "not")]
    assert [rules.overall(part) for part in (made[:1], made, made[1:])] == ["reproduced", "partly", "not"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("titel", "x", "the file has no key 'titel'. Did you mean 'title'"),
        ("arms.wide.modle", "fno", "arms.wide has no key 'modle'. Did you mean 'model'"),
        ("scales.cpu.step", 3, "scales.cpu has no key 'step'. Did you mean 'steps'"),
        ("paper.year", 2000, "paper has no key 'year'"),
        ("arms.wide.match.arm", "fnoo", "arms.wide.match.arm names 'fnoo'. Did you mean 'fno'"),
        ("arms.wide.baseline", True, "2 arms are marked baseline: true (fno, wide)"),
        ("arms.fno.match", {"arm": "wide"}, "is matched itself"),
        ("arms.wide.sets", ["lots"], "arms.wide.sets names 'lots'"),
        ("scales.cpu.steps", 0, "scales.cpu.steps is 0"),
        ("scales.cpu.steps", "ten", "scales.cpu.steps is 'ten'; give a whole number"),
        ("scales.cpu.seeds", [0.5], "give a list of whole numbers"),
        ("scales.cpu.grids", [2], "grid 1, the training grid"),
        ("scales.cpu.overrides", "optim.lr=1", "give a list of texts"),
        ("scales.cpu.data", ["model.width=3"], "only data.key=value belongs there"),
        ("scales.cpu.arms", {"wdie": []}, "names 'wdie'. Did you mean 'wide'"),
        ("claims", [], "makes at least one"),
    ],
)
def test_a_mistake_in_a_file_is_answered_with_a_sentence(tmp_path, key, value, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        read(tmp_path, {key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"of": {"arm": "wdie"}}, "names 'wdie'. Did you mean 'wide'"),
        ({"of": {"arm": "wide", "measure": "rolout"}}, "names 'rolout'. Did you mean 'rollout'"),
        ({"of": {"arm": "wide", "grid": 4}}, "about grid 4, which scales.cpu.grids lacks"),
        ({"of": {"arm": "wide", "set": "fwe"}}, "names 'fwe'. Did you mean 'few'"),
        ({"of": {"arm": "wide", "measure": "parameters"}}, "divides a cost by an error"),
        ({"over": {"arm": "fno", "measure": "parameters"}}, "divides an error by a cost"),
        ({"of": {"arm": "wide", "measure": "correlation_time"}}, "divides a correlation time by an error"),
        ({"below": -1}, "below is -1; give a positive number"),
        ({"partly_below": 0.4}, "is the weaker bound"),
        ({"why": {"nto": "x"}}, "names 'nto'. Did you mean 'not'"),
        ({"why": {"not": "It is 30 % better."}}, "both are computed and stand beside it"),
        ({"why": {"not": "Reproduced, really."}}, "both are computed and stand beside it"),
    ],
)
def test_a_claim_that_cannot_be_decided_or_decides_itself_is_refused(tmp_path, changes, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        read(tmp_path, {"claims": [{**FILE["claims"][0], **changes}]})


def test_a_missing_key_and_an_unknown_file_or_scale_are_named(tmp_path, monkeypatch):
    content = {key: value for key, value in FILE.items() if key != "here"}
    OmegaConf.save(OmegaConf.create(content), tmp_path / "wide.yaml")
    with pytest.raises(OptionError, match=r"wide\.yaml: the file needs the key 'here'"):
        schema.load(str(tmp_path / "wide.yaml"))
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    with pytest.raises(OptionError, match=r"There are no claims 'wdie'\. Did you mean 'wide'"):
        schema.load("wdie")
    with pytest.raises(OptionError, match=r"wide has no scale 'cup'\. Did you mean 'cpu'"):
        planning.choose_scale(read(tmp_path), "cup")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("arms.wide.overrides", ["model.widht=3"], "no option 'widht' in 'model'. Did you mean 'width'"),
        ("arms.wide.overrides", ["+model.widht=3"], "no option 'widht'. Did you mean 'width'"),
        ("arms.wide.model", "fnoo", "unknown model 'fnoo'. Did you mean 'fno'"),
        ("sets.few.data", "navier_stoks", "unknown data 'navier_stoks'. Did you mean 'navier_stokes'"),
        ("scales.cpu.data", ["data.grdi=3"], "no option 'grdi' in 'data'. Did you mean 'grid'"),
    ],
)
def test_overrides_are_composed_before_anything_runs(tmp_path, key, value, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        planning.compose_all(read(tmp_path, {key: value}), "cpu")


def test_a_later_override_takes_the_place_of_an_earlier_one():
    found = planning.merged(["a=1", "b.c=2"], ["+b.c=3"], ["d=4"])
    assert found == ("a=1", "+b.c=3", "d=4")


@pytest.mark.parametrize(
    ("steps", "per_epoch", "validations"), [(100, 10, 20), (100, 3, 20), (7, 10, 5), (1000, 1, 20)]
)
def test_epochs_hold_the_steps_and_end_with_a_validation(steps, per_epoch, validations):
    words, found = planning.epochs_of(steps, per_epoch, validations)
    epochs, every = (int(word.split("=")[1]) for word in words)
    assert steps <= found == epochs * per_epoch < steps + per_epoch * (every + 1)
    assert epochs % every == 0
    assert epochs // every <= 2 * validations


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize("name", schema.names())
def test_every_claim_file_composes_at_both_scales(name, scale):
    file = schema.load(name)
    planning.compose_all(file, scale, "cpu" if scale == "cpu" else "cuda")
    assert len(file.scales[scale].seeds) >= 3


def test_the_pages_show_verdict_numbers_sizes_and_conditions(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    read(tmp_path)
    results = {"wide_cpu": result(errors(0.7), errors(1.0001))}
    text = page.page(results)
    assert "## Wide, scale cpu: partly" in text
    assert re.search(r"\*\*Partly\*\*: Wide halves the error\. Ratio of one step 0\.[67]\d+ \(0\.6", text)
    assert "not below 0.5, below 1 with its whole interval" in text
    assert re.search(r"\| fno \(baseline\) \| 400 \| \d+(\.\d+)? % \([\d.]+ % to [\d.]+ %\)", text)
    assert "a processor, 2 cores; 2 runs at a time of 1 thread(s); revision abc" in text
    assert "No results are committed" in page.page({})
    block = page.write_readme(f"before\n{page.BEGIN}\nold\n{page.END}\nafter", results)
    assert "| Wide | Wide halves the error | **partly**: Ratio of one step 0." in block
    assert "old" not in block
    with pytest.raises(ValueError, match="lacks the marks"):
        page.write_readme("no marks", results)


def test_the_committed_pages_are_what_the_files_and_results_give(repository):
    results = page.load()
    committed = (repository / "docs" / "results.md").read_text(encoding="utf-8")
    assert committed == page.page(results), "run: python -m benchmarks.claims"
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert readme == page.write_readme(readme, results), "run: python -m benchmarks.claims"


def test_every_committed_result_is_of_the_experiment_that_its_file_describes():
    for name, found in page.load().items():
        assert name == f"{found['claims']}_{found['settings']['scale']}"
        file = schema.load(found["claims"])
        assert found["design"] == file.design(found["settings"]["scale"]), f"{name}: run its command again"
        assert {"command", "revision", "machine", "versions", "load_average"} <= set(found)


TO_ERROR = {
    "of": {"arm": "wide", "measure": "time_to_error"},
    "over": {"arm": "fno", "measure": "time_to_error"},
}


def test_times_are_compared_at_the_error_that_both_sides_reach(tmp_path):
    """Of 100 steps wide needs 20, then 50, to come to what both reach; the FNO needs all, then half of its own."""
    file = read(tmp_path, {"claims": [{"says": "Wide is faster", **TO_ERROR, "below": 0.6}]})
    found = result(errors(1.0, seeds=2), errors(1.0001, seeds=2))
    progress = {
        ("wide", 0): [[10, 0.9], [20, 0.3], [100, 0.1]],
        ("fno", 0): [[10, 0.9], [50, 0.5], [100, 0.3]],
        ("wide", 1): [[50, 0.4], [100, 0.45]],
        ("fno", 1): [[25, 0.6], [50, 0.4], [100, 0.2]],
    }
    for run in found["runs"]:
        run |= {"validated": progress[run["arm"], run["seed"]], "steps": 100}
        run["cpu_seconds"] = 10.0 if run["arm"] == "wide" else 20.0
    finding = rules.judge(file, file.claims[0], found)
    assert finding.ratio == pytest.approx((10 * 0.2 + 10 * 0.5) / (20 * 1.0 + 20 * 0.5))
    assert finding.verdict == "reproduced"
    del found["runs"][0]["validated"]
    assert "no record of its validations" in rules.judge(file, file.claims[0], found).reason


def test_an_arm_may_have_steps_of_its_own_and_the_page_says_so(tmp_path):
    file = read(tmp_path, {"scales.cpu.arm_steps": {"wide": 30}})
    assert [file.scales["cpu"].steps_of(arm) for arm in file.arms] == [10, 30]
    found = result(errors(0.4), errors(1.0))
    assert "steps |" not in page._set_table(file, "many", found)[2]
    for run in found["runs"]:
        run["steps"] = 30 if run["arm"] == "wide" else 10
    title, _, heads, _, *rows = page._set_table(file, "many", found)
    assert title.endswith("10 and 30 steps.")
    assert heads.startswith("|  | parameters (spectral) | steps |")
    assert [row.split(" | ")[2] for row in rows] == ["10", "30"]


def test_a_truncation_floor_stands_beside_the_errors_of_its_model(tmp_path):
    found = result(errors(0.4), errors(1.0))
    for run in found["runs"]:
        if run["arm"] == "wide":
            run["errors"]["1"]["floor"] = {"one_step": {"vorticity": [0.01, 0.03]}}
    lines = page._set_table(read(tmp_path), "many", found)
    assert [", floor 2 %" in line for line in lines if line.startswith(("| wide", "| fno"))] == [False, True]


def test_correlation_times_are_compared_and_shown_where_they_are_recorded(tmp_path):
    sides = {
        side: {"arm": arm, "measure": "correlation_time"} for side, arm in (("of", "fno"), ("over", "wide"))
    }
    claim = {"says": "Wide forecasts for longer", **sides, "below": 1}
    file = read(tmp_path, {"claims": [claim]})
    found = result(errors(0.4), errors(1.0))
    assert "no record of its correlation time" in rules.judge(file, file.claims[0], found).reason
    assert "correlation" not in page._set_table(file, "many", found)[2]
    for run in found["runs"]:
        times = [3.0, 5.0] if run["arm"] == "wide" else [1.0, 1.0]
        run["errors"]["1"]["correlation_time"] = {"vorticity": times}
    finding = rules.judge(file, file.claims[0], found)
    assert (finding.verdict, finding.ratio) == ("reproduced", 0.25)
    _, _, heads, _, *rows = page._set_table(file, "many", found)
    assert "| correlation time |" in heads
    assert [row.split(" | ")[4] for row in rows] == ["1 (1 to 1)", "4 (4 to 4)"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales.cpu.arm_steps": {"wid": 3}}, "scales.cpu.arm_steps names 'wid'. Did you mean 'wide'"),
        ({"scales.cpu.arm_steps": {"wide": 0}}, "arm_steps.wide is 0"),
        ({"scales.cpu.arm_steps": {"wide": "3"}}, "give a whole number"),
        (
            {
                "claims": [
                    {"says": "x", **TO_ERROR, "over": {"arm": "fno", "measure": "cpu_seconds"}, "below": 1}
                ]
            },
            "measured on both or on none",
        ),
    ],
)
def test_steps_and_times_that_cannot_be_compared_are_refused(tmp_path, changes, message):
    with pytest.raises(OptionError, match=message):
        read(tmp_path, changes)
