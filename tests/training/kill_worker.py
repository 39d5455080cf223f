"""Trainings, each in a process of its own, forked after everything was imported; they may die in the middle of a file.

Reads one line of JSON per training; kills it after some seconds, if asked to; writes its exit code.
"""

import io
import json
import logging
import os
import signal
import sys
import time

import torch

import pdesurrogate.models.fno
import pdesurrogate.training.run
from pdesurrogate.training.forecasts import ForecastFigures
from pdesurrogate.training.module import SurrogateTraining

assert pdesurrogate.models.fno  # not to be imported anew by every training


def train(config, steps_file, dies_in_file, share):
    """Train; if asked to, die by SIGKILL in the ``dies_in_file``-th file, when a share of its bytes is written.

    ``steps_file`` holds the number of steps that were taken.
    """
    torch.set_num_threads(1)
    logging.disable()
    on_train_batch_start, save, files = SurrogateTraining.on_train_batch_start, torch.save, 0
    descriptor = os.open(steps_file, os.O_WRONLY | os.O_CREAT)

    def count(module, batch, batch_idx):
        os.pwrite(descriptor, b"%8d" % module.global_step, 0)
        on_train_batch_start(module, batch, batch_idx)

    def save_and_die(content, file):
        nonlocal files
        files += 1
        if files != dies_in_file:
            save(content, file)
            return
        buffer = io.BytesIO()
        save(content, buffer)
        file.write(buffer.getvalue()[: round(share * buffer.tell())])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    ForecastFigures.on_train_epoch_end = lambda *_: None
    SurrogateTraining.on_train_batch_start = count
    torch.save = save_and_die
    pdesurrogate.training.run.train(config)


for line in sys.stdin:
    order = json.loads(line)
    seconds = order.pop("seconds")
    child = os.fork()
    if child == 0:
        train(**order)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)  # it may have ended, but its number is its own until it is waited for
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    sys.stdout.flush()
