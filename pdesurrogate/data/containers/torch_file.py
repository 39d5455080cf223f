"""PyTorch files: tensors in a dict, mapped into memory, loaded without running code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .interface import ArraysAlone, Selection, full, refuses_damage

MAPPED_BYTES = 2**26
"""What is read of a file before it is mapped anew."""


class TorchContainer(ArraysAlone):
    """A file of ``torch.save`` that holds tensors, alone or in (nested) dicts.

    It is loaded with ``weights_only=True``: a file that carries code or objects is refused and nothing of it is
    run. Tensors of zip files are mapped into memory; files of the format before PyTorch 1.6 are read as a whole.

    Args:
        path: the file.
    """

    kind = "torch"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._load()

    def _load(self) -> None:
        """Map the file anew, so that pages which were read before do not count as this process's memory."""
        import torch

        path, self._touched = self.path, 0
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} holds more than tensors: loading it would run code from the file, so it is refused. Save "
                "its tensors again as a plain dict, where you trust its origin."
            ) from error
        self._tensors: dict[str, np.ndarray] = {}
        self._collect("", content)

    def _collect(self, name: str, content: Any) -> None:
        import torch

        if isinstance(content, Mapping):
            for key, value in content.items():
                self._collect(f"{name}/{key}" if name else str(key), value)
        elif isinstance(content, list | tuple) and any(isinstance(part, torch.Tensor) for part in content):
            for number, value in enumerate(content):
                self._collect(f"{name}/{number}" if name else str(number), value)
        elif isinstance(content, torch.Tensor) and not content.is_sparse and not content.is_complex():
            if content.dtype == torch.bfloat16:
                content = content.float()
            self._tensors[name] = content.detach().numpy()

    @refuses_damage
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every tensor by name."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    @refuses_damage
    def read(self, name: str, selection: Selection = ()) -> np.ndarray:
        """Return a part of a tensor."""
        if self._touched > MAPPED_BYTES:
            self._load()
        tensor = self._tensors[name]
        part = np.asarray(tensor[full(selection, tensor.shape)])  # a view: whoever keeps it copies it
        self._touched += part.nbytes
        return part

    def verify(self) -> None:
        """Compare the CRC-32 of every part of the zip file.

        Raises:
            ValueError: naming the part that was damaged.
        """
        if zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as file:
                damaged = file.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of its part {damaged} does not fit")

    @refuses_damage
    def layout(self, name: str) -> str:
        """Return the order of the axes and the type of numbers in words."""
        return f"strides {self._tensors[name].strides} bytes, {self._tensors[name].dtype}"

    def close(self) -> None:
        """Drop the mapping."""
        self._tensors = {}
