"""The command line as a user meets it, in processes of its own."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, cwd: Path, script: str = "train.py", **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )


def fastest(*arguments: str, cwd: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run three times and take the least time of the processor, so that a busy machine does not decide."""
    times = []
    for _ in range(3):
        started = processor_time_of_children()
        result = run(*arguments, cwd=cwd)
        times.append(processor_time_of_children() - started)
    return min(times), result


def processor_time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_answers_in_under_two_seconds_and_lists_the_groups(tmp_path):
    seconds, result = fastest("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert seconds < 2
    for group in ("data:", "model:", "optim:", "unroll:", "logger:"):
        assert group in result.stdout


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model=fnoo", "unknown model 'fnoo'. Did you mean 'fno'? Available: "),
        (
            "data=navier_stokes/decay_smal",
            "unknown data/navier_stokes 'decay_smal'. Did you mean 'decay_small'? Available: decay, decay_small, ",
        ),
        ("model.widht=3", "there is no option 'widht' in 'model'. Did you mean 'width'?"),
        ("+model.widht=3", "model=fno has no option 'widht'. Did you mean 'width'?"),
        ("modle=fno", "there is no option 'modle'. Did you mean 'model'?"),
        ("optim.learning_rate=1", "there is no option 'learning_rate' in 'optim'."),
        ("logger=wanb", "unknown logger 'wanb'. Did you mean 'wandb'?"),
        ("trainer.strategy=fdsp", "trainer.strategy is 'fdsp'. Did you mean 'fsdp'?"),
        ("trainer.precision=16-mixed", "trainer.precision is '16-mixed'. Did you mean 'bf16-mixed'?"),
        ("trainer.devices=3", "3 share a batch out"),
    ],
)
def test_a_configuration_error_is_one_sentence_in_under_two_seconds(override, sentence, tmp_path):
    seconds, result = fastest(override, cwd=tmp_path)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert seconds < 2
    assert not (tmp_path / "runs").exists() or "+" in override or "trainer." in override


def test_an_option_of_a_section_that_is_not_chosen_gets_the_nearest_name_outside(tmp_path):
    result = run("artifact=a.pt", "data.root=nowhere", cwd=tmp_path, script="evaluate.py")
    assert result.returncode == 1
    assert "in 'data', of which none is chosen: add data=NAME. Did you mean 'data_root'?" in result.stderr


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (["experiment=factformer_darcy"], "data=darcy/li_141"),
        (["data=smoke/plume_video_small"], "data=smoke/plume_video_small"),
        (
            ["data.root=no where", "data.grid=8", "data.generator.num_trajectories={test: 2}"],
            "data=navier_stokes 'data.root=no where' 'data.generator.num_trajectories={test: 2}'",
        ),
    ],
)
def test_a_missing_data_set_says_how_to_make_it(overrides, command, tmp_path):
    result = run(*overrides, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith(f". To make the files, run: python data/generate.py {command}\n")
    assert "Traceback" not in result.stderr


def test_resuming_what_is_no_run_is_refused(tmp_path):
    result = run("resume=runs/nothing", cwd=tmp_path)
    assert result.returncode == 1
    assert "there is no run in that folder" in result.stderr


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "runs" / "mine" / "checkpoints").mkdir(parents=True)
    result = run("run_id=mine", cwd=tmp_path)
    assert result.returncode == 1
    assert "resume=runs/mine" in result.stderr
    assert [p.name for p in (tmp_path / "runs" / "mine").iterdir()] == ["checkpoints"]


def test_the_console_command_lists_its_commands_and_knows_near_names(tmp_path):
    def console(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from pdesurrogate.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    listing = console("--help")
    assert listing.returncode == 0
    for command in ("generate", "train", "evaluate"):
        assert command in listing.stdout
    wrong = console("trian")
    assert wrong.returncode == 1
    assert "Did you mean 'train'?" in wrong.stderr
    assert console("--version").stdout.strip()


def test_full_errors_are_there_when_asked_for(tmp_path):
    result = run("data.root=nowhere", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert "Traceback" in result.stderr
