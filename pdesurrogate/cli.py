"""The command line: Hydra composes the configuration, one function of the package does the work.

Nothing heavy is imported before the configuration is known to be sound, so that ``--help`` and a typing
mistake answer at once. Below this file nobody sees OmegaConf: configurations become plain containers here.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .allocator import keep_freed_memory
from .interruption import Interrupted
from .launch import has_run_id, propose_run_id, run_id, set_run_id, was_restarted
from .registry import did_you_mean
from .submission import explain_submission, submission_overrides
from .version import __version__

log = logging.getLogger(__name__)

COMMANDS = {
    "generate": ("pdesurrogate.data.generation:generate", "solve a PDE and write train, valid and test sets"),
    "train": ("pdesurrogate.training.run:train", "train a surrogate on a data set"),
    "evaluate": (
        "pdesurrogate.evaluation.run:evaluate",
        "roll a surrogate out on many grids; write a report",
    ),
    "predict": ("pdesurrogate.deploy.forecast_file:forecast", "forecast from a netCDF file: in.nc out.nc"),
    "export": ("pdesurrogate.deploy.export:export", "write a surrogate as a torch.export or ONNX program"),
    "doctor": ("pdesurrogate.doctor.run:doctor", "look at data, model, memory and machine before training"),
    "convert": (
        "pdesurrogate.data.conversion:convert",
        "write a data set to our store, to The Well's schema or to PDEBench's",
    ),
}
WORDS = {"predict": ("input", "output"), "export": ("artifact",)}
"""Keys that words without ``=`` stand for, in order."""
FLAGS = {"--format": "format"}
"""Keys that may be written as flags."""


def conf_dir() -> Path:
    """Return the folder of configuration files: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def main() -> None:
    """Entry point of ``pdesurrogate COMMAND [override ...]``."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        command = sys.argv.pop(1)
        sys.argv[1:] = named(command, sys.argv[1:])
        run(command)
        return
    if len(sys.argv) > 1 and sys.argv[1] == "data":
        _data(sys.argv[2:])
        return
    lines = [f"  {name:10} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    lines.append(f"  {'data':10} list public data sets, check downloads, say what is in a file")
    usage = "\n".join(
        [
            f"pdesurrogate {__version__}: neural-operator surrogates of PDE solvers",
            "",
            "usage: pdesurrogate COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "pdesurrogate COMMAND --help lists what can be set.",
        ]
    )
    if len(sys.argv) > 1 and sys.argv[1] in {"--version", "-V"}:
        sys.stdout.write(f"{__version__}\n")
    elif len(sys.argv) > 1 and sys.argv[1] not in {"--help", "-h", "help"}:
        near = did_you_mean(sys.argv[1], [*COMMANDS, "data"])
        _fail(f"there is no command {sys.argv[1]!r}.{near}\n\n{usage}")
    else:
        sys.stdout.write(usage + "\n")


def _data(words: list[str]) -> None:
    """Run ``pdesurrogate data ...``; errors become one sentence."""
    from .data.command import main as data

    try:
        data(words)
    except (ValueError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        _fail(str(error))


def run(command: str) -> None:
    """Compose the configuration of a command from ``sys.argv`` and run it; errors become one sentence.

    Set ``HYDRA_FULL_ERROR=1`` to see tracebacks.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from .config_errors import explain

    wants_traceback = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors reach this function rather than Hydra's printer
    try:
        _prepare_arguments(command)
        _register_resolvers()
        refusals = Refusals()
        decorate = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)
        decorate(_task(command, None if wants_traceback else refusals))()
        if refusals:
            _fail("\nerror: ".join(map(str, refusals)))
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _fail(explain(error, conf_dir(), command, sys.argv[1:]))
    except (ValueError, TypeError, OSError) as error:
        if wants_traceback:
            raise
        _fail(str(error))
    except RuntimeError as error:
        sentence = explain_submission(error)
        if wants_traceback or sentence is None:
            raise
        _fail(sentence)
    except (Interrupted, KeyboardInterrupt) as interrupt:
        sys.stderr.write(f"\n{interrupt or 'Interrupted.'}\n")
        sys.exit(interrupt.code if isinstance(interrupt, Interrupted) else 130)


