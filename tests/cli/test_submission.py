"""What is settled before anything goes to a cluster, and what a process learns from those that started it."""

from __future__ import annotations

import pickle
import shutil
import signal
import sys
from pathlib import Path

import pytest

from pdesurrogate.cli import Refusals, _prepare_arguments, conf_dir
from pdesurrogate.launch import leave_to_launcher, local_rank, rank_and_size, run_id, was_restarted
from pdesurrogate.submission import submission_overrides

ON_SLURM = ("cluster=slurm", "run_id=test")


@pytest.fixture
def login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with SLURM's commands."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")


def overrides(*arguments: str) -> list[str]:
    return submission_overrides("train", arguments, conf_dir())


@pytest.mark.usefixtures("login_node")
def test_a_training_without_a_sweep_keeps_the_run_folder_and_the_jobs_of_a_sweep_get_their_own() -> None:
    assert overrides(*ON_SLURM) == ["hydra.sweep.subdir=."]
    assert overrides("-m", *ON_SLURM, "model.width=[2],[3]") == []


@pytest.mark.parametrize(
    "arguments", [(), ("cluster=local",), (*ON_SLURM, "--help"), (*ON_SLURM, "--cfg", "job")]
)
def test_what_submits_nothing_needs_no_cluster(arguments: tuple[str, ...]) -> None:
    assert overrides(*arguments) == []


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("cluster.nodes=0", r"cluster\.nodes is 0; it must be an integer from 1 upwards"),
        ("cluster.minutes=2:00:00", r"cluster\.minutes is '2:00:00'; it must be an integer"),
        ("cluster.signal_seconds=3600", "no time is left to work in before the signal"),
        ("cluster.setup=module load cuda", r"cluster\.setup is 'module load cuda'; it must be a list"),
        ("trainer.devices=3", r"cluster\.devices is 1 and trainer\.devices 3\. Give cluster\.devices alone"),
        ("trainer.num_nodes=1,2", r"trainer\.num_nodes cannot be swept on a cluster"),
    ],
)
@pytest.mark.usefixtures("login_node")
def test_a_job_that_cannot_be_is_refused_before_it_is_submitted(argument: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        overrides(*ON_SLURM, argument)


def test_a_machine_without_slurm_is_told_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "srun" else name)
    with pytest.raises(ValueError, match="cluster=slurm needs srun, which this machine does not have"):
        overrides(*ON_SLURM)


def test_a_job_elsewhere_finds_nobody_to_collect_its_refusals() -> None:
    assert pickle.loads(pickle.dumps(Refusals([ValueError("refused")]))) is None


def set_only(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    monkeypatch.delenv("PDESURROGATE_RUN_ID", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_every_srun_of_a_batch_script_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for step, expected in ((0, "slurm-7"), (1, "slurm-7-1")):
        set_only(monkeypatch, SLURM_JOB_ID=7, SLURM_STEP_ID=step)
        assert run_id() == expected


def test_torchrun_inside_a_job_counts_before_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    set_only(monkeypatch, SLURM_STEP_ID=0, SLURM_PROCID=1, SLURM_STEP_NUM_TASKS=2, SLURM_LOCALID=0)
    assert (*rank_and_size(), local_rank()) == (1, 2, 0)
    set_only(monkeypatch, RANK=5, WORLD_SIZE=8, LOCAL_RANK=1)
    assert (*rank_and_size(), local_rank()) == (5, 8, 1)


@pytest.mark.parametrize("count", ["SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_process_knows_that_it_was_started_again(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    assert not was_restarted()
    for value in (0, 1):
        set_only(monkeypatch, **{count: value})
        assert was_restarted() == bool(value)


def test_a_job_that_is_queued_again_may_go_on_in_the_folder_of_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "mine" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "run_id=mine"])
    with pytest.raises(ValueError, match="runs/mine already holds a run"):
        _prepare_arguments("train")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    _prepare_arguments("train")


def test_a_second_training_of_a_batch_script_does_not_write_over_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "slurm-7" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["run_id=slurm-7"]):
        set_only(monkeypatch, SLURM_JOB_ID=7)
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(ValueError, match="runs/slurm-7 already holds a run"):
            _prepare_arguments("train")
    for arguments in (["run_id=other"], ["--help"]):
        set_only(monkeypatch, SLURM_JOB_ID=7)
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        _prepare_arguments("train")


def test_a_signal_that_was_answered_is_left_to_the_handler_that_stood_before() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda signum, frame: seen.append(signum))
    try:
        leave_to_launcher("SIGUSR2")
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        leave_to_launcher("SIGUSR2")  # does not end this process
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [signal.SIGUSR2]
