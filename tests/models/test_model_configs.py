"""The yaml files of the model group: complete, commented, and equal to the constructors' defaults."""

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pdesurrogate.models import MODELS

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


def options_of(kind):
    parameters = inspect.signature(MODELS.get(kind)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def content_of(file):
    content = OmegaConf.to_container(OmegaConf.load(file))
    return content.pop("kind"), content


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_lists_exactly_the_options_of_its_model(file):
    kind, content = content_of(file)
    assert content.keys() == options_of(kind).keys()


@pytest.mark.parametrize("kind", MODELS.names())
def test_the_file_named_like_the_model_holds_the_constructors_defaults(kind):
    (file,) = [file for file in FILES if file.stem == kind]
    found, content = content_of(file)
    assert found == kind
    defaults = {key: list(v) if isinstance(v, tuple) else v for key, v in options_of(kind).items()}
    assert content == defaults


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_key_has_a_comment(file):
    for line in file.read_text().splitlines():
        assert "#" in line, line


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_model_builds_from_its_file(file, plane, sphere):
    kind, content = content_of(file)
    is_planar = "plane" in getattr(MODELS.get(kind), "geometries", {"plane"})
    model = MODELS.build(kind, (plane if is_planar else sphere).spec, 2, 8, **content)
    model.check_grid((64, 64) if is_planar else (32, 64))
