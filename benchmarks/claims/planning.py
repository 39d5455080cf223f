"""From a claim file to its runs: composed and checked, data generated, sizes matched, before anything is trained."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pdesurrogate.cli import conf_dir
from pdesurrogate.registry import did_you_mean

from ..options import OptionError
from .schema import Arm, ClaimFile, Scale

RUNS = Path("runs") / "claims"
DATA = Path("data") / "generated" / "claims"


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        arm: whose.
        set: data set.
        seed: of weights and shuffling.
        overrides: all that is typed after ``train.py``, but for the folder.
        config: the composed configuration, but for seed and length.
        steps: gradient steps, of a model of several stages those of each.
        folder: of checkpoints and artifact; its name has a digest of the overrides, so that what was trained with
            other settings is never taken for this run.
    """

    arm: str
    set: str
    seed: int
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    steps: int
    folder: Path

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.arm} on {self.set}, seed {self.seed}"


@dataclass(frozen=True)
class OpenedSet:
    """A data set that is there.

    Attributes:
        overrides: ``data=...`` and all of ``data.``.
        spec: what its fields are.
        num_windows: of training on one step.
        test_checksum: of the test trajectories.
    """

    overrides: tuple[str, ...]
    spec: Any
    num_windows: int
    test_checksum: str


def choose_scale(file: ClaimFile, name: str) -> Scale:
    """Return a scale of a file.

    Raises:
        OptionError: if it has none of that name.
    """
    if name not in file.scales:
        raise OptionError(
            f"{file.name} has no scale {name!r}.{did_you_mean(name, file.scales)} Scales: {', '.join(file.scales)}."
        )
    return file.scales[name]


def set_overrides(file: ClaimFile, scale_name: str, name: str) -> tuple[str, ...]:
    """Return what is typed to generate a data set, and to train on it.

    The folder is ``data/generated/claims/FILE-SCALE-SET``, unless the file chooses one by ``data.root=...``.
    """
    scale, choice = file.scales[scale_name], file.sets[name]
    root = f"data.root={(DATA / f'{file.name}-{scale_name}-{name}').as_posix()}"
    return merged([f"data={choice.data}", root], choice.overrides, scale.data, scale.sets.get(name, ()))


def arm_overrides(file: ClaimFile, scale_name: str, name: str, device: str) -> tuple[str, ...]:
    """Return what is typed for an arm, but for data, seed and length of training."""
    scale, arm = file.scales[scale_name], file.arms[name]
    lean = ["logger=csv", "trainer.figure_every=0", "trainer.checkpoint_minutes=2"]
    start = [f"model={arm.model}", f"trainer={'cpu' if device == 'cpu' else 'gpu'}", *lean]
    return merged(start, scale.overrides, arm.overrides, scale.arms.get(name, ()))


def trained_on(file: ClaimFile, arm: Arm) -> tuple[str, ...]:
    """Return the data sets of an arm."""
    return arm.sets or tuple(file.sets)


def compose_all(file: ClaimFile, scale_name: str, device: str = "cpu") -> None:
    """Compose every set for generation and every arm for training.

    Raises:
        OptionError: for anything that is no option of data, model or training, with the nearest that is.
    """
    for name in file.sets:
        compose("generate", set_overrides(file, scale_name, name))
    for name, arm in file.arms.items():
        chosen = set_overrides(file, scale_name, trained_on(file, arm)[0])
        compose("train", (*chosen, *arm_overrides(file, scale_name, name, device)))


def open_sets(file: ClaimFile, scale_name: str, device: str, overwrite: bool = False) -> dict[str, OpenedSet]:
    """Generate what is not there yet, open all sets and return them by name.

    With ``overwrite``, files that were made with other options are replaced.

    Raises:
        OptionError: if the trajectories are too short for the rollouts.
        ValueError: if a set cannot be generated, or not be read on the grids of the test.
    """
    from pdesurrogate.data.generation import generate
    from pdesurrogate.data.opening import open_data

    scale = file.scales[scale_name]
    opened = {}
    for name in file.sets:
        overrides = set_overrides(file, scale_name, name)
        generate(compose("generate", (*overrides, f"device={device}", f"overwrite={overwrite}")))
        data = open_data(compose("train", overrides)["data"])
        for factor in scale.grids:
            test = data.trajectories("test", [factor * n for n in data.grid])
        if test.num_frames < data.history + scale.horizon:
            raise OptionError(
                f"scales.{scale_name}.horizon is {scale.horizon}; with {data.history} frames of history before it, "
                f"the {test.num_frames} frames of {name} are too few."
            )
        opened[name] = OpenedSet(overrides, data.spec, data.state_dict()["num_windows"], _checksum(data))
    return opened


