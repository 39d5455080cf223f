"""Weights that are computed once for every change of their parameters, whoever changes them."""

import pytest
import torch

from pdesurrogate.layers.derived_weights import DerivedWeight


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
def test_what_is_kept_is_never_older_than_the_step_of_any_optimiser(options):
    """A fused step leaves the version that torch counts for a tensor where it was."""
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    derived = DerivedWeight(lambda p: p.repeat(2, 1))
    optimiser = torch.optim.AdamW([parameter], lr=0.1, **options)
    for step in range(3):
        derived(parameter).sum().backward()
        optimiser.step()
        with torch.no_grad():
            kept = derived(parameter)
            assert torch.equal(kept, parameter.repeat(2, 1))
            assert derived(parameter) is kept
        assert derived.num_built == 2 * (step + 1)
