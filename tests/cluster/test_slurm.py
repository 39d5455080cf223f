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
    limit = ("cluster=slurm", "cluster.minutes=1", "cluster.signal_seconds=10")
    started = Trainings(
        alone=cluster.train(place / "alone", data),
        timed_out=cluster.train(place / "timed_out", data, *PATIENT, *limit, SECONDS_A_STEP="2"),
        lost=cluster.train(place / "lost", data, *PATIENT, *ON_SLURM, SECONDS_A_STEP="1"),
        two_nodes=cluster.train(place / "two", data, *ON_SLURM, "trainer=ddp", "cluster.nodes=2"),
        array=cluster.train(
            place / "array",
            data,
            *ON_SLURM,
            "model.width=2,3",
            "trainer.max_epochs=1",
            "cluster.setup=[export A=b]",
        ),
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


def test_two_nodes_end_with_the_weights_of_one_process(trainings: Trainings) -> None:
    trainings.alone.end()
    trainings.two_nodes.end()
    for name, value in trainings.alone.weights.items():
        torch.testing.assert_close(trainings.two_nodes.weights[name], value, rtol=1e-4, atol=1e-6)
    # Both ranks worked in one run folder, and it is that of a training without a cluster.
    assert (trainings.two_nodes.folder / "artifact.pt").is_file()
    assert [path.name for path in trainings.two_nodes.folder.parent.iterdir()] == ["run"]
    ranks = trainings.two_nodes.folder.glob("slurm/*/*_log.out")
    assert ["0(2)" in path.read_text() for path in sorted(ranks)] == [True, True]


def test_a_multirun_is_an_array_of_jobs_with_a_folder_each(trainings: Trainings) -> None:
    trainings.array.end()
    (first, second) = trainings.array.jobs
    assert (first.rpartition("_")[::2], second.rpartition("_")[::2]) == ((first[:-2], "0"), (first[:-2], "1"))
    for number, width in enumerate((2, 3)):
        folder = trainings.array.folder / str(number)
        assert f"model.width={width}" in (folder / ".hydra" / "overrides.yaml").read_text()
        assert (folder / "artifact.pt").is_file()


def _is_bitwise_that_of(one: Training, other: Training) -> None:
    one.end()
    other.end()
    assert one.weights.keys() == other.weights.keys()
    assert [name for name, value in other.weights.items() if not torch.equal(one.weights[name], value)] == []
    assert (one.folder / "artifact.pt").is_file()


def test_a_job_that_runs_out_of_time_saves_queues_again_and_ends_as_if_it_had_not(
    trainings: Trainings,
) -> None:
    _is_bitwise_that_of(trainings.timed_out, trainings.alone)
    assert "SIGUSR2: stopping after this step" in trainings.timed_out.log
    assert "Requeued job" in trainings.timed_out.log
    assert len(trainings.timed_out.jobs) == 1


def test_a_job_whose_node_dies_goes_on_from_its_checkpoint_and_ends_as_if_it_had_not(
    trainings: Trainings,
) -> None:
    _is_bitwise_that_of(trainings.lost, trainings.alone)
    assert trainings.lost.log.count("Starting with JobEnvironment") == 2
    assert "epoch 1/8" not in trainings.lost.log.rpartition("Starting with JobEnvironment")[2]
    assert len(trainings.lost.jobs) == 1


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
