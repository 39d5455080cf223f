"""Region-parallel steps in forked processes: ``region_worker.py FOLDER WORLD/GROUP ...``.

For each pair, WORLD processes work in groups of GROUP; each leaves its losses, averaged gradients and weights
in ``FOLDER/WORLD/RANK.pt``. Forking spares every process the import of the libraries.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.layers import AllRegions
from pdesurrogate.models import MODELS
from pdesurrogate.training.region_parallel import GroupShare

SPEC = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
OPTIONS = {"width": 4, "depth": 2, "num_modes": 4}
NUM_SAMPLES, NUM_UNROLLED, NUM_STEPS = 4, 2, 3


def steps(folder: Path, rank: int, world: int, group_size: int) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # so that Adam's division does not magnify rounding
    torch.manual_seed(0)
    process = "sequential" if rank % 2 == 0 else "batch"
    model = MODELS.build("mgtfno", SPEC, 1, 1, base="fno", base_options=OPTIONS, halo=0.125, process=process)
    frames = torch.randn(NUM_SAMPLES, 1, 1, 16, 16)
    target = torch.randn(NUM_SAMPLES, 1, 1, 16, 16)
    share, wrapped = AllRegions(), model
    if world > 1:
        address = f"file://{folder / 'meeting'}"
        distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
        group, _ = distributed.new_subgroups(group_size)
        share = GroupShare(group)
        wrapped = DistributedDataParallel(model)
    model.share = share
    each = NUM_SAMPLES * group_size // world
    mine = slice(rank // group_size * each, (rank // group_size + 1) * each)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses, gradients = [], []
    for _ in range(NUM_STEPS):
        optimiser.zero_grad()
        u = frames[mine].clone()
        for _ in range(NUM_UNROLLED):
            u = wrapped(u, torch.zeros(each, 0))
        loss = (u - target[mine]).square().mean()
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        optimiser.step()
    with torch.no_grad():
        future = model(frames, torch.zeros(NUM_SAMPLES, 0))
    kept = {"losses": losses, "gradients": gradients, "weights": model.state_dict(), "future": future}
    torch.save(kept, folder / f"{rank}.pt")
    if world > 1:
        distributed.destroy_process_group()


def main(folder: Path, *pairs: str) -> None:
    forks = multiprocessing.get_context("fork")
    for pair in pairs:
        world, group_size = map(int, pair.split("/"))
        (folder / str(world)).mkdir()
        ranks = [
            forks.Process(target=steps, args=(folder / str(world), rank, world, group_size))
            for rank in range(world)
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        if any(rank.exitcode for rank in ranks):
            sys.exit(f"a process of {pair} failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
