"""The same command on a cluster: submitted, interrupted, moved to another node, and ending with the same weights.

What waits in the cluster's queue waits at the same time: all trainings are submitted by one fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from submitting import Cluster, Training, until

pytestmark = pytest.mark.slurm
PATIENT = ("plugins=[patient]", "unroll.kind=patient")
ON_SLURM = ("cluster=slurm", "cluster.minutes=10")


@dataclass
class Trainings:
    """What was submitted."""

    alone: Training
    timed_out: Training
    lost: Training
    two_nodes: Training
    array: Training


@pytest.fixture(scope="module")
def trainings(
    cluster: Cluster, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trainings]:
    """Fill both nodes with jobs that will be interrupted, take one node away, and let the others queue."""
    place, data = tmp_path_factory.mktemp("trainings"), f"data.root={data_root}"
    limit = ("cluster=slurm", "cluster.minutes=1", "cluster.signal_seconds=1")
    container = place / "container"
    container.write_text('#!/bin/sh\ntouch entered\nexec "$@"\n')
    container.chmod(0o755)
    two_jobs = ("model.width=2,3", "trainer.max_epochs=1")
    around = ("cluster.setup=[touch prepared]", f"cluster.container=[{container}]")
    started = Trainings(
        alone=cluster.train(place / "alone", data),
        timed_out=cluster.train(place / "timed_out", data, *PATIENT, *limit, SECONDS_A_STEP="2"),
        lost=cluster.train(place / "lost", data, *PATIENT, *ON_SLURM, SECONDS_A_STEP="1"),
        two_nodes=cluster.train(place / "two", data, *ON_SLURM, "trainer=ddp", "cluster.nodes=2"),
        array=cluster.train(place / "array", data, *ON_SLURM, *two_jobs, *around),
    )
    try:
        until((started.lost.folder / "checkpoints" / "last.ckpt").is_file, "the first checkpoint")
        (job,) = started.lost.jobs
        node = cluster.node_of(job)
        cluster.tool("kill-node", node)
        until(lambda: "down" in cluster.ask("sinfo", "-h", "-n", node, "-o", "%T"), "the loss to be noticed")
        cluster.tool("revive-node", node)
        yield started
    finally:
        for training in vars(started).values():
            training.stop()


def test_two_nodes_end_with_the_weights_of_one_process(cluster: Cluster, trainings: Trainings) -> None:
    trainings.alone.end()
    cluster.end(trainings.two_nodes)
    for name, value in trainings.alone.weights.items():
        torch.testing.assert_close(trainings.two_nodes.weights[name], value, rtol=1e-4, atol=1e-6)
    # Both ranks worked in one run folder, and it is that of a training without a cluster.
    assert (trainings.two_nodes.folder / "artifact.pt").is_file()
    assert [path.name for path in trainings.two_nodes.folder.parent.iterdir()] == ["run"]
    logs = sorted(trainings.two_nodes.folder.glob("slurm/*/*_log.out"))
    assert [f"global_rank={rank}(2)" in log.read_text() for rank, log in enumerate(logs)] == [True, True]


def test_a_multirun_is_an_array_of_jobs_with_a_folder_each(cluster: Cluster, trainings: Trainings) -> None:
    cluster.end(trainings.array)
    (first, second) = trainings.array.jobs
    assert (first.rpartition("_")[::2], second.rpartition("_")[::2]) == ((first[:-2], "0"), (first[:-2], "1"))
    for number, width in enumerate((2, 3)):
        folder = trainings.array.folder / str(number)
        assert f"model.width={width}" in (folder / ".hydra" / "overrides.yaml").read_text()
        assert (folder / "artifact.pt").is_file()
    # The commands before the processes and the words around them, too, were those of the configuration.
    place = trainings.array.folder.parents[1]
    assert (place / "prepared").is_file()
    assert (place / "entered").is_file()


def _check_equal(one: Training, other: Training) -> None:
    """Demand the same bits in every weight."""
    assert one.weights.keys() == other.weights.keys()
    assert [name for name, value in other.weights.items() if not torch.equal(one.weights[name], value)] == []
    assert (one.folder / "artifact.pt").is_file()
    assert len(one.jobs) == 1, "it stays one job in one folder"


def test_a_job_that_runs_out_of_time_saves_queues_again_and_ends_as_if_it_had_not(
    cluster: Cluster, trainings: Trainings
) -> None:
    trainings.alone.end()
    cluster.end(trainings.timed_out)
    _check_equal(trainings.timed_out, trainings.alone)
    log = trainings.timed_out.log
    assert "SIGUSR2: stopping after this step" in log
    assert "Requeued job" in log
    assert log.count("epoch 1/8  step 5/40  validation") == 1, "what was saved is not trained again"


def test_a_job_whose_node_dies_goes_on_from_its_checkpoint_and_ends_as_if_it_had_not(
    cluster: Cluster, trainings: Trainings
) -> None:
    trainings.alone.end()
    cluster.end(trainings.lost)
    _check_equal(trainings.lost, trainings.alone)
    log = trainings.lost.log
    assert "Requeued job" not in log, "SLURM has queued it again, not the job itself"
    assert log.count("epoch 1/8  step 5/40  validation") == 1, "what was saved is not trained again"


def test_a_submission_that_slurm_refuses_is_told_in_a_sentence(
    cluster: Cluster, data_root: Path, tmp_path: Path
) -> None:
    refused = cluster.train(
        tmp_path / "refused", f"data.root={data_root}", "cluster=slurm", "cluster.partition=nowhere"
    )
    said = refused.end(code=1)
    assert "error: the job did not succeed" in said
    assert "invalid partition specified: nowhere" in said
    assert "Traceback" not in said
