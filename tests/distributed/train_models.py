"""A process that trains models one after the other, alone or as one of several gloo processes; tests start it.

    python train_models.py SETTINGS.json RANK

Settings: ``models`` (name to kind and options), ``world_size``, ``folder`` for the rendezvous and the results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.models import MODELS

BATCH, NUM_STEPS, GRID = 4, 3, (16, 16)
SPEC = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), 0.1)


def trained(kind: str, options: dict, rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Weights after some steps of gradient descent on this process's share of every batch."""
    torch.manual_seed(0)
    model = MODELS.build(kind, SPEC, 1, 1, **options)
    parallel = DistributedDataParallel(model) if world_size > 1 else model
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    share = slice(rank * BATCH // world_size, (rank + 1) * BATCH // world_size)
    for _ in range(NUM_STEPS):
        frames, target = torch.randn(2, BATCH, 1, 1, *GRID).unbind(0)
        optimiser.zero_grad()
        future = parallel(frames[share], torch.zeros(BATCH, 0)[share])
        (future - target[share]).square().mean().backward()
        optimiser.step()
    return model.state_dict()


def main(settings: dict, rank: int) -> None:
    torch.set_num_threads(1)
    folder, world_size = Path(settings["folder"]), settings["world_size"]
    if world_size > 1:
        meeting = f"file://{folder / 'meeting'}"
        torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=world_size)
    weights = {name: trained(*model, rank, world_size) for name, model in settings["models"].items()}
    torch.save(weights, folder / f"weights_{world_size}_{rank}.pt")
    if world_size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]))
