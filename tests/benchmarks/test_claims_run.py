"""A claim from its file to the page: data made, sizes matched, trained once, resumed, tested, judged."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks import record
from benchmarks.claims import command, page, planning, running, schema
from benchmarks.options import OptionError
from pdesurrogate.cli import _register_resolvers, conf_dir
from pdesurrogate.training.run import train

LAUNCH = running.Trainer._launch
TINY_DATA = [
    "data.generator.solve_grid=32",
    "data.generator.grid=32",
    "data.generator.num_frames=4",
    "data.generator.num_trajectories.train=4",
    "data.generator.num_trajectories.valid=2",
    "data.generator.num_trajectories.test=3",
    "data.grid=16",
    "data.batch_size=4",
]
TINY = {
    "title": "Tiny",
    "paper": {"citation": "Nobody (2000).", "number": "None.", "metric": "Relative L2."},
    "here": "A test.",
    "sets": {"flow": {"data": "navier_stokes", "overrides": TINY_DATA}},
    "arms": {
        "fno": {"model": "fno", "overrides": ["model.width=4", "model.num_modes=4"], "baseline": True},
        "finer": {"model": "fno", "overrides": ["model.num_modes=6"], "match": {"arm": "fno"}},
    },
    "claims": [
        {
            "says": "An FNO is as good on a finer grid",
            "of": {"arm": "fno", "grid": 2, "measure": "rollout"},
            "over": {"arm": "fno", "measure": "rollout"},
            "below": 1.05,
        },
        {
            "says": "More modes are a thousand times better",
            "of": {"arm": "finer"},
            "over": {"arm": "fno"},
            "below": 0.001,
        },
    ],
    "scales": {
        "cpu": {
            "seeds": [0, 1],
            "steps": 6,
            "validations": 2,
            "grids": [1, 2],
            "horizon": 2,
            "overrides": ["model.depth=1"],
        }
    },
}


class Started(list):
    """The words of every ``train.py`` that was started; each is trained in this process."""

    def launch(self, trainer, words, log):
        self.append(list(words))
        given = dict(word.split("=", 1) for word in words)
        if "resume" in given:
            config = json.loads((Path(given["resume"]) / "config.json").read_text())
            train({**config, "resume": given["resume"]})
        else:
            own = [w for w in words if w.split("=")[0] not in ("run_id", "hydra.run.dir")]
            folder = given["hydra.run.dir"]
            config = {**planning.compose("train", own), "run_dir": folder}
            (Path(folder) / "config.json").write_text(json.dumps(config))
            train(config)
        log.write_text("trained")
        return 0, 1.5, 100.0


class AtOnce:
    """An executor that works in the main thread, where training may take over Ctrl-C."""

    def __init__(self, jobs):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, cancel_futures):
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the tiny claims were put to the test once."""
    folder = tmp_path_factory.mktemp("claims")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        started = _move(patch, folder)
        _register_resolvers()
        OmegaConf.save(OmegaConf.create(TINY), folder / "tiny.yaml")
        command.main(["claims=tiny.yaml", "name=tiny", "jobs=1"])
        yield folder, started
    torch.set_num_threads(threads)


def _move(patch, folder):
    started = Started()
    patch.chdir(folder)
    patch.setenv("PDESURROGATE_RUN_ID", "test")
    patch.setattr(record, "RESULTS", folder / "results")
    patch.setattr(page, "PAGE", folder / "docs" / "results.md")
    (folder / "README.md").write_text(f"{page.BEGIN}\n{page.END}\n", encoding="utf-8")
    patch.setattr(page, "README", folder / "README.md")
    patch.setattr("pdesurrogate.training.forecasts.draw_forecast", lambda *given: None)
    patch.setattr(running, "ThreadPoolExecutor", AtOnce)
    patch.setattr(running.Trainer, "_launch", lambda self, words, log: started.launch(self, words, log))
    return started


def recorded(folder):
    return json.loads((folder / "results" / "claims" / "tiny.json").read_text())


def test_every_arm_is_trained_with_every_seed_for_the_same_number_of_steps(place):
    folder, _ = place
    runs = recorded(folder)["runs"]
    assert sorted((run["arm"], run["seed"]) for run in runs) == [
        (arm, seed) for arm in ("finer", "fno") for seed in (0, 1)
    ]
    assert {run["steps"] for run in runs} == {6}
    assert len({json.dumps(run["errors"]) for run in runs}) == 4


def test_every_validation_is_recorded_with_its_steps(place):
    folder, _ = place
    for run in recorded(folder)["runs"]:
        assert [steps for steps, _ in run["validated"]] == [3, 6]
        best = min(error for _, error in run["validated"])
        assert best == pytest.approx(run["validation"]["valid/relative_l2"], rel=1e-3)


