"""``--help`` and a typing mistake answer at once, because nothing heavy is imported for them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "neuralop", "wandb", "matplotlib", "xarray", "h5py", "scipy")


def loaded_after(statement, repository):
    code = f"import sys\n{statement}\nprint(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["pdesurrogate", "pdesurrogate.cli", "pdesurrogate.registry"])
def test_importing_the_front_of_the_package_loads_nothing_heavy(module, repository):
    assert loaded_after(f"import {module}", repository) == ""


def test_public_names_load_on_first_use(repository):
    assert "torch" in loaded_after("import pdesurrogate; pdesurrogate.DataSpec", repository)


def test_every_public_name_can_be_imported():
    import pdesurrogate

    for name in pdesurrogate.__all__:
        assert getattr(pdesurrogate, name) is not None


def test_an_unknown_public_name_is_an_attribute_error():
    import pdesurrogate

    with pytest.raises(AttributeError, match="has no attribute 'Surogate'"):
        _ = pdesurrogate.Surogate


def test_neural_network_libraries_that_are_optional_company_load_late(repository):
    """The rooms that a user of the library imports do not bring peers, loggers and figures with them."""
    statement = "import pdesurrogate; pdesurrogate.Surrogate; pdesurrogate.DataSpec"
    loaded = loaded_after(statement, repository).split(",")
    assert not {"neuralop", "wandb", "matplotlib"} & set(loaded)


@pytest.mark.parametrize(
    ("script", "mistake"),
    [("train.py", "model=fnoo"), ("evaluate.py", "horizn=20"), ("data/generate.py", "data=navier_stoke")],
)
def test_help_and_a_typing_mistake_answer_in_under_two_seconds(script, mistake, repository):
    for argument in ("--help", mistake):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, script, argument],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time rather than the clock on the wall, which others on the machine slow down.
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert seconds < 2.0
        assert "Traceback" not in done.stderr
        if argument == "--help":
            assert done.returncode == 0, done.stderr
            assert "==" in done.stdout
        else:
            assert done.returncode != 0
            assert mistake.split("=")[0] in done.stderr
