"""Trainings of two processes each, forked after everything was imported; something happens to one of the processes.

Reads a line of JSON per training; writes a line with the exit code and the last message of each process.
"""

import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import torch

import pdesurrogate.models.fno
import pdesurrogate.training.run
from pdesurrogate.training.forecasts import ForecastFigures
from pdesurrogate.training.module import SurrogateTraining

assert pdesurrogate.models.fno  # not to be imported anew by every training


def train(rank, config, event, step, port, told):
    """Train as one of two; at a step something happens to the second: a signal, or a loss that is infinite."""
    torch.set_num_threads(1)
    os.environ.update(
        LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    logging.basicConfig(filename=told, level=logging.INFO, format="%(message)s")
    original = SurrogateTraining._losses

    def losses(module, batch):
        found = original(module, batch)
        if rank == 0 or not module.training or module.global_step != step:
            return found
        if event == "inf":
            return found * float("inf")
        os.kill(os.getpid(), getattr(signal, event))
        return found

    ForecastFigures.on_train_epoch_end = lambda *_: None
    SurrogateTraining._losses = losses
    try:
        pdesurrogate.training.run.train(config)
    except (Exception, SystemExit) as error:
        logging.getLogger().error("%s: %s", type(error).__name__, error)
        os._exit(error.code if isinstance(error, SystemExit) else 1)
    os._exit(0)


def free_port():
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


for line in sys.stdin:
    order, port = json.loads(line), free_port()
    files = [f"{order['config']['run_dir']}_{rank}.log" for rank in range(2)]
    children = []
    for rank, told in enumerate(files):
        children.append(os.fork())
        if children[-1] == 0:
            train(rank, **order, port=port, told=told)
    codes = [os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])]
    if order["event"] in ("SIGSTOP", "SIGKILL"):
        os.kill(children[1], signal.SIGKILL)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(children[1], 0)[1]))
    answer = [(code, Path(told).read_text()) for code, told in zip(codes, files, strict=True)]
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
