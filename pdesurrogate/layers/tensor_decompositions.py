"""From a dense tensor to its factors: how trained dense weights become low-rank ones.

The truncated higher-order singular value decomposition (De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl.
21, 2000, here one axis after the other as by Vannieuwenhoven et al., SIAM J. Sci. Comput. 34, 2012) and the TT-SVD
(Oseledets, SIAM J. Sci. Comput. 33, 2011, algorithm 1). Both are exact at full ranks, and otherwise their error is at
most ``√N`` times, ``√(N-1)`` for the train, that of the best tensor of these ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def decompose(
    factorisation: str, tensor: Float[Tensor, "*sizes 2"], ranks: Sequence[int]
) -> list[Float[Tensor, "..."]]:
    """Return factors of a tensor in the order and shapes of `pdesurrogate.layers.tensor_factorisations`.

    Raises:
        ValueError: for a form that no finite algorithm finds.
    """
    if factorisation not in _DECOMPOSITIONS:
        raise ValueError(
            f"there is no direct decomposition of the form {factorisation!r}: its best factors need not exist. "
            f"Allowed: {', '.join(_DECOMPOSITIONS)}."
        )
    factors = _DECOMPOSITIONS[factorisation](torch.view_as_complex(tensor.contiguous()), ranks)
    return [torch.view_as_real(factor.resolve_conj().contiguous()) for factor in factors]


def _hosvd(tensor: Complex[Tensor, "*sizes"], ranks: Sequence[int]) -> list[Tensor]:
    core, factors = tensor, []
    for axis, rank in enumerate(ranks):
        unfolded = core.movedim(axis, 0).flatten(1)
        factor = torch.linalg.svd(unfolded, full_matrices=False)[0][:, :rank]
        core = torch.tensordot(factor.conj(), core, ([0], [axis])).movedim(0, axis)
        factors.append(factor)
    return [core, *factors]


def _tt_svd(tensor: Complex[Tensor, "*sizes"], ranks: Sequence[int]) -> list[Tensor]:
    cores, rest, before = [], tensor, 1
    for size, rank in zip(tensor.shape, ranks, strict=False):
        left, values, right = torch.linalg.svd(rest.reshape(before * size, -1), full_matrices=False)
        cores.append(left[:, :rank].unflatten(0, (before, size)))
        rest, before = values[:rank, None] * right[:rank], rank
    return [*cores, rest.reshape(before, -1, 1)]


_DECOMPOSITIONS = {"tucker": _hosvd, "tt": _tt_svd}
