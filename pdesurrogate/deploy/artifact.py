"""One file per surrogate: weights, normaliser, specification, model options and provenance.

The file holds plain types and tensors only and is read with ``weights_only=True``: whatever is in a
file, loading it executes nothing.
"""

from __future__ import annotations

import difflib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..durable import durable_write
from ..fields import DataSpec, Normaliser
from ..models import MODELS
from ..registry import load_plugins
from ..surrogate import Surrogate

FORMAT = "pdesurrogate-artifact"
FORMAT_VERSION = 1
_KEYS = ("spec", "model", "plugins", "history", "horizon", "predict", "normaliser", "weights", "provenance")


def save_artifact(surrogate: Surrogate, path: str | Path) -> Path:
    """Write a surrogate to one file that appears whole or not at all, and return its path.

    ``surrogate.provenance["config"]["model"]`` says how to rebuild the model.

    Raises:
        ValueError: if the provenance lacks the model's options.
        OSError: if the disk is full; an older file of that name is left as it was.
    """
    config = surrogate.provenance.get("config", {})
    if "model" not in config:
        raise ValueError(
            'provenance["config"]["model"] is missing: an artifact must know its model\'s options.'
        )
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": surrogate.spec.to_dict(),
        "model": dict(config["model"]),
        "plugins": list(config.get("plugins", [])),
        "history": surrogate.history,
        "horizon": surrogate.horizon,
        "predict": surrogate.predicts,
        "normaliser": {k: v.tolist() for k, v in surrogate.normaliser.state_dict().items()},
        "weights": {k: v.detach().cpu().contiguous() for k, v in surrogate.model.state_dict().items()},
        "provenance": surrogate.provenance,
    }
    write_plain(content, path)
    return Path(path)


def write_plain(content: Mapping[str, Any], path: str | Path) -> None:
    """Write plain types and tensors to a torch file that appears whole or not at all.

    Raises:
        OSError: if the disk is full; an older file of that name is left as it was.
    """
    with durable_write(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # by which torch hides why the file could not be written
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_plain(path: str | Path, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a torch file of plain types and tensors without executing anything in it.

    Raises:
        FileNotFoundError: listing near names.
        ValueError: if the file is damaged, is no torch file, or holds pickled code.
    """
    file = Path(path)
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else Path()
        near = difflib.get_close_matches(file.name, [p.name for p in folder.iterdir()], n=3, cutoff=0.4)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise FileNotFoundError(f"there is no file {file}.{hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about old pickles before refusing them
            content = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} was refused: it is damaged or holds pickled code rather than plain data, and nothing in "
            "it was run. Ask for a file written by pdesurrogate."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{file} cannot be read: it is truncated or not a torch file ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a pdesurrogate file.")
    return content


def load_artifact(path: str | Path, map_location: torch.device | str = "cpu") -> Surrogate:
    """Rebuild the surrogate in a file, in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: as `read_plain`, and if the file is not an artifact, is of a newer
            format, or its weights do not fit its model.
    """
    content = read_plain(path, map_location)
    if content.get("format") != FORMAT or any(key not in content for key in _KEYS):
        what = "a training checkpoint" if "pytorch-lightning_version" in content else "something else"
        raise ValueError(
            f"{path} is not a pdesurrogate artifact but {what}. Training writes the artifact as "
            "runs/RUN_ID/artifact.pt."
        )
    if content["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path} has artifact format {content['format_version']}; this version of pdesurrogate reads up to "
            f"{FORMAT_VERSION}. Upgrade pdesurrogate."
        )
    load_plugins(content["plugins"])
    spec = DataSpec.from_dict(content["spec"])
    history, horizon = content["history"], content["horizon"]
    options = dict(content["model"])
    model = MODELS.build(options.pop("kind"), spec, history, horizon, **options)
    try:
        model.load_state_dict(content["weights"])
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the model that it names ({error}).") from error
    surrogate = Surrogate(
        spec,
        Normaliser(**content["normaliser"]),
        model,
        history=history,
        horizon=horizon,
        predict=content["predict"],
        provenance=content["provenance"],
    )
    return surrogate.to(map_location).eval()