def test_the_matched_arm_has_the_size_of_the_other(place):
    folder, _ = place
    sizes = {run["arm"]: run["parameters"] for run in recorded(folder)["runs"]}
    assert 0.7 < sizes["finer"] / sizes["fno"] < 1.3
    widths = {w for run in recorded(folder)["runs"] for w in run["overrides"] if w.startswith("model.width")}
    assert widths == {"model.width=4", "model.width=3"}


def test_errors_are_kept_for_every_sample_grid_and_protocol(place):
    folder, _ = place
    found = recorded(folder)
    for run in found["runs"]:
        assert set(run["errors"]) == {"1", "2"}
        for errors in run["errors"].values():
            measures = ("one_step", "rollout", "correlation_time")
            assert all(len(errors[measure]["vorticity"]) == 3 for measure in measures)
            assert all(0 < time <= 2 for time in errors["correlation_time"]["vorticity"])  # two frames, dt 1
    assert len(found["sets"]["flow"]["persistence"]["1"]["rollout"]["vorticity"]) == 3
    assert found["machine"]["processor"]
    assert found["command"] == "python -m benchmarks.claims claims=tiny.yaml name=tiny jobs=1"
    text = (folder / "results" / "claims" / "tiny.json").read_text()
    assert max(map(len, text.splitlines())) < 800
    assert len(text.splitlines()) < 400


def test_the_errors_are_those_of_the_packages_own_evaluation(place):
    from pdesurrogate.evaluation.plan import prepare
    from pdesurrogate.evaluation.run import run as evaluate

    folder, _ = place
    artifact = next((folder / "runs" / "claims" / "tiny-cpu").glob("fno-flow-0-*/artifact.pt"))
    config: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "evaluate.yaml"))
    config |= {"artifact": str(artifact), "resolutions": [32], "horizon": 2, "metrics": [], "solver": False}
    config |= {"batch_size": 2, "device": "cpu"}
    found = evaluate(prepare(config), config)
    run = next(r for r in recorded(folder)["runs"] if (r["arm"], r["seed"]) == ("fno", 0))
    for factor, grid in (("1", (16, 16)), ("2", (32, 32))):
        for measure, estimate in (("one_step", found.one_step), ("rollout", found.rollout)):
            own = run["errors"][factor][measure]["vorticity"]
            assert own == pytest.approx(estimate(found.main, grid).samples.tolist(), rel=1e-3)


def test_the_page_says_what_came_out(place):
    folder, _ = place
    text = (folder / "docs" / "results.md").read_text()
    assert "## Tiny, scale cpu: partly" in text
    assert "- **Reproduced**: An FNO is as good on a finer grid. Ratio of rollout 1 (1 to 1)" in text
    assert "- **Not**: More modes are a thousand times better. Ratio of one step" in text
    assert "| persistence |" in text
    assert "2 s |" in text  # of CPU time
    assert "An FNO is as good on a finer grid | **reproduced**" in (folder / "README.md").read_text()


def test_what_is_finished_is_not_trained_or_tested_again(place, monkeypatch):
    folder, started = place
    before = recorded(folder)
    trained = len(started)
    command.main(["claims=tiny.yaml", "name=tiny", "jobs=1"])
    assert len(started) == trained == 4
    after = recorded(folder)
    assert after["runs"] == before["runs"]
    assert after["sets"] == before["sets"]


def test_an_interrupted_run_goes_on_and_ends_with_the_same_errors(place):
    folder, started = place
    before = recorded(folder)
    (victim,) = (folder / "runs" / "claims" / "tiny-cpu").glob("fno-flow-1-*")
    (victim / "artifact.pt").unlink()
    for kept in victim.glob("errors-*.json"):
        kept.unlink()
    started.clear()
    command.main(["claims=tiny.yaml", "name=tiny", "jobs=1"])
    assert started == [[f"resume={victim.relative_to(folder)}"]]
    after = recorded(folder)
    assert [run["errors"] for run in after["runs"]] == [run["errors"] for run in before["runs"]]
    costs = {(run["arm"], run["seed"]): run["cpu_seconds"] for run in after["runs"]}
    assert costs["fno", 1] == 3.0  # both attempts
    assert costs["fno", 0] == 1.5


def test_other_settings_make_another_run(place):
    folder, _ = place
    file = schema.load("tiny.yaml")
    sets = planning.open_sets(file, "cpu", "cpu")
    changed = OmegaConf.create(TINY)
    changed.scales.cpu.overrides = ["model.depth=2"]
    (folder / "other").mkdir()
    OmegaConf.save(changed, folder / "other" / "tiny.yaml")
    old = planning.plan_runs(file, "cpu", sets)
    new = planning.plan_runs(schema.load("other/tiny.yaml"), "cpu", sets)
    assert all(running.is_finished(run) for run in old)
    assert not any(running.is_finished(run) for run in new)


