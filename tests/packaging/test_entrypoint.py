"""The container's entrypoint: which process it becomes, with which variables."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def entrypoint(tmp_path, repository):
    """Run the entrypoint with stand-ins that print how they were called; returns (arguments, variables)."""
    bash = shutil.which("bash")
    for name in ("pdesurrogate", "torchrun"):
        fake = tmp_path / name
        lines = [f"#!{bash}", f'printf "%s\\n" {name} "$@"', "echo ---"]
        lines += [f'echo "{variable}=${{{variable}:-}}"' for variable in RANKS]
        fake.write_text("\n".join(lines) + "\n")
        fake.chmod(0o755)

    def run(*arguments, **environment):
        done = subprocess.run(
            [bash, str(repository / "docker" / "entrypoint.sh"), *arguments],
            env={"PATH": f"{tmp_path}{os.pathsep}{os.defpath}", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return done.returncode, done.stderr
        called, _, variables = done.stdout.partition("---\n")
        values = dict(line.split("=", 1) for line in variables.splitlines())
        return called.splitlines(), {k: v for k, v in values.items() if v}

    return run


def test_alone_it_is_the_console_command_with_its_arguments_untouched(entrypoint):
    called, variables = entrypoint("train", "model=fno", "optim.lr=1e-3", "a=[1, 2]")
    assert called == ["pdesurrogate", "train", "model=fno", "optim.lr=1e-3", "a=[1, 2]"]
    assert variables == {}


def test_with_several_processes_training_goes_through_torchrun(entrypoint):
    called, _ = entrypoint("train", "model=fno", NPROC="4")
    expected = "torchrun --nproc-per-node 4 --no-python --standalone pdesurrogate train model=fno"
    assert called == expected.split()


@pytest.mark.parametrize("nproc", ["1", ""])
def test_one_process_needs_no_torchrun(entrypoint, nproc):
    assert entrypoint("train", NPROC=nproc)[0][0] == "pdesurrogate"


@pytest.mark.parametrize("command", ["generate", "evaluate", "--help"])
def test_only_training_is_spread_over_processes(entrypoint, command):
    assert entrypoint(command, NPROC="4")[0] == ["pdesurrogate", command]


def test_several_machines_meet_at_the_named_one(entrypoint):
    called, _ = entrypoint("train", NPROC="2", NNODES="3", NODE_RANK="1", MASTER_ADDR="first")
    expected = (
        "torchrun --nproc-per-node 2 --no-python --nnodes 3 --node-rank 1 --master-addr first "
        "--master-port 29500 pdesurrogate train"
    )
    assert called == expected.split()


def test_several_machines_without_a_meeting_point_are_refused(entrypoint):
    code, message = entrypoint("train", NPROC="2", NNODES="3")
    assert code == 2
    assert "needs MASTER_ADDR" in message


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node[03-05,9]", "node03"),
        ("node[7,9]", "node7"),
        ("node[12]", "node12"),
        ("alpha,beta", "alpha"),
        ("alpha", "alpha"),
        ("rack-1-[08-12],other", "rack-1-08"),
    ],
)
def test_a_slurm_task_gets_pytorchs_variables(entrypoint, nodes, first):
    called, variables = entrypoint(
        "train",
        "trainer=ddp",
        SLURM_PROCID="5",
        SLURM_LOCALID="1",
        SLURM_STEP_NUM_TASKS="8",
        SLURM_JOB_ID="41234",
        SLURM_JOB_NODELIST=nodes,
        NPROC="4",
    )
    assert called == ["pdesurrogate", "train", "trainer=ddp"]
    assert variables == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": first,
        "MASTER_PORT": "21234",
    }


def test_a_given_meeting_point_wins_over_slurms_first_node(entrypoint):
    given = {"MASTER_ADDR": "elsewhere", "MASTER_PORT": "1234"}
    _, variables = entrypoint(
        "train", SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="2", SLURM_JOB_NODELIST="n[1-2]", **given
    )
    assert given.items() <= variables.items()


def test_a_single_slurm_task_runs_alone(entrypoint):
    assert entrypoint("train", SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="1")[1] == {}


def test_any_other_command_follows_two_dashes(entrypoint):
    assert entrypoint("--", "torchrun", "--version")[0] == ["torchrun", "--version"]


def test_the_exit_code_is_that_of_the_command(entrypoint):
    code, _ = entrypoint("--", "bash", "-c", "exit 7")
    assert code == 7
