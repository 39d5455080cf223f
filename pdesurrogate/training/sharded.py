"""Fully sharded data parallelism (FSDP2): every process holds a share of the weights, gradients and moments.

With W processes each tensor of weights is cut along its first axis into W parts. Before a part of the model computes,
its weights are gathered; its gradients are averaged over the processes and scattered again, so that Adam's moments
exist once over all processes instead of once in each. The arithmetic is that of data parallelism: losses and weights
are those of one process with the same global batch. Weights that are real tensors with a trailing 2 are cut like any
other; complex ones and single numbers are refused, the first because no collective adds them up.

It is applied from outside the models: the members of a model's lists of parts are sharded one by one, so that the
weights of one part at a time are whole, and then the model with what is left.

Zhao et al. 2023, arXiv:2304.11277; torch's second implementation, ``torch.distributed.fsdp.fully_shard``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from ..models.localno import LocalBlock
from ..models.staged import Staged
from ..models.t1 import T1
from .lost_process import WatchingLauncher
from .model_parts import repeated_parts

_FURTHER_METHODS: Mapping[type[nn.Module], tuple[str, ...]] = {LocalBlock: ("filters",), T1: ("amplitudes",)}
"""Methods beside ``forward`` that are called from outside a part and compute with its weights."""


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for sharded models, with all processes along one axis and checkpoints in one plain file.

    A checkpoint has the keys, shapes and types that one of a single process has, so that either resumes the other's.

    Args:
        timeout: how long a process waits for the others.
        go_on: the command that goes on with the run.
    """

    def __init__(self, timeout: timedelta, go_on: str) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)
        self._go_on = go_on

    def _configure_launcher(self) -> None:
        environment = cast("ClusterEnvironment", self.cluster_environment)  # Lightning has set it
        if not environment.creates_processes_externally:
            self._launcher = WatchingLauncher(environment, self.num_processes, self.num_nodes, self._go_on)

    def setup_environment(self) -> None:
        """Form the group of all processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def require_shardable(model: nn.Module, name: str) -> None:
    """Refuse a model whose weights cannot be shared out.

    Raises:
        ValueError: for a model of stages, and for weights that are complex or single numbers.
    """
    if isinstance(model, Staged):
        raise ValueError(
            f"trainer.strategy=fsdp shares out the weights of a model that is trained as a whole, and model={name} has "
            "stages that are trained one after the other. Use trainer.strategy=ddp."
        )
    for weight, tensor in model.named_parameters():
        if tensor.is_complex() or tensor.ndim == 0:
            kind = "complex" if tensor.is_complex() else "a single number"
            raise ValueError(
                f"trainer.strategy=fsdp cannot share out the weight {weight!r} of model={name}: it is {kind}. Use "
                "trainer.strategy=ddp."
            )


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Share a model's weights out over the processes of a mesh, part by part.

    Args:
        model: its parameters become shares.
        mesh: of one axis.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for part in (*repeated_parts(model), model):
        renewal = _Renewal(part)
        fully_shard(part, mesh=mesh)
        part.register_forward_pre_hook(renewal.before, prepend=True)  # before the weights are gathered
        part.register_forward_pre_hook(renewal.after)
        for kind, methods in _FURTHER_METHODS.items():
            for method in methods if isinstance(part, kind) else ():
                register_fsdp_forward_method(part, method)


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module's weights are shared out over processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whose parts lie on several processes in one piece, and any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class _Renewal:
    """Raise the versions of a part's gathered weights when its shares have changed.

    The gathered weights are the same tensors in every step, refilled behind torch's back. What is kept with the version
    of a weight, see `pdesurrogate.layers.derived_weights`, would be that of the step before.
    """

    def __init__(self, part: nn.Module) -> None:
        inside = {id(m) for nested in _sharded_inside(part) for m in nested.modules()}
        self._places = [
            (module, name)
            for module in part.modules()
            if id(module) not in inside
            for name in module._parameters
            if module._parameters[name] is not None
        ]
        self._shares: list[int] | None = None
        self._gathered: list[int] | None = None

    def before(self, module: nn.Module, args: Any) -> None:
        """Look at the shares, unless the weights are gathered already."""
        weights = self._weights()
        if all(isinstance(weight, DTensor) for weight in weights):
            self._shares = [weight._version for weight in weights]

    def after(self, module: nn.Module, args: Any) -> None:
        """Raise the versions once for every change."""
        if self._shares != self._gathered:
            self._gathered = self._shares
            torch.autograd.graph.increment_version(self._weights())

    def _weights(self) -> list[Tensor]:
        return [getattr(module, name) for module, name in self._places]


def _sharded_inside(part: nn.Module) -> list[nn.Module]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in part.modules() if module is not part and isinstance(module, FSDPModule)]