def test_steps_are_counted_by_the_windows_of_an_arms_own_unroll(place):
    config = planning.compose("train", planning.set_overrides(schema.load("tiny.yaml"), "cpu", "flow"))
    assert planning.num_windows(config) == 4 * 3
    config["unroll"] = {"kind": "k_step", "num_steps": 3}
    assert planning.num_windows(config) == 4 * 1


def test_a_plan_trains_nothing(place, capsys):
    _, started = place
    started.clear()
    command.main(["claims=tiny.yaml", "plan=true"])
    assert started == []
    assert "fno on flow, seed 1: 539 parameters, 6 steps" in capsys.readouterr().out


def test_rollouts_longer_than_the_trajectories_are_refused_before_training(place):
    folder, started = place
    started.clear()
    long = OmegaConf.create(TINY)
    long.scales.cpu.horizon = 4
    long.sets.flow.overrides = [*TINY_DATA, "data.root=data/generated/claims/tiny-cpu-flow"]
    OmegaConf.save(long, folder / "long.yaml")
    with pytest.raises(OptionError, match=r"scales\.cpu\.horizon is 4; .* the 4 frames of flow are too few"):
        command.main(["claims=long.yaml"])
    assert started == []


def test_data_made_with_other_options_are_kept_unless_the_user_says_overwrite(place):
    folder, _ = place
    other = OmegaConf.create(TINY)
    root = "data.root=data/generated/claims/shared"
    for seed, words in ((0, []), (1, []), (1, ["overwrite=true"])):
        other.sets.flow.overrides = [*TINY_DATA, root, f"data.generator.seed={seed}"]
        OmegaConf.save(other, folder / "shared.yaml")
        command_words = ["claims=shared.yaml", "plan=true", *words]
        if (seed, words) == (1, []):
            with pytest.raises(ValueError, match="Give overwrite=true"):
                command.main(command_words)
        else:
            command.main(command_words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_scale_for_gpus_asks_for_one(place):
    folder, _ = place
    large = OmegaConf.create(TINY)
    large.scales.gpu = large.scales.cpu
    OmegaConf.save(large, folder / "large.yaml")
    with pytest.raises(ValueError, match="sees no GPU here"):
        command.main(["claims=large.yaml", "scale=gpu"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["claim=tiny"], "no option 'claim'. Did you mean 'claims'"),
        (["claims=tiny.yaml", "scale=gpu"], "tiny has no scale 'gpu'"),
        (["claims=tiny.yaml", "jobs=0"], "jobs is 0; it must be at least 1"),
        (["claims=tiny.yaml", "device=gpu"], "device is 'gpu'"),
        (["claims=tiny.yaml", "name=../x"], "it becomes a file name"),
    ],
)
def test_a_bad_option_is_answered_with_a_sentence(place, words, message):
    with pytest.raises(OptionError, match=message.replace(".", r"\.")):
        command.main(words)


@pytest.fixture
def one_run(tmp_path, place):
    """A run in a folder of its own."""
    file = schema.load("tiny.yaml")
    return planning.plan_runs(file, "cpu", planning.open_sets(file, "cpu", "cpu"), folder=tmp_path)[0]


def real_trainer(monkeypatch, **options):
    """Return a trainer that starts processes."""
    monkeypatch.setattr(running.Trainer, "_launch", LAUNCH)
    monkeypatch.setattr(running, "ThreadPoolExecutor", ThreadPoolExecutor)
    return running.Trainer(1, 1, **options)


def test_ctrl_c_lets_the_runs_save_and_the_same_call_goes_on(one_run, monkeypatch):
    longer = planning.merged(one_run.overrides, ["trainer.max_epochs=40", "trainer.validate_every=10"])
    run = replace(one_run, overrides=longer)
    last = run.folder / "checkpoints" / "last.ckpt"

    def press():
        while not last.is_file():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    told = []
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        real_trainer(monkeypatch, tell=told.append).train([run])
    assert not running.is_finished(run)
    assert "nothing is lost" in (run.folder / "console.log").read_text()
    real_trainer(monkeypatch, tell=told.append).train([run])
    assert running.is_finished(run)
    assert len(told) == 1
    attempts = json.loads((run.folder / running.COSTS).read_text())
    assert len(attempts) == 2
    assert all(attempt["cpu_seconds"] > 0 for attempt in attempts)


def test_a_run_that_fails_ends_the_command_with_its_own_words(one_run, monkeypatch):
    def launch(self, words, log):
        log.write_text("error: 99 modes do not fit.\n")
        return 1, 1.0, 1.0

    monkeypatch.setattr(running.Trainer, "_launch", launch)
    with pytest.raises(running.RunFailedError, match=r"fno on flow, seed 0 failed(.|\n)*99 modes do not fit"):
        running.Trainer(1, 1).train([one_run])
