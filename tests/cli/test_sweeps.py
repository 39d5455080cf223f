"""Sweeps through the command line, in this process; what is trained is a parabola in the learning rate."""

import csv
import math
import os
import shutil
import sys
from types import ModuleType

import pytest
from hydra import compose, initialize_config_dir

from pdesurrogate import cli
from pdesurrogate.sweeps.study import Study, interval

LR = ("sweep=lr", "optim.lr=1e-4,1e-3,1e-2")
THREE_TRIALS = ("hydra.sweeper.num_trials=3", "hydra.sweeper.random_trials=3")


class Trainer:
    """Stands for training: keeps what it was asked for, and can be killed."""

    def __init__(self):
        self.asked = []
        self.killed_at = self.breaks_at = self.refuses_width = None

    def train(self, config):
        width = config["model"]["width"]
        self.asked.append(config)
        if len(self.asked) - 1 == self.killed_at:
            checkpoints = os.path.join(config["run_dir"], "checkpoints")  # noqa: PTH118 (as training writes it)
            os.makedirs(checkpoints)  # noqa: PTH103
            open(os.path.join(checkpoints, "last.ckpt"), "w").close()  # noqa: PTH118, PTH123
            raise KeyboardInterrupt
        if len(self.asked) - 1 == self.breaks_at:
            raise RuntimeError("broken")
        if width == self.refuses_width:
            raise ValueError(f"width {width} is refused")
        return (math.log10(config["optim"]["lr"]) + 3) ** 2 + 1 / width


@pytest.fixture
def trainer(monkeypatch):
    found = Trainer()
    module = ModuleType("parabola")
    module.train = found.train
    monkeypatch.setitem(sys.modules, "parabola", module)
    monkeypatch.setitem(cli.COMMANDS, "train", ("parabola:train", ""))
    return found


