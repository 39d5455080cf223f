"""Two architectures of the same size: the number that is found is the best one there is."""

import pytest
import torch

from pdesurrogate.models import MODELS
from pdesurrogate.models.matching import match_parameters, num_real_parameters
from pdesurrogate.surrogate import Surrogate


def size(kind, case, **options):
    return num_real_parameters(MODELS.build(kind, case.spec, case.history, case.horizon, **options))


def test_a_complex_parameter_counts_as_two_real_numbers():
    module = torch.nn.Module()
    module.real = torch.nn.Parameter(torch.zeros(3, 2))
    module.complex = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    assert num_real_parameters(module) == 12


def test_the_width_of_a_model_is_found_again_from_its_size(plane):
    options = {"depth": 2, "num_modes": 6}
    target = size("fno", plane, width=13, **options)
    found = match_parameters("fno", plane.spec, plane.history, plane.horizon, options, target)
    assert (found.value, found.parameters, found.ratio) == (13, target, 1.0)


@pytest.mark.parametrize("target", [1, 5_000, 20_000, 77_777])
def test_no_other_width_comes_nearer_to_another_models_size(plane, target):
    options = {"depth": 2, "num_modes": 6, "width": 999}
    found = match_parameters("fno", plane.spec, plane.history, plane.horizon, options, target)
    assert found.parameters == size("fno", plane, **{**options, "width": found.value})
    for width in range(max(1, found.value - 3), found.value + 4):
        other = size("fno", plane, **{**options, "width": width})
        assert abs(found.parameters - target) <= abs(other - target)


def test_a_multiple_is_kept_to_and_any_counting_option_may_be_matched_by(plane):
    target = size("unet", plane, width=21, multipliers=[1, 2], num_blocks=1)
    options = {"multipliers": [1, 2], "num_blocks": 1}
    found = match_parameters("unet", plane.spec, plane.history, plane.horizon, options, target, multiple_of=8)
    assert found.value == 24
    deep = match_parameters(
        "fno", plane.spec, plane.history, plane.horizon, {"width": 4, "num_modes": 4}, 10_000, "depth"
    )
    assert abs(deep.ratio - 1) < 0.2


def test_matching_leaves_the_random_numbers_alone(plane):
    state = torch.get_rng_state()
    match_parameters("fno", plane.spec, plane.history, plane.horizon, {"num_modes": 4}, 3_000)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 0}, "target is 0; it must be at least 1"),
        ({"multiple_of": 0}, "multiple_of is 0"),
        ({"option": "groups", "kind": "unet", "options": {"width": 8}}, "they do not grow with it"),
        ({"option": "widht"}, "has no option 'widht'. Did you mean 'width'"),
        ({"kind": "fnoo"}, "Unknown model 'fnoo'"),
    ],
)
def test_what_cannot_be_matched_is_refused_in_a_sentence(plane, changes, message):
    given = {"kind": "fno", "options": {}, "target": 10**7, **changes}
    kind, options, target = (given.pop(key) for key in ("kind", "options", "target"))
    with pytest.raises(ValueError, match=message):
        match_parameters(kind, plane.spec, plane.history, plane.horizon, options, target, **given)


def test_a_surrogate_counts_its_parameters_in_the_same_way(plane):
    from pdesurrogate.fields import ChannelStatistics, Normaliser

    model = MODELS.build("fno", plane.spec, 1, 1, width=4, num_modes=4)
    statistics = ChannelStatistics.of(torch.randn(8, 1, 64))
    normaliser = Normaliser.fit(statistics, torch.zeros(1, 0), statistics)
    surrogate = Surrogate(plane.spec, normaliser, model, history=1, horizon=1)
    assert surrogate.num_parameters == num_real_parameters(model)
