"""The workflows: nothing of them can run here, so they are linted and compared with what they repeat."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.conftest import FOLDERS, ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("actionlint")
    if not linter.exists():
        pytest.skip("actionlint is not installed here: make test installs it, but for Windows")
    done = subprocess.run(
        [linter, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_release_publishes_every_distribution_after_those_that_it_requires() -> None:
    jobs = read("release.yml")["jobs"]
    order = [name.replace("_", "-") for name in jobs["publish"]["strategy"]["matrix"]["name"]]
    assert jobs["publish"]["strategy"]["max-parallel"] == 1
    assert sorted(order) == sorted(FOLDERS)
    for position, name in enumerate(order):
        text = (FOLDERS[name] / "pyproject.toml").read_text(encoding="utf-8")
        required = " ".join(tomllib.loads(text)["project"]["dependencies"])
        assert not [later for later in order[position:] if f"{later}==" in required]
        assert not [later for later in order[position:] if f"{later}[" in required]


def test_a_release_holds_no_secret_and_asks_for_a_reviewer() -> None:
    for path in WORKFLOWS:
        assert "secrets." not in path.read_text(encoding="utf-8")
    publish = read("release.yml")["jobs"]["publish"]
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == ["tests", "build"]


def test_the_tests_run_on_every_python_that_project_toml_names() -> None:
    project = tomllib.loads((ROOT / "project.toml").read_text(encoding="utf-8"))
    jobs = read("ci.yml")["jobs"]
    assert jobs["everything"]["strategy"]["matrix"]["python"] == project["python"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_make_target_of_a_workflow_exists(path: Path) -> None:
    steps = [step for job in read(path.name)["jobs"].values() for step in job.get("steps", ())]
    runs = "\n".join(step.get("run", "") for step in steps).split()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word, target in itertools.pairwise(runs):
        if word == "make":
            assert f"\n{target}:" in makefile