def named(command: str, arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with every word that stands for a key written as ``key='word'``.

    ``predict in.nc out.nc`` is ``predict input='in.nc' output='out.nc'``; ``--format onnx`` is ``format='onnx'``.
    """
    keys, result = list(WORDS.get(command, ())), []
    rest = iter(arguments)
    for argument in rest:
        flag, is_joined, value = argument.partition("=")
        if command in WORDS and flag in FLAGS:
            key, word = FLAGS[flag], value if is_joined else next(rest, "")
        elif keys and "=" not in argument and not argument.startswith(("-", "~", "+")):
            key, word = keys.pop(0), argument
        else:
            result.append(argument)
            continue
        quoted = word.replace("'", "\\'")
        result.append(f"{key}='{quoted}'")
    return result


def made_by(data: str, overrides: Sequence[str]) -> str:
    """Return the command that makes the files of a data set, as a command with these overrides reads it."""
    concerned = ("data.root=", "data.generator", "plugins=")
    same = [word for word in overrides if word.lstrip("+~").startswith(concerned)]
    return shlex.join(["python", "data/generate.py", f"data={data}", *same])


class Refusals(list[Exception]):
    """What the jobs of this process refuse. A job in another process finds None in its place, and raises."""

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Travel as None: what is added to a copy elsewhere, nobody would read."""
        return type(None), ()


def _task(command: str, refusals: Refusals | None) -> Callable[[Any], Any]:
    """Return the function that Hydra calls once a job.

    What a job refuses is collected, so that the other jobs of a sweep go on and Hydra prints no
    traceback of it; without a list it is raised.
    """

    def task(cfg: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        from .config_errors import check_group_options
        from .trainer_options import check_trainer

        config: Any = OmegaConf.to_container(cfg, resolve=True)
        choices = dict(HydraConfig.get().runtime.choices)
        try:
            check_group_options(config, choices, conf_dir())
            if "generator" in (config.get("data") or {}):
                config["data"]["made_by"] = made_by(choices["data"], HydraConfig.get().overrides.task)
            if command == "train":
                check_trainer(
                    config["trainer"], config["data"].get("batch_size", 16), config["optim"].get("ema")
                )
            keep_freed_memory()
            module, function = COMMANDS[command][0].split(":")
            with _errors_stay_short(refusals is not None):
                return getattr(importlib.import_module(module), function)(config)
        except (ValueError, TypeError, OSError) as error:
            log.debug("traceback", exc_info=True)
            if refusals is None:
                raise
            refusals.append(error)
            return float("nan")

    return task


@contextmanager
def _errors_stay_short(is_ours: bool) -> Iterator[None]:
    """Take back what keeps Hydra from printing errors: processes started here would take it for the user's wish."""
    if is_ours:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    try:
        yield
    finally:
        if is_ours:
            os.environ["HYDRA_FULL_ERROR"] = "1"


def _register_resolvers() -> None:
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("new_run_id", run_id, replace=True)


def _prepare_arguments(command: str) -> None:
    """Turn ``resume=RUN_DIR`` into that run's own overrides, and refuse to write into a finished run."""
    if command != "train":
        return
    given = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a and not a.startswith("-"))
    if given.get("resume", "null") != "null":
        folder = Path(given["resume"].strip("'\""))
        saved = folder / ".hydra" / "overrides.yaml"
        if not saved.is_file():
            raise FileNotFoundError(
                f"resume={folder}: there is no run in that folder ({saved} is missing). Give the run's folder, "
                "such as resume=runs/RUN_ID."
            )
        from omegaconf import OmegaConf

        earlier = [str(o) for o in OmegaConf.to_container(OmegaConf.load(saved)) or []]
        place = folder.resolve()
        is_of_a_sweep = (place.parent / "multirun.yaml").is_file()
        set_run_id(place.parent.name if is_of_a_sweep else place.name)
        where = [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=."]
        # Of a sweep it goes on alone, and no study, which may have its score already, stops it.
        alone = ["sweep=none", "pruning=null"] if is_of_a_sweep else []
        new = [*sys.argv[1:], *where, *alone]
        replaced = {"resume"} | {o.split("=", 1)[0] for o in new}
        sys.argv[1:] = [*(o for o in earlier if o.split("=", 1)[0] not in replaced), *new]
    else:
        if (sweep := given.get("sweep", "none")) != "none":
            # The same command is the same sweep, and goes on where it stopped.
            words = sorted(a for a in sys.argv[1:] if not a.startswith("-"))
            propose_run_id(f"{sweep}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}")
        name = given.get("run_id") or ("" if has_run_id() else run_id())
        only_shows = any(a.startswith("-") and a not in ("-m", "--multirun") for a in sys.argv[1:])
        is_new = bool(name) and not only_shows and not was_restarted()
        if is_new and (Path("runs") / name / "checkpoints").is_dir():
            raise ValueError(
                f"runs/{name} already holds a run. Go on with it by resume=runs/{name}, or choose another run_id."
            )
    sys.argv[1:] += submission_overrides(command, sys.argv[1:], conf_dir())


def _fail(message: str) -> None:
    sys.stderr.write(f"\nerror: {message}\n")
    sys.exit(1)
