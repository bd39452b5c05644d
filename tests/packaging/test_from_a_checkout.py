"""The README's lines for a checkout install what they say: as written, with the real pip and uvx."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.shell_blocks import blocks
from tests.packaging.conftest import ROOT

pytestmark = pytest.mark.timeout(400)

PROGRAM = "import memx_sdk, memx_server, langchain_memx, autogen_memx; print(memx_sdk.__version__)"


def lines() -> list[str]:
    (block,) = [each for each in blocks(ROOT / "README.md") if "pip install . " in each.script]
    return [line.partition("  #")[0].rstrip() for line in block.script.splitlines()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A fresh environment on PATH, with the pip that comes with this Python, and uvx."""
    folder = tmp_path_factory.mktemp("checkout")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=100)
    uvx = folder / "bin"
    uvx.mkdir()
    for name in ("uv", "uvx"):
        (uvx / name).symlink_to(Path(sys.executable).with_name(name))
    settings = {
        "PATH": f"{folder / 'venv/bin'}:{uvx}:/usr/bin:/bin",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_NO_COMPILE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_PYTHON": sys.executable,
    }
    return {**os.environ, **settings}


def run(line: str, environ: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_pip_installs_everything_from_a_checkout(environment: dict[str, str]) -> None:
    server, *others = [line for line in lines() if line.startswith("pip ")]
    run(server, environment)
    assert run("memx --version", environment).startswith("memX ")
    assert "final, from" in run("memx demo", environment)
    # The frameworks themselves are in the environment that runs the tests; what is new here is our own.
    run("pip install hatchling hatch-fancy-pypi-readme", environment)
    for line in others:
        # 0 means: no environment of its own for the build, in which PIP_NO_DEPS would miss hatchling's parts.
        run(line, {**environment, "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"})
    frameworks = {**environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert run(f'python -c "{PROGRAM}"', frameworks).strip()


def test_uvx_starts_the_mcp_server_from_a_checkout(environment: dict[str, str]) -> None:
    (line,) = [line for line in lines() if line.startswith("uvx ")]
    assert "usage: memx-mcp" in run(line, environment)
