"""The exponential moving average of the weights, which is validated and kept in place of the weights.

    θ̄_n = d_n θ̄_{n-1} + (1 - d_n) θ_n,   d_n = min(d, (1 + n) / (10 + n)),   θ̄_0 = θ_0

after optimiser step n. The growing decay, that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``, soon
forgets the untrained weights. Averages over the iterates: Polyak and Juditsky (1992), SIAM J. Control Optim. 30(4).

torch's arithmetic, but neither its ``AveragedModel`` nor Lightning's callback around it: those exchange weights behind
the version counter that tells derived weights to be built anew (`pdesurrogate.layers.derived_weights`), and copy models
before the scale of a correction is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(lightning.Callback):
    """Average the trained weights after every step, recorded ones too, and validate with the average.

    A checkpoint's ``state_dict`` has the weights as they are trained, and the state of this callback the average, by
    the names of the weights.

    Args:
        decay: ``d``.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._average: dict[str, Tensor] = {}
        self._step = 0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin with the weights, unless a checkpoint has the average.

        Raises:
            ValueError: if the weights are shared out over processes.
        """
        trained = _trained(pl_module)
        if any(hasattr(weight, "full_tensor") for weight in trained.values()):
            raise ValueError(
                "optim.ema averages weights that every process holds whole, and this strategy shares them out. Use "
                "trainer.strategy=ddp, or optim.ema=null."
            )
        self._average = {
            name: self._average.get(name, weight).detach().to(weight, copy=True)
            for name, weight in trained.items()
        }

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Take the weights after a step into the average."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            decay = min(self._decay, (1 + self._step) / (10 + self._step))
            weights = [weight.detach() for weight in _trained(pl_module).values()]
            get_ema_multi_avg_fn(decay)(list(self._average.values()), weights, 0)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the average in place."""
        self._exchange(pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the weights back."""
        self._exchange(pl_module)

    @contextmanager
    def in_place(self, module: lightning.LightningModule) -> Iterator[None]:
        """Let the module have the average for a while."""
        self._exchange(module)
        try:
            yield
        finally:
            self._exchange(module)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the step that it goes up to."""
        return {"step": self._step, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the average of a checkpoint."""
        self._step, self._average = state_dict["step"], dict(state_dict["average"])

    @torch.no_grad()
    def _exchange(self, module: lightning.LightningModule) -> None:
        for name, weight in _trained(module).items():
            kept = weight.clone()
            weight.copy_(self._average[name])
            self._average[name].copy_(kept)


def validated_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint as they were validated: with the average, if there was one then.

    A run may be resumed with another ``optim.ema``, and its best weights are those of before.
    """
    state = checkpoint["callbacks"].get(WeightAverage.__qualname__, {})
    return {**checkpoint["state_dict"], **state.get("average", {})}


def _trained(module: lightning.LightningModule) -> dict[str, Tensor]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
