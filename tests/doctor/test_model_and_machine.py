import dataclasses
import os
import shutil
import subprocess
import sys

import pytest
import torch

from pdesurrogate.doctor import memory
from pdesurrogate.doctor.environment import look_at_environment
from pdesurrogate.doctor.memory import judge, look_at_memory, probe, request
from pdesurrogate.doctor.run import _open, examine


def sentences(findings, level="problem"):
    return [f"{f.subject}: {f.sentence}" for f in findings if f.level == level]


@pytest.fixture
def cured(write_set, healthy_frames, compose):
    """Compose a configuration for a healthy set."""
    write_set(healthy_frames)
    return compose


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.num_modes=12"], "12 modes"),
        (["+model.widht=3"], "Did you mean 'width'?"),
        (["model=unet", "+model.multipliers=[1,1,1,1,1]"], "needs a multiple of 16 points"),
        (["model=persistence"], "nothing to train"),
        (["trainer.devices=3"], "data.batch_size is 4, counted over all 3 processes"),
        (["optim.lr=-1"], "the learning rate must be positive"),
        (["augment.group=p5"], "Unknown point group 'p5'"),
        (["boosting.folds=1"], "folds"),
        (["data.horizon=9"], "at least 10 frames"),
        (
            ["data.horizon=9", "unroll=latent_marching"],
            "2 model steps of horizon=9 each and stride=1 need trajectories of at least 19 frames; there are 4. Lower "
            "data.horizon, unroll.pushes, data.history or data.stride.",
        ),
        (["trainer=gpu"], "PyTorch sees no GPU"),
    ],
)
def test_what_does_not_fit_is_told_before_training(cured, overrides, sentence, monkeypatch, as_users_run):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if overrides[0].startswith("model="):
        config = cured()
        name = overrides[0].removeprefix("model=")
        config["model"] = {"kind": name, **({"multipliers": [1] * 5} if name == "unet" else {})}
    else:
        config = cured(*overrides)
    assert any(sentence in text for text in sentences(examine(config)))


def test_the_grids_that_a_model_takes_are_told(cured):
    (found,) = [text for text in sentences(examine(cured()), "ok") if text.startswith("model")]
    assert "takes 8 x 8 (grids: any); the smallest such grid is 4 x 4." in found


def test_warnings_of_a_model_are_findings_and_not_said_twice(
    cured, write_set, healthy_frames, spec, caplog, tmp_path
):
    walls = tuple(dataclasses.replace(axis, boundary="wall") for axis in spec.axes)
    shutil.rmtree(tmp_path / "set")
    write_set(healthy_frames, spec=spec.replace(axes=walls))
    found = sentences(examine(cured()), "warning")
    assert any("padding is 0 and not every axis is periodic" in text for text in found)
    assert "padding" not in caplog.text


@pytest.mark.parametrize(
    ("environ", "overrides", "sentence"),
    [
        (
            {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"},
            ["trainer.devices=2"],
            "SLURM: job 7: SLURM_NTASKS is 1 and the trainer starts 2 (sbatch --ntasks=2)",
        ),
        ({"WORLD_SIZE": "4"}, ["trainer.devices=2"], "torchrun started 4 process(es)"),
        ({}, ["trainer.num_nodes=2"], "nothing starts processes on other machines"),
        (
            {"HOME": "/nonexistent"},
            ["logger=wandb", "logger.mode=online"],
            "W&B: logger.mode=online and nobody",
        ),
    ],
)
def test_the_machine_is_compared_with_what_is_asked_for(compose, environ, overrides, sentence):
    assert any(sentence in text for text in sentences(look_at_environment(compose(*overrides), environ)))


def test_a_machine_that_fits_has_no_problems(compose, tmp_path):
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password none\n")
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    config = compose("trainer.devices=2", "logger=wandb", "logger.mode=online")
    findings = look_at_environment(config, {**slurm, "HOME": str(tmp_path)})
    assert sentences(findings) == []
    assert {"SLURM", "W&B"} <= {f.subject for f in findings}


@pytest.mark.parametrize(
    ("count", "has_nccl", "level", "sentence"),
    [
        (2, True, "ok", "NCCL: version 2.27.5."),
        (2, False, "problem", "NCCL: several GPUs need NCCL and this torch is built without"),
        (1, True, "problem", "CUDA: trainer.devices asks for 2 GPUs a machine and there are 1"),
    ],
)
def test_gpus_are_counted_and_several_need_nccl(compose, monkeypatch, count, has_nccl, level, sentence):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: has_nccl)
    findings = look_at_environment(compose("trainer=gpu", "trainer.devices=2"), {})
    assert any(sentence in text for text in sentences(findings, level))


def test_memory_is_measured_in_a_process_of_its_own(cured):
    """A step holds at least its batch, the weights, their gradients and the two moments of Adam."""
    config = cured("model.width=24", "model.depth=2", "data.batch_size=256")
    data = _open(config)
    measured = probe(request(config, data, 256, None, "cpu"))
    one, two, many = measured["peaks"]
    assert one <= two < many
    assert many > 4 * 256 * 24 * 8 * 8  # one lifted field
    assert measured["seconds"] > 0
    found = judge(measured, 256, 2**40, 1, 10, config)
    assert found.level == "ok"
    assert "256 samples" in found.sentence
    assert judge(measured, 256, many - 1, 1, 10, config).level == "warning"


def test_a_batch_that_will_not_fit_is_not_tried(cured):
    config = cured()
    measured = probe(request(config, _open(config), 10**9, 1, "cpu"))
    assert len(measured["peaks"]) == 2
    mib = 2**20
    found = judge({"peaks": [100 * mib, 110 * mib]}, 64, 200 * mib, 2, 10, config)
    assert found.level == "problem"
    assert (
        "64 would take about 730 MiB and 200 MiB are free for each of 2 process(es). About 11 fit"
        in found.sentence
    )


def test_what_the_data_will_take_of_a_gpu_is_not_free_for_steps(cured, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**30, 2**31))
    monkeypatch.setattr(memory, "probe", lambda request: asked.append(request) or {"killed": -9})
    data = _open(cured())
    monkeypatch.setattr(data, "planned_on", lambda device: 2**29)
    look_at_memory(cured("trainer=gpu"), data)
    assert asked[0]["budget"] == int(0.9 * 2**29)

    def refuse(device):
        raise ValueError("cache=gpu needs 3 MiB")

    monkeypatch.setattr(data, "planned_on", refuse)
    assert sentences(look_at_memory(cured("trainer=gpu"), data)) == ["memory: cache=gpu needs 3 MiB"]


@pytest.mark.parametrize(
    ("returncode", "stderr", "sentence"),
    [
        (-9, "", "was killed for want of memory"),
        (137, "", "was killed for want of memory"),
        (
            1,
            "Traceback ...\nValueError: an option is wrong.\n",
            "a training step fails: ValueError: an option is wrong.",
        ),
    ],
)
def test_a_measurement_that_dies_or_fails_is_a_problem(cured, monkeypatch, returncode, stderr, sentence):
    done = subprocess.CompletedProcess([], returncode, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: done)
    found = judge(probe({}), 4, None, 1, 1, cured())
    assert found.level == "problem"
    assert sentence in found.sentence


def test_the_command_ends_with_exit_code_1_and_a_sentence(tmp_path, repository):
    code = "from pdesurrogate.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "data.root=nowhere", "measure_memory=false"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "PROBLEM  data: nowhere lacks" in done.stdout
    assert "error: 1 problem to mend before training" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []
