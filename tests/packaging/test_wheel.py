"""What `pip install` users get: the package, its configuration files and the console command."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
        repository,
    ]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_carries_every_configuration_file_and_no_other(wheel, repository):
    inside = {name.removeprefix("pdesurrogate/conf/") for name in wheel.namelist() if "/conf/" in name}
    tree = {p.relative_to(repository / "conf").as_posix() for p in (repository / "conf").rglob("*.yaml")}
    assert {"train.yaml", "evaluate.yaml", "generate.yaml"} <= tree
    assert inside == tree


def test_the_configuration_in_the_wheel_is_that_of_the_checkout(wheel, repository):
    for name in wheel.namelist():
        if name.startswith("pdesurrogate/conf/"):
            path = repository / name.removeprefix("pdesurrogate/")
            assert wheel.read(name) == path.read_bytes()


def test_the_wheel_carries_every_module_and_nothing_but_the_package_and_its_plugin(wheel, repository):
    packages = ("pdesurrogate", "hydra_plugins")
    modules = {
        p.relative_to(repository).as_posix() for name in packages for p in (repository / name).rglob("*.py")
    }
    assert modules == {name for name in wheel.namelist() if name.endswith(".py")}
    roots = {name.split("/")[0] for name in wheel.namelist()}
    assert {root for root in roots if not root.endswith(".dist-info")} == set(packages)


def test_the_console_command_is_declared(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    assert "pdesurrogate = pdesurrogate.cli:main" in wheel.read(name).decode()


def test_the_installed_wheel_finds_its_configuration(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = "import pdesurrogate.cli as c; print(c.conf_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "pdesurrogate" / "conf")


def test_every_required_package_is_pinned_in_the_constraints(repository):
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_the_constraints_name_no_index_and_no_build_of_one_machine(repository):
    text = (repository / "constraints.txt").read_text()
    assert "://" not in text
    assert "--" not in text
    assert "+cpu" not in text