@pytest.fixture
def command(monkeypatch, tmp_path, trainer):
    """Run ``train.py`` with some arguments; return the folder of the sweep and its summary."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        for name in ("PDESURROGATE_RUN_ID", "HYDRA_FULL_ERROR"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *quiet])
        cli.run("train")
        (folder,) = (tmp_path / "runs").iterdir()
        with (folder / "summary.csv").open() as file:
            return folder, list(csv.DictReader(file))

    return run


def test_a_grid_ends_in_a_table_with_the_best_run_first(command, trainer, capsys):
    folder, rows = command(*LR, "model.width=4")
    assert folder.name.startswith("lr-")
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["optim.lr"]) == 1e-3
    assert [float(r["score"]) for r in rows] == sorted(float(r["score"]) for r in rows)
    assert {c["run_dir"] for c in trainer.asked} == {str(folder / str(n)) for n in range(3)}
    assert len({c["run_id"] for c in trainer.asked}) == 1  # the group of W&B
    printed = capsys.readouterr().out.splitlines()
    assert f"Best: runs/{folder.name}/{rows[0]['run']}" in printed


def test_the_same_command_goes_on_with_a_grid_where_it_was_killed(command, trainer, capsys):
    trainer.killed_at = 1
    with pytest.raises(SystemExit):
        command(*LR)
    trainer.killed_at = None
    folder, rows = command(*LR)
    assert [os.path.basename(c["run_dir"]) for c in trainer.asked] == list("0112")  # noqa: PTH119
    assert [c["resume"] for c in trainer.asked] == [None, None, f"runs/{folder.name}/1", None]
    assert len(rows) == 3
    command(*LR)
    assert len(trainer.asked) == 4  # there was nothing left to do


def test_values_on_the_command_line_are_a_grid_too_and_a_refused_run_stops_no_other(command, trainer, capsys):
    trainer.refuses_width = 2
    with pytest.raises(SystemExit):
        command("--multirun", "model.width=2,4", "run_id=mine")
    assert len(trainer.asked) == 2
    assert "width 2 is refused" in capsys.readouterr().err
    trainer.refuses_width = None
    _, rows = command("--multirun", "model.width=2,4", "run_id=mine")
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert len(trainer.asked) == 3  # the one that was refused is run again


def test_another_sweep_in_the_folder_of_one_is_refused(command, trainer, capsys):
    command("--multirun", "model.width=2,4", "run_id=mine")
    with pytest.raises(SystemExit):
        command("--multirun", "model.width=3,4", "run_id=mine")
    assert (
        "holds another sweep: run 0 has model.width=2 there and model.width=3 here" in capsys.readouterr().err
    )


def test_a_study_keeps_finished_trials_and_repeats_the_killed_one(command, trainer, capsys):
    pytest.importorskip("optuna")
    trainer.killed_at = 1
    with pytest.raises(SystemExit):
        command("sweep=optuna", *THREE_TRIALS)
    trainer.killed_at = None
    folder, rows = command("sweep=optuna", *THREE_TRIALS)
    first, killed, again, *rest = trainer.asked
    assert (killed["optim"], killed["model"]) == (again["optim"], again["model"])
    assert again["resume"] == f"runs/{folder.name}/1"
    assert again["pruning"] == killed["pruning"]
    assert again["pruning"]["trial"] == 1
    rates = {c["optim"]["lr"] for c in (first, again, *rest)}
    assert len(rates) == 3
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert sorted(row["run"] for row in rows) == list("012")
    assert float(rows[0]["score"]) == min(float(row["score"]) for row in rows)
    command("sweep=optuna", *THREE_TRIALS)
    assert len(trainer.asked) == 4


def test_a_study_is_repeatable_and_an_interrupted_one_does_not_propose_the_same_again(tmp_path):
    pytest.importorskip("optuna")
    proposed = []
    for name in ("first", "second", "second"):
        (tmp_path / name).mkdir(exist_ok=True)
        study = Study(tmp_path / name, {"lr": interval(1e-4, 1e-2, ["log"])}, seed=3, random_trials=6)
        proposed.append([study.ask()[1]["lr"] for _ in range(2)])
    assert proposed[0] == proposed[1]
    assert not set(proposed[1]) & set(proposed[2])
    assert [number for number, _ in study.interrupted()] == [0, 1, 2, 3]


def test_other_ranges_are_another_study(tmp_path):
    pytest.importorskip("optuna")
    Study(tmp_path, {"lr": interval(1, 2, [])}, seed=0, random_trials=6).ask()
    with pytest.raises(ValueError, match=r"study.db is of other options or ranges: lr in IntDistribution"):
        Study(tmp_path, {"lr": interval(1, 3, [])}, seed=0, random_trials=6)
    with pytest.raises(ValueError, match=r"unknown tag 'logarithm'. Allowed: log"):
        interval(1, 3, ["logarithm"])


def test_a_study_whose_first_trial_is_refused_stops_and_goes_on_with_it(command, trainer, capsys):
    pytest.importorskip("optuna")
    terms = ("sweep=optuna", "model.width=4", "hydra.sweeper.num_trials=1")
    trainer.refuses_width = 4
    with pytest.raises(SystemExit):
        command(*terms)
    said = capsys.readouterr()
    assert "No run has come to its end." in said.out
    assert "width 4 is refused" in said.err
    trainer.refuses_width = None
    _, rows = command(*terms)
    assert [(row["run"], row["state"]) for row in rows] == [("0", "finished")]
    assert trainer.asked[0]["optim"] == trainer.asked[1]["optim"]


def test_without_optuna_a_study_says_how_to_get_it(command, trainer, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit):
        command("sweep=optuna")
    assert "pip install 'pdesurrogate[sweep]'" in capsys.readouterr().err
    assert trainer.asked == []


def test_a_run_that_breaks_stops_no_other_and_is_told_at_the_end(command, trainer, capsys, tmp_path):
    trainer.breaks_at = 0
    with pytest.raises(RuntimeError, match="broken"):
        command("--multirun", "model.width=2,4", "run_id=mine")
    with (tmp_path / "runs" / "mine" / "summary.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["finished", "failed"]


@pytest.mark.parametrize(
    "started", [{"LOCAL_RANK": "1"}, {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}]
)
def test_a_sweep_of_several_processes_is_started_by_one(command, trainer, capsys, monkeypatch, started):
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        command(*LR)
    assert "a sweep starts the processes of its runs itself" in capsys.readouterr().err
    assert trainer.asked == []


@pytest.mark.parametrize("sweep", [("sweep=lr", "optim.lr=1e-4,1e-3"), ("sweep=optuna", *THREE_TRIALS)])
def test_a_run_of_a_sweep_is_resumed_alone(command, trainer, monkeypatch, sweep):
    if sweep[0] == "sweep=optuna":
        pytest.importorskip("optuna")
    folder, rows = command(*sweep)
    before = trainer.asked[1]
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    monkeypatch.setattr(sys, "argv", ["train.py", f"resume=runs/{folder.name}/1", *quiet])
    cli.run("train")
    after = trainer.asked[len(rows) :]
    asked = {"resume": f"runs/{folder.name}/1", "pruning": None}  # a study has its score already
    assert after == [before | asked]


def test_a_run_of_an_array_of_jobs_is_resumed_as_a_job(command, monkeypatch):
    folder, _ = command("sweep=lr", "optim.lr=1e-4,1e-3")
    saved = folder / "1" / ".hydra" / "overrides.yaml"
    saved.write_text(f"{saved.read_text()}- cluster=slurm\n")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["train.py", f"resume=runs/{folder.name}/1"])
    cli._prepare_arguments("train")
    with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        config = compose("train", overrides=sys.argv[1:], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.hydra.sweeper.params is None
    assert (config.hydra.sweep.dir, config.hydra.sweep.subdir) == (f"runs/{folder.name}/1", ".")
    assert config.optim.lr == 1e-3
