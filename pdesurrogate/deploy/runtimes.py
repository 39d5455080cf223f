"""Formats of exported programs: how each is written, and how it is run to be checked."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..registry import did_you_mean

Program = Callable[[Sequence[Tensor]], Tensor]
NAMES = ("history", "parameters")
FACTS = "pdesurrogate"
"""Under this name a file keeps the spec, the history and the horizon of its surrogate as JSON text."""


@runtime_checkable
class Runtime(Protocol):
    """A format of programs.

    Attributes:
        name: what runs the program.
        suffix: ending of its files.
    """

    name: str
    suffix: str

    def write(
        self, module: nn.Module, inputs: tuple[Tensor, ...], sizes: tuple[Any, ...], path: Path, facts: str
    ) -> None:
        """Trace a module and write the program; ``sizes`` says which sizes of the inputs stay open."""
        ...

    def load(self, path: Path) -> Program:
        """Return a written program as a function."""
        ...


class TorchExport:
    """Programs of ``torch.export``, for PyTorch without this package, and for AOTInductor."""

    name = "torch.export"
    suffix = ".pt2"

    def write(
        self, module: nn.Module, inputs: tuple[Tensor, ...], sizes: tuple[Any, ...], path: Path, facts: str
    ) -> None:
        """Trace a module and write the program."""
        with _quiet():
            program = torch.export.export(
                module,
                inputs,
                dynamic_shapes=_by_name(sizes),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            with path.open("wb") as file:
                torch.export.save(program, file, extra_files={FACTS: facts})

    def load(self, path: Path) -> Program:
        """Return a written program as a function."""
        with _quiet(), path.open("rb") as file:
            program = torch.export.load(file).module()
        return lambda inputs: program(*inputs)


class Onnx:
    """ONNX, for onnxruntime and what else reads it; weights are in the file itself."""

    name = "onnxruntime"
    suffix = ".onnx"

    def __init__(self) -> None:
        packages = ("onnx", "onnxscript", "onnxruntime")
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(
                f"format=onnx needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
                "pip install 'pdesurrogate[export]'"
            )

    def write(
        self, module: nn.Module, inputs: tuple[Tensor, ...], sizes: tuple[Any, ...], path: Path, facts: str
    ) -> None:
        """Trace a module and write the program."""
        with _quiet():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=_by_name(sizes),
                verbose=False,
                input_names=list(NAMES[: len(inputs)]),
                output_names=["future"],
            )
            if program is None:
                raise ValueError("the exporter made no program.")
            program.model.metadata_props[FACTS] = facts
            program.save(str(path), external_data=False)

    def load(self, path: Path) -> Program:
        """Return a written program as a function."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

        def run(inputs: Sequence[Tensor]) -> Tensor:
            feed = dict(zip(NAMES, (tensor.numpy() for tensor in inputs), strict=False))
            (future,) = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
            return torch.from_numpy(future)

        return run


FORMATS: dict[str, Callable[[], Runtime]] = {"torch": TorchExport, "onnx": Onnx}


def runtime(format: str) -> Runtime:
    """Return the runtime of a format.

    Raises:
        ValueError: for an unknown format, or one whose packages are not installed.
    """
    if format not in FORMATS:
        raise ValueError(
            f"format is {format!r}.{did_you_mean(str(format), FORMATS)} Allowed: {', '.join(FORMATS)}."
        )
    return FORMATS[format]()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what tracers say about their own future; the program is compared with the model afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _by_name(sizes: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(NAMES, sizes, strict=False))
