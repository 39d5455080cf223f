"""The README says what is so: its table is the recorded one, its commands exist, its Python runs."""

import json
import re

import pytest


@pytest.fixture
def readme(repository):
    return (repository / "README.md").read_text(encoding="utf-8")


def test_the_results_table_is_the_recorded_one(repository, readme, monkeypatch):
    monkeypatch.syspath_prepend(str(repository))
    from benchmarks.quickstart import RECORD, write_readme

    assert write_readme(readme, json.loads(RECORD.read_text(encoding="utf-8"))) == readme


def test_every_make_target_that_is_named_exists(repository, readme):
    makefile = (repository / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", readme)) - {"and"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_override_that_is_shown_composes(readme, monkeypatch):
    from hydra import compose, initialize_config_dir

    from pdesurrogate.cli import _register_resolvers, conf_dir

    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")
    _register_resolvers()
    shown = re.findall(r"python (?:data/)?(train|evaluate|generate)\.py ([^`\n]+)", readme)
    assert len(shown) > 6
    for command, text in shown:
        overrides = [o for o in text.split() if "=" in o and not o.startswith("--")]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            compose(command, overrides=[o.split(",")[0] if "[" not in o else o for o in overrides])


def test_the_pictures_and_pages_it_links_to_are_there(repository, readme):
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (repository / link).exists(), link


def run_python(readme, mark, **names):
    """Run the README's Python block that contains a mark."""
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    (example,) = [block for block in blocks if mark in block]
    exec(compile(example, "README.md", "exec"), names)
    return names


def test_the_store_example_writes_a_set_that_opens(readme, tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    splits = {s: rng.normal(size=(2, 50, 1, 128, 64)).astype(np.float32) for s in ("train", "valid", "test")}
    run_python(readme, "StoreWriter", splits=splits)
    from pdesurrogate.data.opening import open_data

    data = open_data({"kind": "store", "root": "mine", "batch_size": 4})
    assert data.spec.channel_names == ("temperature",)
    np.testing.assert_array_equal(data.trajectories("valid").frames(1, 0, 50), splits["valid"][1])


def test_the_rollout_example_runs(readme, tmp_path, monkeypatch):
    from pdesurrogate import Axis, DataSpec, Field, Normaliser, Parameter, Surrogate
    from pdesurrogate.models import MODELS

    spec = DataSpec(
        fields=(Field("vorticity"),),
        axes=(Axis("y", 1.0), Axis("x", 1.0)),
        dt=1.0,
        parameters=(Parameter("viscosity"),),
    )
    options = {"width": 4, "num_modes": 4, "depth": 1}
    model = MODELS.build("fno", spec, 1, 1, **options)
    provenance = {"config": {"model": {"kind": "fno", **options}}}
    normaliser = Normaliser([0.0], [1.0], [1e-3], [1e-4])
    surrogate = Surrogate(spec, normaliser, model, history=1, horizon=1, provenance=provenance)
    monkeypatch.chdir(tmp_path)
    surrogate.save(tmp_path / "runs" / "RUN_ID" / "artifact.pt")
    run_python(readme.replace("256, 256", "16, 16"), "Surrogate.load")


def test_the_solver_example_is_a_decaying_flow(readme):
    flow = run_python(readme, "pdesurrogate.solvers import solve")["flow"]
    assert flow.shape == (3, 1, 64, 64)
    energies = flow.square().mean((1, 2, 3))
    assert energies[0] > energies[1] > energies[2] > 0


def test_the_model_example_registers_and_its_options_are_checked(readme):
    from pdesurrogate.models import MODELS

    run_python(readme, "class Smooth", __name__="smooth")
    assert MODELS.get("smooth")
    with pytest.raises(ValueError, match="Did you mean 'strength'"):
        MODELS.build("smooth", None, 1, 1, strenght=0.1)
    MODELS._entries.pop("smooth")
