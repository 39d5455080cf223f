"""Several processes for one sample: each computes some regions of the box, gradients are those of one process.

The W processes of a training form W / G groups of G. The groups share out the batch, the processes of a
group read the same samples and share out the regions. Every process of a group ends with the whole
prediction and computes the same loss ℓ from it. With θ the weights and f_r the regions of process r,

    ∇ℓ = Σ_r ∂ℓ/∂f_r · ∂f_r/∂θ        (sum over a group),

while the data-parallel wrapper forms the mean over all W. So what enters the regions from above is multiplied
by G (`leave`), and what leaves them towards their inputs, such as the step before in an unrolled chain, is
the mean over the group (`enter`); then the mean over W is that of the W / G groups' gradients.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, distributed, nn

from ..layers import AllRegions, RegionShare
from ..trainer_options import require_whole_groups


class GroupShare:
    """The share of one process of a group.

    Args:
        group: process group of those that work on the same samples.
    """

    def __init__(self, group: distributed.ProcessGroup) -> None:
        self.group = group
        self.size = distributed.get_world_size(group)
        self.rank = distributed.get_rank(group)

    def enter(self, u: Tensor) -> Tensor:
        """Return the input; its gradient is the mean of those of the group's processes."""
        entered: Tensor = _Enter.apply(u, self)
        return entered

    def own(self, num_regions: int) -> range:
        """Return the regions of this process: the rank-th of equal runs.

        Raises:
            ValueError: if they cannot be shared out equally.
        """
        require_equal_shares(num_regions, self.size)
        each = num_regions // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def leave(self, u: Tensor) -> Tensor:
        """Return all regions, gathered; the gradient of this process's own is multiplied by the group's size."""
        gathered: Tensor = _Leave.apply(u, self)
        return gathered


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, share: GroupShare) -> Tensor:
        ctx.share = share
        return u.view_as(u)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total, group=ctx.share.group)
        return total / ctx.share.size, None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, share: GroupShare) -> Tensor:
        ctx.share = share
        parts = [torch.empty_like(u, memory_format=torch.contiguous_format) for _ in range(share.size)]
        distributed.all_gather(parts, u.contiguous(), group=share.group)
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        share: GroupShare = ctx.share
        own = gradient.shape[0] // share.size
        return share.size * gradient.narrow(0, share.rank * own, own), None


class RegionParallel(lightning.Callback):
    """Let the processes of a group share out the regions of each of their samples, in training and validation.

    Outside of batches the model is as it was, so that one process can forecast alone.

    Args:
        size: processes of a group; consecutive ranks form one.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._share: RegionShare = AllRegions()

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Form the groups.

        Raises:
            ValueError: if the number of processes is no multiple of their size.
        """
        require_whole_groups(trainer.world_size, self.size)
        group, _ = distributed.new_subgroups(self.size)
        self._share = GroupShare(group)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Share out the regions."""
        _set_share(pl_module, self._share)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Give the model all regions back."""
        _set_share(pl_module, AllRegions())

    def on_validation_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **more: Any
    ) -> None:
        """Share out the regions."""
        _set_share(pl_module, self._share)

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **more: Any
    ) -> None:
        """Give the model all regions back."""
        _set_share(pl_module, AllRegions())


def require_regions(model: nn.Module, name: str, size: int) -> None:
    """Refuse a model whose regions cannot be shared out over ``size`` processes.

    Raises:
        ValueError: if it has no regions, or not a multiple of that many.
    """
    if size == 1:
        return
    if not _sharing(model):
        raise ValueError(
            f"trainer.region_parallel={size} shares out the regions of a model, and model {name!r} has none. Use "
            f"model=mgtfno model.base={name}, or trainer.region_parallel=1."
        )
    for part in _sharing(model):
        require_equal_shares(part.num_regions, size)


def require_equal_shares(num_regions: int, size: int) -> None:
    """Refuse regions that processes cannot share out equally.

    Raises:
        ValueError: naming both numbers.
    """
    if num_regions % size:
        raise ValueError(
            f"{num_regions} regions cannot be shared out equally over trainer.region_parallel={size} processes. "
            f"Choose model.regions such that all axes together have a multiple of {size}."
        )


def _sharing(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(getattr(m, "share", None), RegionShare)]


def _set_share(model: nn.Module, share: RegionShare) -> None:
    for part in _sharing(model):
        part.share = share