def plan_runs(
    file: ClaimFile, scale_name: str, sets: Mapping[str, OpenedSet], device: str = "cpu", folder: Path = RUNS
) -> list[Run]:
    """Return the runs of a scale, seed by seed, so that what is there after an interruption is comparable.

    Raises:
        OptionError: if an option of a model does not exist, or a model cannot be built or matched.
    """
    scale = file.scales[scale_name]
    entries = []
    for name, arm in file.arms.items():
        for chosen in trained_on(file, arm):
            opened = sets[chosen]
            overrides = merged(opened.overrides, arm_overrides(file, scale_name, name, device))
            if arm.match is not None:
                overrides = merged(overrides, [_matched(file, scale_name, name, opened, device)])
            config = compose("train", overrides)
            windows = num_windows(config)
            batch = min(config["data"]["batch_size"], windows)
            length, steps = epochs_of(scale.steps_of(name), windows // batch, scale.validations)
            entries.append((name, chosen, merged(overrides, length), config, steps))
    runs = []
    for seed in scale.seeds:
        for name, chosen, words, config, steps in entries:
            overrides = merged(words, [f"seed={seed}"])
            digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:8]
            place = folder / f"{file.name}-{scale_name}" / f"{name}-{chosen}-{seed}-{digest}"
            runs.append(Run(name, chosen, seed, overrides, config, steps, place))
    return runs


def epochs_of(steps: int, steps_per_epoch: int, validations: int) -> tuple[list[str], int]:
    """Return the overrides for a number of steps, and the steps that they give.

    Epochs are rounded up to a multiple of those between two validations, so that the last weights are validated too.
    """
    epochs = -(-steps // steps_per_epoch)
    every = max(1, epochs // validations)
    epochs = -(-epochs // every) * every
    return [f"trainer.max_epochs={epochs}", f"trainer.validate_every={every}"], epochs * steps_per_epoch


def num_windows(config: Mapping[str, Any]) -> int:
    """Return how many windows a configuration trains on; longer unrolls fit fewer into a trajectory."""
    from pdesurrogate.data.opening import open_data
    from pdesurrogate.training import UNROLLS

    options = dict(config["unroll"])
    unroll = UNROLLS.build(options.pop("kind"), **options)
    return int(open_data(config["data"], num_steps=unroll.num_steps).state_dict()["num_windows"])


def build_model(config: Mapping[str, Any], spec: Any) -> Any:
    """Return the model of a configuration."""
    from pdesurrogate.models import MODELS

    options = dict(config["model"])
    return MODELS.build(
        options.pop("kind"), spec, config["data"]["history"], config["data"]["horizon"], **options
    )


def _checksum(data: Any) -> str:
    return str(data.dataset.splits["test"].checksum())


def _matched(file: ClaimFile, scale_name: str, name: str, opened: OpenedSet, device: str) -> str:
    """Return the override that gives an arm the size of the one that it is matched to."""
    from pdesurrogate.models.matching import match_parameters, num_real_parameters

    match = file.arms[name].match
    if match is None:
        raise ValueError(f"{name} is not matched.")
    theirs = compose("train", merged(opened.overrides, arm_overrides(file, scale_name, match.arm, device)))
    own = compose("train", merged(opened.overrides, arm_overrides(file, scale_name, name, device)))
    options = dict(own["model"])
    found = match_parameters(
        options.pop("kind"),
        opened.spec,
        own["data"]["history"],
        own["data"]["horizon"],
        options,
        num_real_parameters(build_model(theirs, opened.spec)),
        match.option,
        multiple_of=match.multiple_of,
    )
    return f"model.{match.option}={found.value}"


def compose(command: str, overrides: Iterable[str]) -> dict[str, Any]:
    """Return the plain configuration of a command.

    Raises:
        OptionError: for what Hydra or a group refuses, in a sentence.
    """
    return copy.deepcopy(_compose(command, tuple(overrides)))


@lru_cache(maxsize=256)
def _compose(command: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pdesurrogate.config_errors import check_group_options, explain

    words = [*overrides, "run_id=claims", *(["run_dir=claims"] if command == "train" else [])]
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            found = hydra_compose(command, overrides=words, return_hydra_config=True)
        choices = dict(found.hydra.runtime.choices)
        found = OmegaConf.masked_copy(found, [str(key) for key in found if key != "hydra"])
        config: Any = OmegaConf.to_container(found, resolve=True)
        check_group_options(config, choices, conf_dir())
    except (HydraException, OmegaConfBaseException) as error:
        raise OptionError(explain(error, conf_dir(), command, words)) from error
    except ValueError as error:
        raise OptionError(str(error)) from error
    return {str(key): value for key, value in config.items()}


def merged(*parts: Iterable[str]) -> tuple[str, ...]:
    """Return overrides of which a later one takes the place of an earlier one of the same key."""
    found: dict[str, str] = {}
    for word in (word for part in parts for word in part):
        found[word.split("=", 1)[0].lstrip("+")] = word
    return tuple(found.values())
