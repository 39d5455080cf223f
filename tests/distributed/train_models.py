"""Train configurations one after the other in two gloo processes, as one command would; tests start it.

    python train_models.py REQUEST.json

Request: ``configs``, a list of what `pdesurrogate.training.run.train` is given. The processes are forked from one that
has imported the libraries, and meet as those that ``torchrun`` or ``srun`` start.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from pdesurrogate.training.run import train

WORLD_SIZE = 2


def work(rank: int, port: int, configs: list[dict]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": WORLD_SIZE, "NODE_RANK": 0}
    os.environ.update({key: str(value) for key, value in {**meeting, "LOCAL_RANK": rank}.items()})
    rank_zero_only.rank = rank
    for config in configs:
        train(config)
    torch.distributed.destroy_process_group()


def main(request: Path) -> None:
    configs = json.loads(request.read_text())["configs"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    forks = multiprocessing.get_context("fork")
    ranks = [forks.Process(target=work, args=(rank, port, configs)) for rank in range(WORLD_SIZE)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    if any(rank.exitcode for rank in ranks):
        sys.exit("a process failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
