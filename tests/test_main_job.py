"""The main job as a user types it: generate, train, evaluate on new grids, read the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray

ROOT = Path(__file__).resolve().parents[1]
SMALL_SET = [
    "data.generator.solve_grid=32",
    "data.generator.grid=32",
    "data.generator.num_frames=5",
    "data.generator.num_trajectories.train=4",
    "data.generator.num_trajectories.valid=2",
    "data.generator.num_trajectories.test=2",
]
SMALL_RUN = ["data.grid=16", "data.batch_size=4", "trainer.max_epochs=2", "model.width=8"]


def run(folder: Path, script: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PDESURROGATE_RUN_ID"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    run(folder, "data/generate.py", "data=navier_stokes", *SMALL_SET)
    run(folder, "train.py", "experiment=quickstart_fno", *SMALL_RUN, "model.num_modes=6", "run_id=fno")
    run(folder, "train.py", "experiment=quickstart_unet", *SMALL_RUN, "run_id=unet")
    return folder


def test_the_generated_files_open_in_xarray(workplace):
    with xarray.open_dataset(workplace / "data" / "generated" / "navier_stokes" / "train.h5") as data:
        assert data["vorticity"].dims == ("trajectory", "time", "y", "x")
        assert data["time"].values.tolist() == [1, 2, 3, 4, 5]
        assert "equation" in data.attrs


def test_the_last_line_says_where_the_report_is_and_what_the_errors_were(workplace):
    output = run(
        workplace,
        "evaluate.py",
        "artifact=runs/fno/artifact.pt",
        "compare=[runs/unet/artifact.pt]",
        "resolutions=[16,24,32]",
        "horizon=4",
    )
    last = output.strip().splitlines()[-1]
    assert last.startswith("Report: runs/fno/evaluation/report.html")
    assert "rollout" in last
    assert "32x32" in last
    numbers = json.loads((workplace / "runs" / "fno" / "evaluation" / "metrics.json").read_text())
    grids = {tuple(result["grid"]) for result in numbers["results"]}
    assert grids == {(16, 16), (24, 24), (32, 32)}
    assert (workplace / "runs" / "fno" / "evaluation" / "report.html").stat().st_size > 20_000
    # Nothing but the set, the runs and what was asked for is left behind.
    assert sorted(p.name for p in workplace.iterdir()) == ["data", "runs"]


def test_a_sweep_trains_every_value_in_a_folder_of_its_own(workplace):
    overrides = [*SMALL_RUN[:2], "model.num_modes=4", "model.depth=1", "trainer.max_epochs=1", "run_id=sweep"]
    run(workplace, "train.py", "--multirun", *overrides, "model.width=2,3")
    found = sorted(p.parent.name for p in (workplace / "runs" / "sweep").glob("*/artifact.pt"))
    assert found == ["0", "1"]


def test_a_finished_run_can_be_trained_longer(workplace):
    overrides = [*SMALL_RUN[:2], "model.width=4", "model.num_modes=4", "model.depth=1", "run_id=longer"]
    run(workplace, "train.py", *overrides, "trainer.max_epochs=1")
    output = run(workplace, "train.py", "resume=runs/longer", "trainer.max_epochs=2")
    assert "epoch 2/2" in output
    assert "epoch 1/2" not in output
