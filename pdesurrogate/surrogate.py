"""A surrogate: the specification, the normaliser and the model, joined into a map between fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .fields import DataSpec, Normaliser
from .models.matching import num_real_parameters
from .models.options import require_grid
from .registry import did_you_mean

Predict = Literal["state", "increment", "unscaled_increment"]


class Surrogate(nn.Module):
    """The flow map of a PDE in physical units, ``u(t - (h-1)Δt .. t) ↦ u(t + Δt .. t + HΔt)``.

    The only place where fields are normalised: data sets yield physical units, the model works on
    normalised ones. Static fields (a coefficient, a steady force) are channels of the history that the
    model reads; what it makes of them is dropped for what they are.

    Args:
        spec: what the fields are; the model was built for the same.
        normaliser: channel statistics of the train split.
        model: maps normalised ``(history, parameters)`` to the normalised future.
        history: number h of input frames.
        horizon: number H of frames that one step predicts.
        predict: what the model's output ``v`` means. ``"state"``: the normalised future, ``u(t + jΔt) = mean +
            std v_j``. ``"increment"``: the change since the last frame of the history in units of the standard
            deviation that increments over Δt have on the train split, ``u(t + jΔt) = u(t) + increment_std v_j``. A
            model then starts from persistence, and its target has unit variance however close in time frames are, as
            in Sanchez-Gonzalez et al. 2020, arXiv 2002.09405, sections 3 and 4.3 ("Normalization").
            ``"unscaled_increment"``: the same in units of the fields' own standard deviation, ``u(t + jΔt) = u(t) +
            std v_j``: a residual connection around the model on normalised fields.
        provenance: plain facts about how it was made: config, data checksum, versions, metrics.
    """

    is_static: Tensor

    def __init__(
        self,
        spec: DataSpec,
        normaliser: Normaliser,
        model: nn.Module,
        *,
        history: int,
        horizon: int,
        predict: str = "state",
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if normaliser.mean.shape != (spec.num_channels,):
            raise ValueError(
                f"the normaliser has {normaliser.mean.numel()} channels and the data "
                f"{spec.num_channels} ({', '.join(spec.channel_names)}); they must agree."
            )
        if history < 1 or horizon < 1:
            raise ValueError(f"history is {history} and horizon {horizon}; both must be at least 1.")
        if predict not in get_args(Predict):
            raise ValueError(
                f"predict is {predict!r}.{did_you_mean(str(predict), get_args(Predict))} "
                f"Allowed: {', '.join(get_args(Predict))}."
            )
        self.spec = spec
        self.normaliser = normaliser
        self.model = model
        self.history = history
        self.horizon = horizon
        self.predicts = predict
        self.provenance = provenance or {}
        self._has_static = any(spec.static_channels)
        is_static = torch.tensor(spec.static_channels).view(-1, *[1] * spec.ndim)
        self.register_buffer("is_static", is_static, persistent=False)

    @classmethod
    def load(cls, path: str | Path, map_location: torch.device | str = "cpu") -> Surrogate:
        """Load a surrogate from its artifact file; nothing in the file is executed.

        Raises:
            ValueError: if the file is not an artifact, is damaged, or carries code.
            FileNotFoundError: if there is no such file; near names are listed.
        """
        from .deploy.artifact import load_artifact

        return load_artifact(path, map_location)

    def save(self, path: str | Path) -> Path:
        """Write the artifact file and return its path."""
        from .deploy.artifact import save_artifact

        return save_artifact(self, path)

    @property
    def num_parameters(self) -> int:
        """Number of trainable real degrees of freedom; a complex weight counts twice."""
        return num_real_parameters(self.model)

    def check_input(self, history: Tensor, parameters: Tensor) -> None:
        """Check a window against the specification before anything heavy runs.

        Raises:
            ValueError: naming the axis that does not fit, both sizes, and what to do.
        """
        spec = self.spec
        if history.ndim != 3 + spec.ndim or history.shape[1:3] != (self.history, spec.num_channels):
            raise ValueError(
                f"history has shape {tuple(history.shape)}; this surrogate needs (batch, {self.history} "
                f"frames, {spec.num_channels} channels ({', '.join(spec.channel_names)}), "
                f"{', '.join(spec.axis_names)})."
            )
        if parameters.shape != (history.shape[0], spec.num_parameters):
            raise ValueError(
                f"parameters have shape {tuple(parameters.shape)}; this surrogate needs "
                f"({history.shape[0]}, {spec.num_parameters}): {spec.parameter_names or 'none'}."
            )
        self.check_grid(tuple(history.shape[3:]))

    def check_grid(self, grid: tuple[int, ...]) -> None:
        """Raise ValueError if the model cannot work on this grid; the model says why."""
        require_grid(self.model, grid)

    def step(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, physical units in and out; static fields are those of the last frame."""
        return self.in_physical_units(self.model(*self.normalised(history, parameters)), history)

    forward = step

    def normalised(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> tuple[Tensor, Tensor]:
        """Return what the model is given."""
        return self.normaliser.normalise(history), self.normaliser.normalise_parameters(parameters)

    def in_physical_units(
        self,
        output: Float[Tensor, "batch horizon channel *space"],
        history: Float[Tensor, "batch history channel *space"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the frames that a model's output for a history, in physical units, stands for."""
        last = history[:, -1:]
        if self.predicts == "state":
            future = self.normaliser.denormalise(output)
        else:
            future = self.normaliser.advance(last, output, scaled=self.predicts == "increment")
        return torch.where(self.is_static, last, future) if self._has_static else future

    @property
    def output_unit(self) -> Float[Tensor, " channel"]:
        """What one unit of the model's output is in physical units."""
        return self.normaliser.increment_std if self.predicts == "increment" else self.normaliser.std

    def wanted_output(
        self,
        history: Float[Tensor, "batch history channel *space"],
        future: Float[Tensor, "batch time channel *space"],
    ) -> Float[Tensor, "batch time channel *space"]:
        """Return the output of the model at which `step` is exact: the normalised state, or increment."""
        if self.predicts == "state":
            return self.normaliser.normalise(future)
        return self.normaliser.increments(history[:, -1:], future, scaled=self.predicts == "increment")

    def nearest(
        self,
        history: Float[Tensor, "batch history channel *space"],
        future: Float[Tensor, "batch time channel *space"],
    ) -> Float[Tensor, "batch time channel *space"] | None:
        """Return the frames nearest to ``future`` that the model can predict; None if it knows no such bound.

        The error of these frames is the least that any weights can reach: for a model on some waves its truncation
        floor. Such a model has a method ``nearest`` of its own, from normalised frames to normalised frames.
        """
        project = getattr(self.model, "nearest", None)
        if project is None:
            return None
        return self.in_physical_units(project(self.wanted_output(history, future)), history)

    def next_history(
        self,
        history: Float[Tensor, "batch history channel *space"],
        future: Float[Tensor, "batch time channel *space"],
    ) -> Float[Tensor, "batch history channel *space"]:
        """Return what the next step is given when frames are fed back: the last ``history`` of all."""
        return torch.cat([history, future], dim=1)[:, -self.history :]

    def rollout(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield ``steps`` frames, one at a time, by feeding predictions back; memory of one step.

        Raises:
            ValueError: at the call, if the input does not fit the specification or the model.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}; a rollout has at least 1.")
        self.check_input(history, parameters)
        return self._frames(history, parameters, steps)

    def members(self) -> dict[str, Surrogate]:
        """Return forecasts whose scatter says how uncertain this one is, by name; none of a model that is alone.

        They are those of a boosted model after each stage, and the members of an ensemble. They share its weights.
        """
        found: dict[str, nn.Module] = getattr(self.model, "members", dict)()
        return {
            name: Surrogate(
                self.spec,
                self.normaliser,
                model,
                history=self.history,
                horizon=self.horizon,
                predict=self.predicts,
            ).to(self.is_static.device)
            for name, model in found.items()
        }

    def rollout_with_spread(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[tuple[Float[Tensor, "batch channel *space"], Float[Tensor, "batch channel *space"]]]:
        """Yield the frames of `rollout`, each with the standard deviation over the rollouts of all members.

        Raises:
            ValueError: at the call, if the model has fewer than two members, or as `rollout`.
        """
        members = list(self.members().values())
        if len(members) < 2:
            raise ValueError(
                f"a spread needs at least two members and this model has {len(members)}. Train an ensemble of seeds "
                "(model=ensemble) or a boosted model (model=specboost)."
            )
        rollouts = [member.rollout(history, parameters, steps) for member in members]
        frames = self.rollout(history, parameters, steps)
        return (
            (frame, torch.stack(others).std(0))
            for frame, others in zip(frames, zip(*rollouts, strict=True), strict=True)
        )

    def predict(
        self,
        dataset: Any,
        steps: int,
        *,
        parameters: Mapping[str, float] | None = None,
        batch_size: int = 16,
        output: str | Path | None = None,
    ) -> Any:
        """Forecast labelled data: ``xarray.Dataset`` in, ``xarray.Dataset`` out, in physical units.

        The forecast starts from the last frame along ``time``. Dimensions besides time and space, such as
        ``trajectory`` or ``member``, are independent forecasts. The result has the dimensions ``(.., lead_time,
        *space)``, the coordinates and attributes that came in, the times forecast, static fields and PDE parameters.
        Any grid that the model takes will do. Nothing is converted or interpolated in silence: what does not fit is
        refused.

        Args:
            dataset: one variable a channel, in the units of ``spec``, with the dimensions ``spec.axis_names`` in any
                order; with frames along ``time`` where more than one is needed. PDE parameters are variables without
                time and space.
            steps: frames to forecast.
            parameters: values of PDE parameters that the dataset lacks.
            batch_size: forecasts that are made together; changes memory and speed, not the numbers.
            output: netCDF file that the forecast is written to as it is made; it appears when it is complete, and
                is returned opened. Neither needs more memory than a step. Without a file, the result is in memory, or,
                for a dataset backed by dask, computed when it is used, in chunks of one step.

        Raises:
            TypeError, ValueError: if the dataset does not fit; the sentence says what it has and what is needed.
            OSError: if the file cannot be written.
        """
        from .deploy.prediction import predict

        return predict(self, dataset, steps, parameters=parameters, batch_size=batch_size, output=output)

    def _frames(self, window: Tensor, parameters: Tensor, steps: int) -> Iterator[Tensor]:
        produced = 0
        while True:
            with torch.no_grad():  # around the step alone: the caller's gradient mode is the caller's
                future = self.step(window, parameters)
            for frame in future.unbind(dim=1):
                yield frame
                produced += 1
                if produced == steps:
                    return
            window = self.next_history(window, future)
