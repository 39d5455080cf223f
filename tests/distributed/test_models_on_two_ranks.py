"""Every registered model trains alike on one process and on two; one pair of gloo processes takes them in turn."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pdesurrogate.models import MODELS

SCRIPT = Path(__file__).with_name("train_models.py")
SMALL_OPTIONS = {
    "fno": {"width": 4, "depth": 2, "num_modes": 4},
    "t1": {"width": 4, "depth": 2, "num_modes": 4, "head_width": 8},
    "tfno": {"width": 4, "depth": 2, "num_modes": 4, "rank": 0.5},
    "unet": {"width": 4, "multipliers": [1, 2], "num_blocks": 1, "groups": 2},
    "localno": {"width": 4, "depth": 2, "num_modes": 4, "radius": 0.3, "reference_grid": 16},
    "gfno": {"width": 2, "depth": 2, "num_modes": 4, "group": "p4m"},
    "factformer": {"width": 8, "depth": 1, "heads": 2, "head_dim": 4, "rotary_frequency": 8.0},
    "ffno": {"width": 4, "depth": 2, "num_modes": 4},
    "dilated_resnet": {"width": 4, "depth": 1, "dilations": [1, 2]},
    "mgtfno": {"base": "fno", "base_options": {"width": 4, "depth": 2, "num_modes": 4}},
    "specboost": {"base_options": {"width": 4, "depth": 1, "num_modes": 4}},
    "ensemble": {"base_options": {"width": 4, "depth": 1, "num_modes": 4}},
}
"""Options for the suite's speed; a model without an entry runs with its defaults."""
VARIANTS = {"tfno, joint": ("tfno", {**SMALL_OPTIONS["tfno"], "joint": True, "factorisation": "tt"})}


OTHERS = {"persistence", "neuralop"}
"""What has nothing to train, and what is a peer's."""


def trains_on_a_plane(kind):
    return "plane" in MODELS.get(kind).geometries


MODELS_HERE = {
    **{
        kind: (kind, SMALL_OPTIONS.get(kind, {}))
        for kind in sorted(set(MODELS.names()) - OTHERS)
        if trains_on_a_plane(kind)
    },
    **VARIANTS,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, repository):
    """Weights by number of processes and rank, then by name of the model."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = {}
    for world_size in (1, 2):
        settings = folder / f"settings_{world_size}.json"
        content = {"models": MODELS_HERE, "world_size": world_size, "folder": str(folder)}
        settings.write_text(json.dumps(content))
        for rank in range(world_size):
            command = [sys.executable, str(SCRIPT), str(settings), str(rank)]
            processes[world_size, rank] = subprocess.Popen(
                command, cwd=repository, stderr=subprocess.PIPE, text=True
            )
    errors = [process.communicate(timeout=240)[1] for process in processes.values()]
    assert not any(process.returncode for process in processes.values()), "\n".join(errors)[-3000:]
    return {key: torch.load(folder / f"weights_{key[0]}_{key[1]}.pt", weights_only=True) for key in processes}


@pytest.mark.parametrize("name", MODELS_HERE)
def test_two_processes_end_with_the_weights_of_one(name, trained):
    alone = trained[1, 0][name]
    for rank in range(2):
        together = trained[2, rank][name]
        assert together.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS_HERE)
def test_both_processes_hold_the_same_weights_bit_for_bit(name, trained):
    first, second = (trained[2, rank][name] for rank in range(2))
    assert all(torch.equal(first[key], value) for key, value in second.items())
