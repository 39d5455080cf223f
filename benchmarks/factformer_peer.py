"""The authors' FactFormer, from a folder with their code, with our weights.

As released (github.com/BaratiLab/FactFormer, March 2024) it stops at the first residual: the normalisation of heads
returns points in a row instead of on the grid. Its output gets the grid's shape back here, which is all that is
changed; positions are given to it and are those of ours. Its imports need einops, h5py, matplotlib, psutil, PyYAML and
tqdm.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .options import OptionError

EXAMPLE = Path("examples/turb_ns2d_fact_lm.py")


class AuthorsFactFormer(nn.Module):
    """Their two-dimensional model with latent marching, on channels-first fields.

    Args:
        folder: with their code.
        history: input frames.
        horizon: output frames.
        length: side of the box.
        options: of our model; those that theirs has.

    Raises:
        OptionError: if their code is not in the folder, or cannot be imported.
    """

    def __init__(
        self, folder: str, history: int, horizon: int, length: float, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        config = Namespace(
            in_dim=1,
            out_dim=1,
            in_time_window=history,
            out_time_window=horizon,
            max_latent_steps=horizon,
            dim=options["width"],
            dim_head=options["head_dim"],
            depth=options["depth"],
            heads=options["heads"],
            kernel_multiplier=options["kernel_multiplier"],
            latent_multiplier=options["latent_multiplier"],
            pos_in_dim=2,
            pos_out_dim=2,
            positional_embedding="rotary",
        )
        example = _import(Path(folder))
        self.model = example.FactFormer2D(config)
        for block in (layer[1] for layer in self.model.encoder.layers):
            block.to_out[0] = _OnTheGrid(block.to_out[0])
        self.horizon, self.length = horizon, length

    def forward(self, u: Tensor) -> Tensor:
        """Return the future of ``(batch, history, y, x)``."""
        places = [self.length * torch.arange(n, device=u.device).unsqueeze(-1) / n for n in u.shape[-2:]]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.meshgrid.*")
            future: Tensor = self.model(u.movedim(1, -1), places, self.horizon)
        return future.squeeze(-1)


class _OnTheGrid(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return what the norm does, in the shape of its input."""
        rows: Tensor = self.norm(x)
        return rows.view(x.shape)


def to_authors(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Return our weights under their names; what they have beside is no weight."""
    theirs = {"to_in.weight": state["lift.weight"], "to_in.bias": state["lift.bias"]}
    for i in range(depth):
        ours, layer = f"blocks.{i}.", f"encoder.layers.{i}."
        theirs[f"{layer}0.0._B"] = state["directions"][i]
        for name in ("weight", "bias"):
            theirs[f"{layer}0.1.{name}"] = state[f"positions.{i}.{name}"]
            theirs[f"{layer}1.in_norm.{name}"] = state[f"{ours}layer_norm.{name}"]
        for their, own in {"to_v": "values", "to_in": "inner", "to_out.1": "join", "to_out.3": "mix"}.items():
            theirs[f"{layer}1.{their}.weight"] = state[f"{ours}{own}.weight"]
        for axis, (place, letter) in enumerate({"to_x.0": "x", "to_y.1": "y"}.items()):
            kernel, pool = f"{ours}kernels.{axis}.", f"{layer}1.{place}."
            theirs[f"{pool}to_in.weight"] = state[f"{kernel}project.weight"]
            for name in ("weight", "bias"):
                theirs[f"{pool}out_ffn.norm.{name}"] = state[f"{kernel}layer_norm.{name}"]
                theirs[f"{pool}out_ffn.fn.net.0.{name}"] = state[f"{kernel}gate.{name}"]
                theirs[f"{pool}out_ffn.fn.net.3.{name}"] = state[f"{kernel}mix.{name}"]
            for their, own in {"to_q": "query", "to_k": "key"}.items():
                theirs[f"{layer}1.low_rank_kernel_{letter}.{their}.weight"] = state[f"{kernel}{own}.weight"]
    theirs["expand_latent.weight"] = state["march.expand.weight"]
    theirs["latent_time_emb"] = state["march.times"][None, :, None, None]
    for name in ("weight", "bias"):
        theirs[f"propagator.norm.{name}"] = state[f"march.layer_norm.{name}"]
        theirs[f"propagator.fn.net.0.{name}"] = state[f"march.mlp.0.{name}"]
        theirs[f"propagator.fn.net.3.{name}"] = state[f"march.mlp.2.{name}"]
    theirs["simple_to_out.1.weight"] = state["decode.scale"]
    theirs["simple_to_out.1.bias"] = state["decode.shift"]
    theirs["simple_to_out.2.weight"] = state["decode.within"].transpose(1, 2).flatten(0, 1).unsqueeze(-1)
    theirs["simple_to_out.4.weight"] = state["decode.hidden.weight"].unsqueeze(-1)
    theirs["simple_to_out.6.weight"] = state["decode.out.weight"].unsqueeze(-1)
    theirs["simple_to_out.6.bias"] = state["decode.out.bias"]
    return theirs


def load(peer: AuthorsFactFormer, ours: nn.Module) -> None:
    """Give the authors' model our weights.

    Raises:
        OptionError: if it has a weight that ours has not.
    """
    weights = to_authors(ours.state_dict(), len(peer.model.encoder.layers))
    missing, unexpected = peer.model.load_state_dict(weights, strict=False)
    lacking = [name for name in missing if not name.endswith("inv_freq")]
    if lacking or unexpected:
        raise OptionError(
            f"the authors' model has other weights than ours: {', '.join([*lacking, *unexpected][:3])}."
        )


def gradients(peer: AuthorsFactFormer, ours: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the gradients of common weights by the authors' names, theirs and ours."""
    own = {name: value.grad for name, value in ours.named_parameters()}
    mapped = to_authors({**ours.state_dict(), **own}, len(peer.model.encoder.layers))
    trained = {name: p.grad for name, p in peer.model.named_parameters() if p.requires_grad}
    return {name: (grad, mapped[name]) for name, grad in trained.items() if grad is not None}


def _import(folder: Path) -> types.ModuleType:
    path = folder / EXAMPLE
    if not path.is_file():
        raise OptionError(
            f"factformer={folder}: there is no {EXAMPLE}; give the folder of the authors' code, "
            "a clone of github.com/BaratiLab/FactFormer."
        )
    spec = importlib.util.spec_from_file_location("authors_factformer", path)
    if spec is None or spec.loader is None:
        raise OptionError(f"factformer={folder}: {EXAMPLE} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    with _first_on_path(folder):
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            raise OptionError(f"factformer={folder}: {EXAMPLE} cannot be imported: {error}.") from error
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Import from a folder; modules of its names that were there before come back."""
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in list(sys.modules):
            if name.partition(".")[0] in names:
                del sys.modules[name]
        sys.modules.update(hidden)
