"""Any grid-to-grid model of the neuraloperator library, by its class name: peers in the same run.

The adapter derives channels from the data and passes all other options through. neuraloperator is imported
when a model is built, never before.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..fields.fourier import require_resolved
from ..layers import fold_inputs, unfold_frames
from ..registry import did_you_mean
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry

_DERIVED = ("in_channels", "out_channels")
_UNO_REQUIRED = ("uno_out_channels", "uno_n_modes", "uno_scalings")


@MODELS.register("neuralop")
class NeuralOp(nn.Module):
    """A peer: a neuraloperator model on frames and PDE parameters folded into channels.

    Peers compute in float32 (their spectral weights are complex64), also under autocast. They are wrong on
    odd grids (neuraloperator#731), which `check_grid` therefore refuses. Peers that concatenate coordinates
    by default do so here too.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        name: class in ``neuralop.models``, such as ``FNO``, ``TFNO``, ``UNO``.
        n_modes: kept modes per axis, counting both signs: one number, or one per axis. UNO's per-layer modes
            derive from it unless ``uno_n_modes`` is given.
        hidden_channels: the peer's width.
        **options: further arguments of the peer's constructor.

    Raises:
        ValueError: for an unknown name, a peer that does not map grids to grids, an unknown option, or one
            that derives from the data.
    """

    symmetries: frozenset[str] = frozenset()

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        name: str = "FNO",
        n_modes: int | Sequence[int] = 24,
        hidden_channels: int = 32,
        **options: Any,
    ) -> None:
        super().__init__()
        self.geometries = frozenset({"sphere" if name == "SFNO" else "plane"})
        require_geometry(f"neuralop {name}", spec, self.geometries)
        require_at_least("neuralop", 1, history=history, horizon=horizon, hidden_channels=hidden_channels)
        peer = _peer_class(name)
        modes = [n_modes] * spec.ndim if isinstance(n_modes, int) else list(n_modes)
        if len(modes) != spec.ndim or min(modes) < 1:
            raise ValueError(
                f"neuralop: n_modes is {modes}; give one positive number, or {spec.ndim} of them for the axes "
                f"{', '.join(spec.axis_names)}."
            )
        allowed = _parameters(peer)
        _check_options(name, allowed, options)
        if "n_modes" in allowed:
            options["n_modes"] = tuple(modes)
        if not set(_UNO_REQUIRED) & set(allowed) <= set(options):
            options = {**_uno_pyramid(options.get("n_layers", 4), hidden_channels, modes), **options}
        self.axis_names = spec.axis_names
        self.horizon = horizon
        self.num_modes = tuple(modes)
        self.factor = _coarsening(options.get("uno_scalings", []))
        self.grids = f"multiple of {self.factor}"
        options |= {
            "in_channels": history * spec.num_channels + spec.num_parameters,
            "out_channels": horizon * spec.num_channels,
            "hidden_channels": hidden_channels,
        }
        _require_options(name, allowed, options)
        with contextlib.redirect_stdout(io.StringIO()):  # UNO's constructor prints
            self.peer = peer(**options)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse grids with unresolved modes and sizes on which the peer's transforms are wrong.

        Raises:
            ValueError: naming the axis and what to change.
        """
        require_dimension("neuralop", self.axis_names, grid)
        require_resolved(self.num_modes, grid, self.axis_names)
        for axis, n in zip(self.axis_names, grid, strict=True):
            if n % self.factor:
                raise ValueError(
                    f"neuraloperator's transforms need a multiple of {self.factor} points on axis {axis!r} and the "
                    f"grid has {n}: they are wrong on odd sizes. Use another grid, or model=fno, which takes any."
                )

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: for float64, which the peers' complex64 weights cannot serve.
        """
        self.check_grid(history.shape[3:])
        if history.dtype == torch.float64:
            raise TypeError(
                "neuraloperator models compute in float32; give float32 fields, or use model=fno."
            )
        folded = fold_inputs(history, parameters).float()
        with torch.autocast(history.device.type, enabled=False):
            future = self.peer(folded)
        return unfold_frames(future, self.horizon).to(history.dtype)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return tensors only: the peer's constructor arguments, functions among them, are left out."""
        state = super().state_dict(*args, **kwargs)
        state.pop("_metadata", None)
        return state


def _peer_class(name: str) -> type[nn.Module]:
    with warnings.catch_warnings():
        # The import warns and changes the process's warning filters.
        warnings.simplefilter("ignore")
        models = importlib.import_module("neuralop.models")
    classes = {
        key: value
        for key, value in vars(models).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and {*_DERIVED, "hidden_channels"} <= set(_parameters(value))
    }
    if name not in classes:
        raise ValueError(
            f"neuralop has no grid-to-grid model {name!r}.{did_you_mean(name, classes)} "
            f"Available in this installation: {', '.join(sorted(classes))}."
        )
    return classes[name]


def _parameters(peer: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's named parameters; ``**kwargs`` stand for those of the next base class."""
    found: dict[str, inspect.Parameter] = {}
    for base in inspect.getmro(peer):
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        found = {**{p.name: p for p in named if p.name != "self"}, **found}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _check_options(name: str, allowed: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for option in options:
        if option in _DERIVED:
            raise ValueError(
                f"neuralop {name}: {option} derives from the data, the history and the horizon; remove it."
            )
        if option not in allowed:
            free = sorted(set(allowed) - set(_DERIVED))
            raise ValueError(
                f"neuralop {name} has no option {option!r}.{did_you_mean(option, free)} Its options: {', '.join(free)}."
            )


def _require_options(name: str, allowed: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> None:
    missing = [p.name for p in allowed.values() if p.default is p.empty and p.name not in options]
    if missing:
        raise ValueError(
            f"neuralop {name} also needs {', '.join(missing)}. Give them as +model.{missing[0]}=..."
        )


def _uno_pyramid(n_layers: int, width: int, modes: Sequence[int]) -> dict[str, Any]:
    """Return UNO's required per-layer settings: half the grid and twice the channels between both ends.

    Its default skip, a gate, cannot change the number of channels, so that the skip is linear here.
    """
    if n_layers < 4:
        raise ValueError(
            f"neuralop UNO: n_layers is {n_layers}; for fewer than 4 layers give uno_out_channels, uno_n_modes and "
            "uno_scalings yourself."
        )
    inner = n_layers - 2
    ones, half = [1.0] * len(modes), [max(1, m // 2) for m in modes]
    down, up = [0.5] * len(modes), [2.0] * len(modes)
    return {
        "n_layers": n_layers,
        "uno_out_channels": [width, *[2 * width] * inner, width],
        "uno_n_modes": [list(modes), *[half] * inner, list(modes)],
        "channel_mlp_skip": "linear",
        "uno_scalings": [ones, down, *[ones] * (inner - 2), up, ones],
    }


def _coarsening(scalings: Sequence[Sequence[float]]) -> int:
    """Return the factor that grid sizes must carry so that the coarsest grid inside is even."""
    scale = coarsest = 1.0
    for layer in scalings:
        scale *= min(layer)
        coarsest = min(coarsest, scale)
    return 2 * math.ceil(1 / coarsest)
