"""Reads mutated files of every layout, each layout in a forked process; prints what came of it as JSON."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import layouts
import numpy as np

from pdesurrogate.data import DATASETS

NAMES = tuple(layouts.LAYOUTS)
SMALL = {"pdebench_rdb": lambda folder: layouts.dam_break(folder, count=3)}
ALONE = {"the_well": "root", "pdearena_weather": "root", "pdebench_incompressible": "path"}
"""Sets of several files of which the mutated one is read alone: less work for each mutation."""
SECONDS_EACH = 30
MEMORY = 8 * 2**30


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A truncated file, or one with a flipped bit, an overwritten word or a hole."""
    kind = rng.randrange(5)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    place = rng.randrange(len(changed)) if kind < 3 else rng.randrange(min(2048, len(changed)))
    if kind == 4:
        changed[place : place + 8] = rng.randbytes(len(changed[place : place + 8]))
    elif kind == 3:
        changed[place : place + 4] = b"\xff" * len(changed[place : place + 4])
    else:
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def frames_of(case: layouts.Made) -> dict[str, np.ndarray]:
    data = DATASETS.build(case.kind, **case.options)
    return {
        name: np.stack([split.frames(i, 0, split.num_frames) for i in range(split.num_trajectories)])
        for name, split in data.splits.items()
    }


def is_right(found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> bool:
    return found.keys() == truth.keys() and all(np.array_equal(found[k], truth[k]) for k in truth)


def run(name: str, folder: Path, count: int, report: int) -> None:
    """Read ``count`` mutations of one layout and write the outcome to a pipe."""
    folder = folder / name
    folder.mkdir(parents=True)
    case = SMALL.get(name, layouts.LAYOUTS[name])(folder)
    if name in ALONE:
        case.options = {ALONE[name]: str(case.file)}
    content = case.file.read_bytes()
    truth = frames_of(case)
    rng = random.Random(name)
    resource.setrlimit(
        resource.RLIMIT_AS, (MEMORY, MEMORY)
    )  # a size that was mutated must not eat the machine
    outcome: dict[str, Any] = {"refused": 0, "read": 0, "wrong": 0, "status": 0}
    began = time.process_time()
    for number in range(count):
        signal.setitimer(
            signal.ITIMER_PROF, SECONDS_EACH
        )  # of its own time: a loop without end ends the process
        case.file.write_bytes(mutated(content, rng))
        try:
            found = frames_of(case)
        except ValueError as error:
            outcome["refused"] += 1
            if len(str(error)) < 20:
                outcome["status"] = f"mutation {number}: {error!r} says nothing"
        else:
            outcome["read"] += 1
            outcome["wrong"] += not is_right(found, truth)
    signal.setitimer(signal.ITIMER_PROF, 0)
    outcome["seconds"] = round(time.process_time() - began, 2)
    os.write(report, json.dumps(outcome).encode())


def main(folder: Path, count: int) -> None:
    DATASETS.get("li_mat")  # imports every reader once, and not once in each of the processes below
    found = {}
    for name in NAMES:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            faulthandler.enable()
            try:
                run(name, folder, count, writing)
            except BaseException as error:
                sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        found[name] = (
            json.loads(text) if text and status == 0 else {"status": status, "refused": 0, "read": 0}
        )
        shutil.rmtree(folder / name, ignore_errors=True)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
